"""The whole pipeline: gate, features, model, trace, and the rows of the CSV."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from common import RATE_HZ, compete

from realtime_ser import Session
from realtime_ser.sinks.csv import CsvSink


def work(samples: np.ndarray) -> None:
    session = Session()
    with tempfile.TemporaryDirectory() as folder:
        sink = CsvSink(Path(folder, "t.csv"), session.labels, file="t")
        for start in range(0, len(samples), RATE_HZ // 2):
            for event in session.push(samples[start : start + RATE_HZ // 2]):
                sink.write(event)
        for event in session.flush():
            sink.write(event)
        sink.close()


compete(work)
