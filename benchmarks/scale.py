"""What `analyze` makes of more than one core, and where the limit is.

`python -m benchmarks.scale [--files 8] [--minutes 10] [--runs 3]`. Makes 48 kHz recordings by repeating the demo and
analyses them with one process, two, and two workers of a local Dask cluster, in turn, and with two processes one
recording as long as all. Two programs that know nothing of each other, each on a core with half the recordings, tell
what the machine itself gains by its second core. Besides, it only reads them, and reads and resamples them. Prints
medians. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.replay import make_recording, one_core
from realtime_ser.resources import processor
from realtime_ser.sources.file import FileSource
from realtime_ser.stages.resample import Resampler


def command(places: list[Path], out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "realtime_ser", "analyze", *map(str, places), "--out", str(out), *options]


def analyzed(folder: Path, *options: str) -> float:
    """Wall seconds of the whole program; without options on one core, with them on the whole machine."""
    out = folder.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    begun = time.perf_counter()
    subprocess.run(
        command([folder], out, *options),
        stderr=subprocess.DEVNULL,
        check=True,
        preexec_fn=one_core if os.name == "posix" and not options else None,
    )
    return time.perf_counter() - begun


def apart(folder: Path) -> float:
    """Wall seconds of two programs at once, each on a core of its own."""
    out = folder.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    paths = sorted(folder.iterdir())
    begun = time.perf_counter()
    programs = [
        subprocess.Popen(
            command(paths[i::2], out / str(i)),
            stderr=subprocess.DEVNULL,
            preexec_fn=partial(one_core, i) if os.name == "posix" else None,
        )
        for i in range(2)
    ]
    if any(program.wait() for program in programs):
        sys.exit("a program failed")
    return time.perf_counter() - begun


def read(folder: Path, resample: bool) -> float:
    """Wall seconds, in this process."""
    begun = time.perf_counter()
    for path in folder.iterdir():
        source = FileSource(path)
        resampler = Resampler(source.rate_hz, source.channels)
        for block in source:
            if resample:
                resampler.push(block)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "in")
        folder.mkdir()
        first = folder / "0.wav"
        audio_s = options.files * make_recording(first, options.minutes / 60)
        for i in range(1, options.files):
            shutil.copy(first, folder / f"{i}.wav")
        long = Path(temporary, "long")
        long.mkdir()
        make_recording(long / "all.wav", options.files * options.minutes / 60)
        if os.name == "posix":
            os.sync()  # gigabytes on their way to the disk would take a share of both cores
        ways: dict[str, Callable[[], float]] = {
            "one process": partial(analyzed, folder),
            "--jobs 2": partial(analyzed, folder, "--jobs", "2"),
            "--jobs 2, one recording": partial(analyzed, long, "--jobs", "2"),
            "two programs apart": partial(apart, folder),
            "--scheduler local --jobs 2": partial(analyzed, folder, "--scheduler", "local", "--jobs", "2"),
            "only read (WAV)": partial(read, folder, resample=False),
            "only read and resampled": partial(read, folder, resample=True),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.runs):
            for way, measure in ways.items():
                seconds[way].append(measure())
    print(f"{processor()}, {os.cpu_count()} cores; {audio_s / 3600:.2f} h of audio, {options.runs} runs in turn")
    base = seconds["one process"]
    for way, found in seconds.items():
        ratios = sorted(one / other for one, other in zip(base, found, strict=True))
        print(
            f"{way:28} {statistics.median(found):7.1f} s, {audio_s / statistics.median(found):6.0f} times real time,"
            f" {statistics.median(ratios):5.2f} times one process ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
