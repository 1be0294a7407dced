"""Do denormal numbers slow anything down? `python benchmarks/denormals.py`.

Pushes the same length of several signals through a session, then through each stage alone, and prints how long each
takes beside ordinary noise of that stage. Nothing is asserted.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from realtime_ser import Session
from realtime_ser.resources import processor
from realtime_ser.settings import RATE_HZ
from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.clean import Cleaner
from realtime_ser.stages.gate import SpeechGate
from realtime_ser.stages.model import load_model
from realtime_ser.stages.resample import Resampler

SECONDS = 60
RATE_IN_HZ = 48_000
REPEATS = 7


def signals() -> dict[str, NDArray[np.float32]]:
    """Of 60 s at 48 kHz."""
    n = SECONDS * RATE_IN_HZ
    noise = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    samples, rate_hz = soundfile.read(demo_path(), dtype="float32")
    speech = np.resize(soxr.resample(samples, rate_hz, RATE_IN_HZ), n)
    # Every second a burst that falls by 1500 dB: most of each second is beyond normal float32.
    decay = np.exp(-172 * (np.arange(n) % RATE_IN_HZ) / RATE_IN_HZ)
    return {
        "noise at -20 dBFS": noise * np.float32(0.1),
        "noise at -100 dBFS": noise * np.float32(1e-5),
        "noise of denormals (1e-40)": noise * np.float32(1e-40),
        "bursts that decay to denormals": (noise * decay).astype(np.float32),
        "a click, then zeros": (np.arange(n) == 0).astype(np.float32),
        "zeros": np.zeros(n, np.float32),
        "speech": speech,
        "speech, every pause denormals": np.where(np.abs(speech) < 1e-3, speech * np.float32(1e-38), speech),
    }


def seconds_of(make: Callable[[], Callable[[NDArray[np.float32]], object]], signal: NDArray[np.float32]) -> float:
    """Median over `REPEATS` of one signal pushed in blocks of 0.1 s."""
    taken = []
    blocks = np.array_split(signal, 10 * SECONDS)
    for _ in range(REPEATS):
        push = make()
        begun = time.process_time()
        for block in blocks:
            push(block)
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def main() -> None:
    model = load_model()
    heard = signals()
    at_16k = {name: soxr.resample(signal, RATE_IN_HZ, RATE_HZ) for name, signal in heard.items()}

    def session() -> Callable[[NDArray[np.float32]], object]:
        begun = Session(model)
        return lambda block: begun.push(block, RATE_IN_HZ)

    def resampler() -> Callable[[NDArray[np.float32]], object]:
        begun = Resampler(RATE_IN_HZ, 1)
        return lambda block: begun.push(block[:, None])

    whole = {"session": (session, heard), "resampler": (resampler, heard)}
    stages = {"high-pass": (lambda: Cleaner().push, at_16k), "gate": (lambda: SpeechGate().push, at_16k)}
    print(f"{processor()}, Python {platform.python_version()}; ms of CPU for {SECONDS} s of audio (times noise's)")
    for stage, (make, given) in (whole | stages).items():
        usual = seconds_of(make, given["noise at -20 dBFS"])
        print(stage)
        for name, signal in given.items():
            taken = seconds_of(make, signal)
            print(f"  {name:32} {1000 * taken:8.1f}  ({taken / usual:.2f})")


if __name__ == "__main__":
    main()
