"""What a chunk of 0.25 s costs an encoder: one in a call, four in a call, and 16 streams' in a call.

`python benchmarks/encoder.py MODEL_FOLDER …`, in turn on one core, so that the folders can be compared; and what a
second of audio costs a session of the default model, by the length of the blocks it is given. Nothing is asserted.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from realtime_ser import Session
from realtime_ser.resources import processor
from realtime_ser.settings import RATE_HZ
from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.network import in_process

CALLS = ((1, 1), (1, 4), (16, 1))
"""Streams and chunks in a call."""
CHUNK_FRAMES, N_MELS = 16, 64
BLOCKS_S = (0.02, 0.1, 0.25, 1.0)


def call(folder: Path, streams: int, chunks: int) -> Callable[[], object]:
    """A call of the folder's encoder, behind a first one."""
    session = in_process((folder / "encoder.onnx").read_bytes())
    _, state_size = next(x.shape for x in session.get_inputs() if x.name == "state")
    frames = np.random.default_rng(0).normal(-60, 10, (streams, chunks * CHUNK_FRAMES, N_MELS)).astype(np.float32)
    feed = {"frames": frames, "state": np.zeros((streams, state_size), np.float32)}
    feed["state"] = session.run(["next_state"], feed)[0]
    return lambda: session.run(None, feed)


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def session_ms(samples: np.ndarray, block_s: float) -> float:
    """For each second of audio."""
    session = Session()
    size = round(block_s * RATE_HZ)
    begun = time.perf_counter()
    for start in range(0, len(samples), size):
        session.push(samples[start : start + size])
    session.flush()
    return 1000 * (time.perf_counter() - begun) / (len(samples) / RATE_HZ)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    folders = [Path(name) for name in sys.argv[1:]]
    print(f"{processor()}, Python {platform.python_version()}, one core")
    for streams, chunks in CALLS:
        calls = [call(folder, streams, chunks) for folder in folders]
        times = [[seconds(work) for work in calls] for _ in range(200)]
        for folder, of_one in zip(folders, zip(*times, strict=True), strict=True):
            ms = 1000 * statistics.median(of_one) / (streams * chunks)
            print(f"{streams} streams, {chunks} chunks in a call: {ms:.2f} ms for each; {folder}")
    samples, rate_hz = soundfile.read(demo_path(), dtype="float32", always_2d=True)
    samples = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    for block_s in BLOCKS_S:
        ms = statistics.median(session_ms(samples, block_s) for _ in range(3))
        print(f"a session given {block_s} s at a time: {ms:.1f} ms for a second of audio")


if __name__ == "__main__":
    main()
