"""Make the bundled demo recording with espeak-ng: `python -m tools.demo -o realtime_ser/data/demo.flac`.

Synthetic speech in several voices and speaking styles, with pauses and background noise. It shows the program at
work; how well emotions are told apart is measured on people (`tools/evaluate.py`).
"""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr
import typer
from numpy.typing import NDArray

RATE_HZ = 22_050
NOISE_DBFS = -58.0
FAN_DBFS = -45.0


@dataclass(frozen=True)
class Line:
    """A sentence and how it is spoken: espeak-ng's voice and pitch (0 to 99), range of pitch in percent of its usual,
    words a minute, level, and the pause after it."""

    voice: str
    pitch: int
    range_percent: int
    words_per_minute: int
    level_dbfs: float
    pause_s: float
    text: str


LINES = (
    Line("en-us", 42, 90, 150, -26, 1.2, "Good morning. This is the weekly report, with nothing unusual in it."),
    Line("en-gb+f2", 55, 90, 155, -26, 1.4, "The train leaves at ten past nine from platform four, as every day."),
    Line("en-us+f3", 82, 220, 195, -20, 1.0, "Oh, that is wonderful! I can hardly believe it, we really did it!"),
    Line("en-gb+m3", 68, 200, 190, -20, 1.6, "What a lovely surprise! Come in, come in, everybody is already here!"),
    Line("en-us+m2", 18, 25, 105, -34, 1.8, "I do not know what to say. The house is so quiet now that she is gone."),
    Line("en-gb+f4", 32, 25, 100, -34, 2.2, "It rained all week. I just stayed in my room, and nobody called."),
    Line("en-us+m7", 40, 180, 215, -17, 1.0, "No! I told you a hundred times! Get your things and get out, right now!"),
    Line("en-gb+f1", 60, 180, 220, -17, 1.5, "This is the last straw! Who gave you the right to read my letters?"),
    Line("en-us+whisper", 60, 80, 190, -30, 1.2, "Be quiet, please. I think there is somebody behind the door."),
    Line("en-gb+f5", 92, 140, 225, -22, 1.8, "Please hurry, please! I can hear it coming closer, I am so afraid!"),
    Line("en-us+m1", 40, 90, 150, -26, 1.0, "Thank you for your call. The next appointment is on Thursday afternoon."),
)  # fmt: skip
FAN = slice(4, 6)
"""During these lines a fan runs."""


def speak(line: Line) -> NDArray[np.float64]:
    """The line at `RATE_HZ` and its level, shape (n,)."""
    text = f'<prosody range="{line.range_percent}%">{line.text}</prosody>'
    command = ["espeak-ng", "-v", line.voice, "-p", str(line.pitch), "-s", str(line.words_per_minute)]
    command += ["-m", "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate_hz = soundfile.read(io.BytesIO(wav))
    samples = soxr.resample(samples, rate_hz, RATE_HZ)
    return samples * 10 ** (line.level_dbfs / 20) / np.sqrt(np.mean(samples**2))


def pink_noise(n: int, level_dbfs: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise of equal power per octave, shape (n,)."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), n)
    return noise * 10 ** (level_dbfs / 20) / np.sqrt(np.mean(noise**2))


def record() -> NDArray[np.float64]:
    """The whole recording at `RATE_HZ`, shape (n,)."""
    pieces, edges = [np.zeros(RATE_HZ)], [RATE_HZ]
    for line in LINES:
        pieces += [speak(line), np.zeros(round(line.pause_s * RATE_HZ))]
        edges.append(edges[-1] + len(pieces[-2]) + len(pieces[-1]))
    speech = np.concatenate(pieces)
    rng = np.random.default_rng(0)
    noise = pink_noise(len(speech), NOISE_DBFS, rng)
    start, end = edges[FAN.start], edges[FAN.stop]
    fan = pink_noise(end - start, FAN_DBFS, rng)
    fade = np.minimum(1, np.minimum(np.arange(len(fan)), np.arange(len(fan))[::-1]) / RATE_HZ)
    noise[start:end] += fan * fade
    return np.clip(speech + noise, -1, 1)


def main(output: Annotated[Path, typer.Option("-o", help="Where the recording goes.")]) -> None:
    """Speak, mix and write."""
    if shutil.which("espeak-ng") is None:
        raise typer.BadParameter("espeak-ng is not installed (Debian and Ubuntu: apt install espeak-ng)")
    output.parent.mkdir(parents=True, exist_ok=True)
    samples = record()
    soundfile.write(output, samples, RATE_HZ, "PCM_16")
    print(f"{output}: {len(samples) / RATE_HZ:.1f} s, {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
