"""What `replay --speed max` costs: real-time factor, memory, start.

`python benchmarks/replay.py [--hours 1] [--model NAME]`. Makes a 48 kHz recording by repeating the demo, runs the real
program on one core, and prints figures. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import soundfile
import soxr

from realtime_ser.resources import processor
from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.model import DEFAULT_MODEL


def make_recording(path: Path, hours: float) -> float:
    """The demo at 48 kHz, 16 bit, again and again; returns its length in seconds."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="float32")
    once = soxr.resample(samples, rate_hz, 48_000)
    repeats = max(1, round(hours * 3600 * 48_000 / len(once)))
    with soundfile.SoundFile(path, "w", 48_000, 1, "PCM_16") as file:
        for _ in range(repeats):
            file.write(once)
    return repeats * len(once) / 48_000


def one_core(number: int = 0) -> None:
    """Be on one of this process' cores from now on, where the system lets it choose."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def run(recording: Path, csv: Path, *options: str) -> tuple[float, float]:
    """Wall seconds and peak resident MB of one replay, all included."""
    command = [sys.executable, "-m", "realtime_ser", "replay", str(recording), "--speed", "max", "--plain"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--csv", str(csv), "--overwrite", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=one_core if os.name == "posix" else None,
    )
    peak = [0]

    def watch() -> None:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak[0] = max(peak[0], seen.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(errors.decode())
    return time.perf_counter() - begun, peak[0] / 2**20


def first_emotion(runs: int = 5) -> tuple[float, float]:
    """Seconds from the command to the first line that names an emotion, and at what second of audio that is."""
    waits, at_s = [], 0.0
    for _ in range(runs):
        begun = time.perf_counter()
        command = [sys.executable, "-m", "realtime_ser", "replay", "demo", "--plain", "--jsonl", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if '"label_raw":"' in line:
                    waits.append(time.perf_counter() - begun)
                    at_s = float(line.split('"end_s":')[1].split(",")[0])
                    break
            process.terminate()
    return statistics.median(waits), at_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="length of the long recording")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    hours, model = options.hours, ("--model", options.model)
    print(f"{processor()}, Python {platform.python_version()}, one core")
    with tempfile.TemporaryDirectory() as folder:
        short, long, csv = (Path(folder) / name for name in ("short.wav", "long.wav", "t.csv"))
        for path, length in ((short, hours / 10), (long, hours)):
            audio_s = make_recording(path, length)
            results = [run(path, csv, *model) for _ in range(3)]
            wall_s = statistics.median(r[0] for r in results)
            print(
                f"{audio_s / 3600:.2f} h at 48 kHz: {wall_s:.1f} s, real-time factor {wall_s / audio_s:.4f} "
                f"({audio_s / wall_s:.0f} times real time), peak {max(r[1] for r in results):.0f} MB"
            )
        for window_s in ("1", "3", "10"):
            results = [run(short, csv, "--window", window_s, *model) for _ in range(3)]
            print(f"window of {window_s} s: {statistics.median(r[0] for r in results):.1f} s for {hours / 10:.2f} h")
    wait_s, at_s = first_emotion()
    print(f"command to first emotion: {wait_s:.2f} s, of which {at_s:.2f} s of audio had to be heard first")


if __name__ == "__main__":
    main()
