"""Measure the speech gate on speech at several SNRs and on noise alone: `docs/evaluation/gate.md`.

`python -m tools.gate --corpora DIR -o docs/evaluation`

Speech is CREMA-D's validation speakers, eight clips of one speaker in a row with 1.5 s between them, each clip at the
same level. What is speech is read off the clean clips: 20 ms frames within 30 dB of the clip's loudest and 8 dB above
its quietest twentieth, with holes shorter than 0.2 s filled. Lost is what lies outside the gate's segments; false, what
it takes for speech in between. Noise is what ESC-10 cuts from recordings of which neither the gate's network nor the
choice of its thresholds has used any part, each clip of 5 s repeated to 20 s; typing and fans are synthetic, and made
alike for training, coughs synthetic too, but no training has heard any. Steady noise: rain, waves, fans, white.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby, repeat
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.signal import lfilter

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.clean import Cleaner
from realtime_ser.stages.gate import FRAME_SAMPLES, SpeechClosed, SpeechGate, SpeechOpened, level_dbfs
from tools import degrade
from tools.corpora import load
from tools.degrade import Samples
from tools.prepare import noise_paths, read_mono
from tools.splits import SPLITS, crema_d_validation

PAUSE_S = 1.5
CLIPS_A_STREAM = 8
STREAMS = 36
SPEECH_DBFS = -26.0
QUIET_ROOM_DBFS = -70.0
BELOW_PEAK_DB = 30.0
ABOVE_QUIET_DB = 8.0
HOLE_FRAMES = 10
NOISE_S = 20
SNRS_DB = (20, 10, 0)


@dataclass(frozen=True)
class Stream:
    """Clean speech with pauses, and which of its 20 ms frames are speech."""

    samples: Samples
    speech: NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What the gate made of a stream: counts of 20 ms frames, and the milliseconds cut off each onset."""

    speech: int
    lost: int
    false: int
    frames: int
    onset_cut_ms: tuple[float, ...]


def is_speech(clip: Samples) -> NDArray[np.bool_]:
    """Which 20 ms frames of a clean clip are speech, shape (frames,)."""
    levels = level_dbfs(clip[: len(clip) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES))
    loud = levels > max(levels.max() - BELOW_PEAK_DB, np.percentile(levels, 5) + ABOVE_QUIET_DB)
    start = 0
    for value, run in groupby(loud.tolist()):
        n = len(list(run))
        if not value and start and start + n < len(loud) and n < HOLE_FRAMES:
            loud[start : start + n] = True
        start += n
    return loud


def speech_streams(corpora: Path, splits: Path) -> list[Stream]:
    """Of the validation speakers, the clips in an order drawn once."""
    validation = crema_d_validation(splits)
    rng = np.random.default_rng(0)
    by_speaker: dict[str, list[Path]] = {}
    for clip in load(corpora, splits, ["CREMA-D"]):
        if clip.speaker in validation:
            by_speaker.setdefault(clip.speaker, []).append(clip.path)
    streams = []
    for paths in by_speaker.values():
        order = rng.permutation(len(paths))
        for k in range(STREAMS // len(by_speaker)):
            clips = [read_mono(paths[i]) for i in order[k * CLIPS_A_STREAM : (k + 1) * CLIPS_A_STREAM]]
            streams.append(joined([at_level(clip) for clip in clips], PAUSE_S))
    return streams


def at_level(clip: Samples) -> Samples:
    """The clip with its speech at `SPEECH_DBFS`, so that one SNR is that of every clip of a stream."""
    frames = clip[: len(clip) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    speech = is_speech(clip)
    if not speech.any():
        return clip  # nothing but noise in it
    power = float(np.mean(np.square(frames[speech])))
    return clip * np.float32(10 ** (SPEECH_DBFS / 20) / np.sqrt(max(power, 1e-12)))


def joined(clips: Sequence[Samples], pause_s: float) -> Stream:
    """Clips with a pause of digital silence before, between and behind them."""
    pause_frames = round(pause_s * RATE_HZ / FRAME_SAMPLES)
    pause = np.zeros(pause_frames * FRAME_SAMPLES, np.float32)
    parts, speech = [pause, pause], [np.zeros(2 * pause_frames, bool)]
    for clip in clips:
        whole = clip[: len(clip) // FRAME_SAMPLES * FRAME_SAMPLES]
        parts += [whole, pause]
        speech += [is_speech(whole), np.zeros(pause_frames, bool)]
    return Stream(np.concatenate(parts), np.concatenate(speech))


def fan(n: int, rng: np.random.Generator) -> Samples:
    """Brown noise, hum and its blade's beat: a computer's or a room's fan."""
    t = np.arange(n) / RATE_HZ
    rush = lfilter([1], [1, -0.98], rng.standard_normal(n))
    hum_hz = rng.uniform(90, 250)
    hum = sum(np.sin(2 * np.pi * k * hum_hz * t + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    sound = rush / rush.std() + rng.uniform(0.1, 0.5) * hum
    return (sound * 10 ** (rng.uniform(-50, -30) / 20) / sound.std()).astype(np.float32)


def typing(n: int, rng: np.random.Generator) -> Samples:
    """Keys struck at 3 to 8 a second in bursts with pauses, each a click and a resonance, over a quiet room."""
    sound = rng.standard_normal(n) * 10 ** (-65 / 20)
    at = 0
    while at < n:
        if rng.random() < 0.08:
            at += int(rng.uniform(0.5, 2) * RATE_HZ)
        length = int(0.06 * RATE_HZ)
        t = np.arange(length) / RATE_HZ
        resonance = np.sin(2 * np.pi * rng.uniform(300, 3000) * t) * np.exp(-t * rng.uniform(60, 200))
        key = rng.standard_normal(length) * np.exp(-t * rng.uniform(100, 400)) + 0.5 * resonance
        key *= 10 ** (rng.uniform(-35, -15) / 20)
        part = sound[at : at + length]
        part += key[: len(part)]
        at += int(RATE_HZ / rng.uniform(3, 8))
    return sound.astype(np.float32)


def coughing(n: int, rng: np.random.Generator) -> Samples:
    """A cough every one to three seconds, as loud as speech, over a quiet room."""
    sound = in_a_quiet_room(np.zeros(n, np.float32))
    at = 0
    while (at := at + int(rng.uniform(1, 3) * RATE_HZ)) < n:
        part = sound[at : at + RATE_HZ // 2]
        part += degrade.cough(rng)[: len(part)] * np.float32(10 ** (rng.uniform(-25, -5) / 20))
    return sound


def noises(corpora: Path, evaluation: bool = True) -> dict[str, list[Samples]]:
    """Noise by kind, 20 s each."""
    n = NOISE_S * RATE_HZ
    found: dict[str, list[Samples]] = {}
    for path in noise_paths(corpora, evaluation):
        kind = path.parent.name.split(" - ")[-1].lower()
        found.setdefault(kind, []).append(np.resize(read_mono(path), n))
    rng = np.random.default_rng(2 if evaluation else 3)
    found["fan (made)"] = [fan(n, rng) for _ in range(20)]
    found["typing (made)"] = [typing(n, rng) for _ in range(20)]
    found["white noise"] = [degrade.white_noise(n, rng) * 0.01 for _ in range(5)]
    return found


def in_a_quiet_room(samples: Samples) -> Samples:
    """With white noise at -70 dBFS."""
    noise = degrade.white_noise(len(samples), np.random.default_rng(0))
    return samples + noise * np.float32(10 ** (QUIET_ROOM_DBFS / 20))


def noisy(stream: Stream, noise: Samples, snr_db: float) -> Samples:
    """The stream with noise all through it, its SNR over the frames that are speech."""
    noise = np.resize(noise, len(stream.samples))
    frames = stream.samples.reshape(-1, FRAME_SAMPLES)[stream.speech]
    ratio = float(np.mean(np.square(frames))) / max(float(np.mean(np.square(noise))), 1e-12)
    return np.clip(stream.samples + noise * np.sqrt(ratio * 10 ** (-snr_db / 10)), -1, 1).astype(np.float32)


def gated(samples: Samples, speech: NDArray[np.bool_]) -> Found:
    """Run the gate and compare: lost is speech outside its segments, false what it takes for speech and is none."""
    gate, cleaner = SpeechGate(), Cleaner()
    open_ = np.zeros(len(speech), bool)
    within = np.zeros(len(speech), bool)
    start = onset = 0
    for output in (*gate.push(cleaner.push(samples)), *gate.flush()):
        if isinstance(output, SpeechOpened):
            start, onset = output.start // FRAME_SAMPLES, output.onset // FRAME_SAMPLES
        elif isinstance(output, SpeechClosed):
            open_[start : output.at // FRAME_SAMPLES] = True
            within[onset : output.speech_end // FRAME_SAMPLES] = True
    onsets = np.flatnonzero(np.diff(speech.astype(int), prepend=0) == 1)
    cut = []
    for first in onsets:
        run = int(np.argmin(np.append(speech[first:], False)))
        heard = np.flatnonzero(open_[first : first + run])
        cut.append(20.0 * (int(heard[0]) if len(heard) else run))
    return Found(
        speech=int(speech.sum()),
        lost=int((speech & ~open_).sum()),
        false=int((within & ~speech).sum()),
        frames=len(speech),
        onset_cut_ms=tuple(cut),
    )


def measure_speech(stream: Stream, noise: Samples | None, snr_db: float) -> Found:
    heard = in_a_quiet_room(stream.samples) if noise is None else noisy(stream, noise, snr_db)
    return gated(heard, stream.speech)


def measure_noise(noise: Samples) -> Found:
    return gated(noise, np.zeros(len(noise) // FRAME_SAMPLES, bool))


def tables(streams: Sequence[Stream], kinds: dict[str, list[Samples]], pool: ProcessPoolExecutor) -> list[str]:
    """Markdown: speech, then noise."""
    steady = [n for kind in ("rain", "sea waves", "fan (made)", "white noise") for n in kinds[kind]]
    every = [n for recordings in kinds.values() for n in recordings]
    sets: list[tuple[str, Sequence[Samples | None], float]] = [("a quiet room", [None] * len(streams), 0)]
    for snr_db in SNRS_DB:
        for name, those in (("steady noise", steady), ("all noises", every)):
            drawn = np.random.default_rng(1).permutation(len(those))
            sets.append((f"{snr_db} dB, {name}", [those[i] for i in np.resize(drawn, len(streams))], snr_db))
    lines = [
        "| speech in | lost | onset cut off: median, 95th percentile | false speech in a minute of pauses |",
        "|---|---|---|---|",
    ]
    for name, mixed, snr_db in sets:
        found = list(pool.map(measure_speech, streams, mixed, repeat(snr_db)))
        lost = sum(f.lost for f in found) / sum(f.speech for f in found)
        cut = np.concatenate([f.onset_cut_ms for f in found])
        false = sum(f.false for f in found) / sum(f.frames - f.speech for f in found)
        lines.append(
            f"| {name} | {lost:.1%} | {np.median(cut):.0f} ms, {np.percentile(cut, 95):.0f} ms | {60 * false:.1f} s |"
        )
    lines += ["", "| noise alone | false speech a minute | clips with none |", "|---|---|---|"]
    rng = np.random.default_rng(4)
    coughs = [coughing(NOISE_S * RATE_HZ, rng) for _ in range(20)]
    for kind, recordings in (kinds | {"coughing (made)": coughs}).items():
        found = list(pool.map(measure_noise, recordings, chunksize=4))
        false = sum(f.false for f in found) / sum(f.frames for f in found)
        none = sum(f.false == 0 for f in found)
        lines.append(f"| {kind} | {60 * false:.1f} s | {none} of {len(found)} |")
    return lines


def main(
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for gate.md.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    tuning: Annotated[bool, typer.Option(help="With the other half of the noises, which choices may look at.")] = False,
) -> None:
    """Measure the default gate."""
    streams = speech_streams(corpora, splits)
    kinds = noises(corpora, evaluation=not tuning)
    with ProcessPoolExecutor() as pool:
        lines = tables(streams, kinds, pool)
    text = "\n".join(["# The speech gate", "", (__doc__ or "").split("\n\n", 2)[2].strip(), "", *lines, ""])
    print(text)
    (out / "gate.md").write_text(text)


if __name__ == "__main__":
    typer.run(main)
