"""What a day of timeline costs to read, sum up and report: `python benchmarks/timeline.py`. Nothing is asserted."""

from __future__ import annotations

import csv
import platform
import tempfile
import time
from pathlib import Path

import soundfile

from realtime_ser.resources import processor
from realtime_ser.session import Session
from realtime_ser.sinks.csv import CsvSink
from realtime_ser.sources.demo import demo_path
from realtime_ser.timeline.read import read_timeline
from realtime_ser.timeline.report import report
from realtime_ser.timeline.statistics import statistics

DAY_S = 86_400


def make_day(path: Path) -> int:
    """The demo's timeline again and again; returns the number of rows."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="float32")
    session = Session(source="demo")
    once = path.with_name("once.csv")
    sink = CsvSink(once, session.labels, file="demo")
    for event in session.push(samples, rate_hz) + session.flush():
        sink.write(event)
    sink.close()
    with once.open(newline="") as file:
        header, *rows = csv.reader(file)
    length_s, n_utterances, n_rows = len(samples) / rate_hz, max(int(row[6] or 0) for row in rows), 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for again in range(int(DAY_S / length_s)):
            for row in rows:
                times = [f"{float(value) + again * length_s:.3f}" for value in row[1:3]]
                utterance = str(int(row[6]) + again * n_utterances) if row[6] else ""
                writer.writerow([row[0], *times, *row[3:6], utterance, *row[7:]])
                n_rows += 1
    return n_rows


def main() -> None:
    print(f"{processor()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.csv"
        n_rows = make_day(path)
        begun = time.perf_counter()
        timeline = read_timeline(path)
        read_s = time.perf_counter() - begun
        statistics(timeline)
        summed_s = time.perf_counter() - begun - read_s
        page = report([timeline])
        reported_s = time.perf_counter() - begun - read_s - summed_s
        size_mb = path.stat().st_size / 1e6
        print(f"{n_rows:,} rows, {size_mb:.0f} MB: read in {read_s:.1f} s, summed up in {summed_s:.1f} s")
        print(f"reported in {reported_s:.1f} s into {len(page.encode()) / 1e6:.1f} MB of HTML")


if __name__ == "__main__":
    main()
