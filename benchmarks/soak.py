"""Whether anything grows: `python benchmarks/soak.py replay --hours 24` and `python benchmarks/soak.py live --hours 1`.

The real program, its CSV and JSON Lines written to files, hears the demo again and again: through a pipe at full
speed, or from the null sink of a private PulseAudio (Linux; packages as for benchmarks/live.py). Memory, open files
and threads are looked at all the while; the slope is fitted after the first tenth, in which caches fill. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
from live import start_server

from realtime_ser.resources import processor
from realtime_ser.sources.demo import demo_path

LOOKS = 240
"""At the program, over the whole run."""


@dataclass(frozen=True)
class Look:
    """What the program held when `hours` of audio had gone in."""

    hours: float
    memory_mb: float
    files: int
    threads: int
    cpu_s: float


def look(seen: psutil.Process, hours: float) -> Look:
    cpu = seen.cpu_times()
    return Look(hours, seen.memory_info().rss / 2**20, seen.num_fds(), seen.num_threads(), cpu.user + cpu.system)


def command(folder: Path, *arguments: str) -> list[str]:
    outputs = ["--csv", str(folder / "soak.csv"), "--jsonl", str(folder / "soak.jsonl"), "--plain"]
    return [sys.executable, "-m", "realtime_ser", *arguments, *outputs]


def replay(folder: Path, hours: float) -> list[Look]:
    """At full speed; it is looked at between two pieces of the pipe."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="int16")
    once = samples.astype("<i2").tobytes()
    repeats = round(hours * 3600 * rate_hz / len(samples))
    shown = {round((i + 1) * repeats / LOOKS) for i in range(LOOKS)}
    program = subprocess.Popen(
        command(folder, "replay", "-", "--rate", str(rate_hz), "--speed", "max"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert program.stdin is not None
    seen, looks = psutil.Process(program.pid), []
    for i in range(1, repeats + 1):
        program.stdin.write(once)
        if i in shown:
            looks.append(look(seen, i * len(samples) / rate_hz / 3600))
    program.stdin.close()
    if program.wait():
        sys.exit("the replay failed")
    return looks


def live(folder: Path, hours: float) -> list[Look]:
    """As long as the microphone would; the player is started again for each round of the demo."""
    server, environment = start_server(folder)
    program = subprocess.Popen(command(folder, "live"), env=environment, stdout=subprocess.DEVNULL)
    end = threading.Event()

    def play() -> None:
        while not end.is_set():
            subprocess.run(["paplay", "--device=out", str(demo_path())], env=environment, check=False)

    player = threading.Thread(target=play)
    player.start()
    seen, looks, begun = psutil.Process(program.pid), [], time.monotonic()
    try:
        for i in range(LOOKS):
            time.sleep(max(0.0, begun + (i + 1) * hours * 3600 / LOOKS - time.monotonic()))
            looks.append(look(seen, (time.monotonic() - begun) / 3600))
        program.send_signal(signal.SIGINT)
        if program.wait() != 130:
            sys.exit("the program did not live to be stopped")
    finally:
        end.set()
        server.kill()
        player.join()
    return looks


def slope(hours: list[float], values: list[float]) -> tuple[float, float]:
    """Change per hour by least squares, and half of its 95% interval (as if the looks were independent)."""
    (gradient, _), covariance = np.polyfit(hours, values, 1, cov=True)
    return float(gradient), float(1.96 * np.sqrt(covariance[0, 0]))


def tell_looks(looks: list[Look]) -> None:
    settled = [each for each in looks if each.hours >= looks[-1].hours / 10]
    hours = [each.hours for each in settled]
    for name, unit in (("memory_mb", "MB"), ("files", "open files"), ("threads", "threads")):
        values = [float(getattr(each, name)) for each in settled]
        gradient, half = slope(hours, values)
        print(f"{unit}: {values[0]:.4g} to {values[-1]:.4g}, highest {max(values):.4g}; ", end="")
        print(f"{gradient:+.3g} ± {half:.2g} an hour of audio")
    middle = len(settled) // 2
    halves = [
        (b.cpu_s - a.cpu_s) / (b.hours - a.hours)
        for a, b in ((settled[0], settled[middle]), (settled[middle], settled[-1]))
    ]
    print(f"CPU seconds for an hour of audio: {halves[0]:.1f} in the first half, {halves[1]:.1f} in the second")


def tell_latency(events: Path, part_h: float) -> None:
    """Percentiles of the first and of the last `part_h` hours."""
    times: list[tuple[float, float]] = []
    last: dict[str, Any] = {}
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            last = json.loads(line)
            if last["type"] == "measurement" and last["state"] != "no_speech" and last["trigger"] == "hop":
                times.append((last["end_s"], last["latency_ms"]))
    end_s, ms = np.array(times).T
    first, final = ms[end_s <= 3600 * part_h], ms[end_s > last["end_s"] - 3600 * part_h]
    for share in (50, 95, 99):
        early, late = np.percentile(first, share), np.percentile(final, share)
        print(
            f"latency, {share}th percentile: {early:.2f} ms in the first {part_h:g} h, {late:.2f} ms in the last ",
            end="",
        )
        print(f"({late / early:.2f})")
    print(f"{last['audio_s'] / 3600:.3f} h heard, {last['lost_s']:.2f} s lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("replay", "live"))
    parser.add_argument("--hours", type=float, default=1.0, help="of audio")
    options = parser.parse_args()
    print(f"{processor()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        looks = {"replay": replay, "live": live}[options.way](folder, options.hours)
        tell_looks(looks)
        tell_latency(folder / "soak.jsonl", min(1.0, options.hours / 6))


if __name__ == "__main__":
    main()
