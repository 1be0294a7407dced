"""A real timeline in both forms, with a gap, a marker and two channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime_ser.channels import ChannelSessions
from realtime_ser.session import Session
from realtime_ser.sinks.csv import CsvSink
from realtime_ser.sinks.jsonl import JsonLinesSink
from realtime_ser.stages.model import Model
from realtime_ser.timeline.annotations import Annotation
from realtime_ser.timeline.read import Timeline, read_timeline
from realtime_ser.timeline.segments import lanes, segments


@pytest.fixture(scope="session")
def written(
    model: Model, demo: tuple[NDArray[np.int16], int], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A call as CSV and as JSON Lines."""
    folder = tmp_path_factory.mktemp("timeline")
    samples, rate_hz = demo
    call = np.stack((samples[27 * rate_hz : 57 * rate_hz], samples[30 * rate_hz : 60 * rate_hz]), axis=1)
    sessions = ChannelSessions([1, 2], lambda channel: Session(model, source="call, one.wav", channel=channel))
    events = sessions.push(call[: 16 * rate_hz], rate_hz)
    events += sessions.gap(16_000, "a test") + sessions.mark('he said "no"')
    events += sessions.push(call[16 * rate_hz :], rate_hz) + sessions.flush()
    sinks = (
        CsvSink(folder / "call.csv", sessions.labels, file="call, one.wav"),
        JsonLinesSink(folder / "call.jsonl"),
    )
    for sink in sinks:
        for event in events:
            sink.write(event)
        sink.close()
    return folder / "call.csv", folder / "call.jsonl"


@pytest.fixture(scope="session")
def timeline(written: tuple[Path, Path]) -> Timeline:
    """The left channel alone."""
    both = read_timeline(written[0])
    return both.part(both.channel == 1)


def labelled(timeline: Timeline) -> list[Annotation]:
    """Its segments that have a label, as a rater's."""
    (lane,) = lanes(timeline)
    return [Annotation(s.start_s, s.end_s, s.label, s.arousal, s.valence) for s in segments(timeline, lane) if s.label]
