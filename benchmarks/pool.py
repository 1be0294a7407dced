"""How many live streams a `SessionPool` hears on one core, and how late.

`python benchmarks/pool.py [--streams 20 50 100 200] [--seconds 20] [--model NAME] [RECORDING]`. Everything runs on one
core: a thread that pushes 20 ms blocks of every stream when they are due, as a server's network thread would, and the
one that hears.
Each stream plays the recording (by default the demo) from a place of its own, round and round. The latency
counts from the arrival of the block that completes a hop. They begin one after the
other within a few seconds, as calls do, and figures are of what comes after. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import threading
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

from realtime_ser import Session, SessionPool
from realtime_ser.events import Gap, Measurement
from realtime_ser.resources import processor
from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.model import DEFAULT_MODEL

RATE_HZ = 16_000
BLOCK_SAMPLES = RATE_HZ // 50
BEGIN_S = 5.0
"""In which all streams begin. All at once, they would have their hops at the same moments for as long as they speak."""


def measure(samples: np.ndarray, model: str, n_streams: int, seconds: float) -> str:
    """A row of the table."""
    pool = SessionPool()
    keys = [str(i) for i in range(n_streams)]
    at = {key: i * len(samples) // n_streams for i, key in enumerate(keys)}
    n_beginning = round(BEGIN_S * RATE_HZ / BLOCK_SAMPLES)
    begins = {key: i * n_beginning // n_streams for i, key in enumerate(keys)}
    n_blocks = n_beginning + round(seconds * RATE_HZ / BLOCK_SAMPLES)
    all_there = threading.Event()

    def feed() -> None:
        begun = time.perf_counter()
        # A stream's blocks come at a moment of its own within 20 ms, as strangers' packets do.
        for n in range(n_blocks):
            if n == n_beginning:
                all_there.set()
            for i, key in enumerate(keys):
                if n < begins[key]:
                    continue
                if n == begins[key]:
                    pool.add(key, Session(model, source=key))
                due = begun + (n + i / n_streams) * BLOCK_SAMPLES / RATE_HZ
                if (early := due - time.perf_counter()) > 0.002:
                    time.sleep(early)
                start = (at[key] + n * BLOCK_SAMPLES) % (len(samples) - BLOCK_SAMPLES)
                pool.push(key, samples[start : start + BLOCK_SAMPLES])
        for key in keys:
            pool.close(key)

    feeder = threading.Thread(target=feed)
    feeder.start()
    latencies_ms, n_scored, lost_s = [], 0, 0.0
    begun_s = cpu_s = 0.0
    while len(pool) or not all_there.is_set():
        for turn in pool.hear(timeout_s=1):
            if all_there.is_set() and not begun_s:
                begun_s, cpu_s = time.perf_counter(), time.process_time()
            for event in turn.events if begun_s else ():
                if isinstance(event, Measurement) and event.trigger == "hop":
                    latencies_ms.append(event.latency_ms)
                    n_scored += bool(event.scores)
                elif isinstance(event, Gap):
                    lost_s += event.lost_samples / RATE_HZ
    feeder.join()
    load = (time.process_time() - cpu_s) / (time.perf_counter() - begun_s)
    p50, p95, p99 = np.percentile(latencies_ms, (50, 95, 99))
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if platform.system() == "Linux" else 2**20)
    return (
        f"| {n_streams} | {len(latencies_ms) / seconds / n_streams:.1f} | {n_scored / len(latencies_ms):.0%} | "
        f"{load:.0%} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {lost_s / (seconds * n_streams):.1%} | {memory_mb:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, nargs="?", default=demo_path())
    parser.add_argument("--streams", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    samples, rate_hz = soundfile.read(args.recording, dtype="float32", always_2d=True)
    samples = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    print(f"{processor()}, Python {platform.python_version()}, one core\n")
    print("| streams | updates/s each | in speech | load | p50 ms | p95 ms | p99 ms | lost | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n_streams in args.streams:
        print(measure(samples, args.model, n_streams, args.seconds), flush=True)


if __name__ == "__main__":
    main()
