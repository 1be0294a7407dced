"""What `live` and `replay` share: in what order a source's troubles are told, and the pace."""

from __future__ import annotations

import io
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from rich.console import Console

from realtime_ser.channels import ChannelSessions
from realtime_ser.cli.stream import Pace, stream
from realtime_ser.dashboard import DashboardState, PlainLines, Screen
from realtime_ser.events import Event, Gap, Marker, SessionClosed, SpeechEnded, SpeechStarted, Warning
from realtime_ser.session import Session
from realtime_ser.signals import StopSignals
from realtime_ser.sinks.background import Background
from realtime_ser.sinks.recording import FlacRecording
from realtime_ser.sources import Block, Lost
from realtime_ser.stages.model import Model
from realtime_ser.stages.monitor import Notice

Demo = tuple[NDArray[np.int16], int]


class Headset:
    """It is unplugged in mid-word, away for an hour, and plugged in again."""

    name, channels = "headset", 2

    def __init__(self, demo: Demo) -> None:
        samples, self.rate_hz = demo
        self._speech = np.stack((samples, samples), axis=1)[: 4 * self.rate_hz].astype(np.float32) / 2**15

    def __iter__(self) -> Generator[Block, None, None]:
        yield self._speech
        yield Notice("device_lost", "headset delivers no more audio", "plug it in again")
        for _ in range(4):
            yield Lost(900 * self.rate_hz, "the device was away")
        yield Notice("device_back", "headset is back", "a gap stands for the time away")
        yield self._speech


class Unplugged(Headset):
    """It does not come back."""

    def __iter__(self) -> Generator[Block, None, None]:
        yield from islice(super().__iter__(), 6)


class Watched(PlainLines):
    """Whoever watches presses m half an hour after the device is lost."""

    def __init__(self) -> None:
        self.lines = io.TextIOWrapper(io.BytesIO(), "utf-8")
        super().__init__(self.lines)
        self.shown: list[tuple[float, float]] = []
        """Clock and loss."""

    def progress(self, audio_s: float, lag_s: float, real_time_factor: float, lost_s: float, trouble: str = "") -> None:
        self.shown.append((audio_s, lost_s))

    def pressed(self) -> list[str]:
        return ["m"] if self.shown[-1][0] == 1_804 else []


@dataclass
class Kept:
    """A sink that keeps what it is given."""

    events: list[Event] = field(default_factory=list)

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None: ...


def heard(source: Headset, session: Session | ChannelSessions) -> list[Event]:
    kept, lines = Kept(), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with StopSignals() as signals:
        assert stream(source, session, [kept], PlainLines(lines), Pace(float("inf")), signals) == 0
    return kept.events


def screen(events: list[Event]) -> str:
    state = DashboardState()
    for event in events:
        state.update(event)
    console = Console(width=100, height=24, file=io.StringIO())
    with console.capture() as capture:
        console.print(Screen(state.snapshot()))
    return capture.get()


def test_a_device_lost_in_mid_word_ends_the_utterance_at_once(model: Model, demo: Demo) -> None:
    events = heard(Headset(demo), Session(model))
    told = [e for e in events if isinstance(e, (SpeechStarted, SpeechEnded, Warning, Gap))]
    assert [getattr(e, "code", e.type) for e in told] == [
        "speech.started", "speech.ended", "device_lost", "gap", "device_back", "speech.started", "speech.ended",
    ]  # fmt: skip
    assert [(e.start_s, e.end_s) for e in told[2:5]] == [(4, 4), (4, 3_604), (3_604, 3_604)]
    lost, back = events.index(told[2]), events.index(told[4])
    assert "● speech" in screen(events[: events.index(told[1])])
    assert "no input" in screen(events[: lost + 1])
    assert "● speech" not in screen(events[: lost + 1])
    assert "○ no speech" in screen(events[: back + 1])
    assert "● speech" in screen(events[: events.index(told[6])])


def test_so_does_it_in_each_channel(model: Model, demo: Demo) -> None:
    events = heard(Headset(demo), ChannelSessions([1, 2], lambda channel: Session(model, channel=channel)))
    lost = next(i for i, e in enumerate(events) if isinstance(e, Warning))
    assert sum(isinstance(e, SpeechEnded) for e in events[:lost]) == 2


@pytest.mark.parametrize("duration_s", [None, 2_000.0])
def test_what_ends_while_the_device_is_away_has_its_loss(
    model: Model, demo: Demo, tmp_path: Path, duration_s: float | None
) -> None:
    kept, view, source, flac = Kept(), Watched(), Unplugged(demo), tmp_path / "r.flac"
    recording = Background(FlacRecording(flac, source.rate_hz, source.channels, overwrite=False), "r.flac")
    with StopSignals() as signals:
        stream(source, Session(model), [kept], view, Pace(float("inf")), signals, duration_s, recording)
    recording.close()
    end_s = 2_704 if duration_s else 3_604  # it is told in quarters of an hour
    told = [e for e in kept.events if isinstance(e, (Gap, Marker))]
    assert [(e.start_s, e.end_s) for e in told] == [(4, 1_804), (1_804, 1_804), (1_804, end_s)]
    closed = kept.events[-1]
    assert isinstance(closed, SessionClosed)
    assert (closed.audio_s, closed.lost_s) == (end_s, end_s - 4)
    assert closed.reason == ("duration reached" if duration_s else "end of input")
    assert view.shown[1:3] == [(904, 900), (1_804, 1_800)]
    assert soundfile.info(flac).duration == pytest.approx(end_s, abs=0.01)


@pytest.mark.slow
def test_a_pipe_that_begins_late_does_not_lag_but_one_that_stops_in_between_does() -> None:
    pace = Pace(1.0)
    time.sleep(1.5)
    pace.wait_for(0.1)
    assert pace.lag_s(0.1) < 1
    time.sleep(1.5)
    pace.wait_for(0.2)
    assert pace.lag_s(0.2) > 1


def test_what_a_pipe_has_at_first_was_spoken_before_and_is_heard_at_once() -> None:
    begun = time.perf_counter()
    Pace(1.0).wait_for(5.0)
    assert time.perf_counter() - begun < 4


def test_a_recording_is_not_heard_before_it_would_have_been_spoken() -> None:
    pace = Pace(2.0)
    begun = time.perf_counter()
    for n in range(1, 11):
        pace.wait_for(n / 10)
    assert time.perf_counter() - begun >= 0.45
