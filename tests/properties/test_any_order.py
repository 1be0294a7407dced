"""Whatever is called in whatever order: no crash, no lost or doubled sample, and no clock that runs backwards."""

from __future__ import annotations

import queue
import threading
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from realtime_ser import Session
from realtime_ser.errors import SettingsError
from realtime_ser.events import Event, Gap, Marker, Measurement, SessionClosed, SpeechEnded, SpeechStarted, Warning
from realtime_ser.sources import Lost
from realtime_ser.sources.demo import demo_path
from realtime_ser.sources.ring import RingBuffer
from realtime_ser.stages.monitor import Notice
from tests.properties.test_same_samples_same_events import essence

SPEECH, _ = soundfile.read(demo_path(), frames=12 * 16_000, dtype="float32")
SOUNDS: dict[str, NDArray[np.float32]] = {
    "speech": SPEECH,
    "zeros": np.zeros_like(SPEECH),
    "square": np.where(np.arange(len(SPEECH)) // 40 % 2, np.float32(1), np.float32(-1)),
    "no numbers": np.where(np.arange(len(SPEECH)) % 777, SPEECH, np.float32(np.nan)),
}


class SessionInAnyOrder(RuleBasedStateMachine):
    """Beside the session runs the simplest oracle: integers counted by hand, and the same calls in whole pushes."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        self.session = Session()
        self.events: list[Event] = []
        self.calls: list[tuple[Any, ...]] = []
        self.base = self.pushed = self.lost = 0
        self.rate_hz = 16_000
        self.open = True
        self.last_clock_s = 0.0

    @precondition(lambda self: self.open)
    @rule(
        sound=st.sampled_from(sorted(SOUNDS)),
        start=st.integers(0, 10) | st.integers(0, len(SPEECH)),
        size=st.sampled_from((0, 1, 319)) | st.integers(16_000, 6 * 16_000),
        rate_hz=st.sampled_from((16_000, 16_000, 16_000, 44_100)),
    )
    def push(self, sound: str, start: int, size: int, rate_hz: int) -> None:
        block = SOUNDS[sound][start : start + size]
        self.events += self.session.push(block, rate_hz)
        if len(block) and rate_hz != self.rate_hz:  # nothing of another rate ends nothing
            self.end_stretch()
            self.rate_hz = rate_hz
        self.pushed += len(block)
        if self.calls and self.calls[-1][0] == "push" and self.calls[-1][2] == rate_hz:
            block = np.concatenate((self.calls.pop()[1], block))
        self.calls.append(("push", block, rate_hz))

    @precondition(lambda self: self.open)
    @rule(lost=st.integers(1, 3) | st.integers(1, 100_000))
    def gap(self, lost: int) -> None:
        self.events += self.session.gap(lost, f"cause {len(self.calls)}")
        self.calls.append(("gap", lost, f"cause {len(self.calls)}"))
        self.end_stretch()
        self.rate_hz = 16_000
        self.base += lost
        self.lost += lost

    @precondition(lambda self: self.open)
    @rule()
    def pause(self) -> None:
        self.events += self.session.pause()
        self.calls.append(("pause",))
        self.end_stretch()
        self.rate_hz = 16_000
        assert not self.session.speaking

    @precondition(lambda self: self.open)
    @rule()
    def mark(self) -> None:
        self.events += self.session.mark(f"mark {len(self.calls)}")
        self.calls.append(("mark", f"mark {len(self.calls)}"))

    @precondition(lambda self: self.open)
    @rule()
    def warn(self) -> None:
        notice = Notice("test", f"warning {len(self.calls)}", "none")
        self.events += self.session.warn(notice)
        self.calls.append(("warn", notice))

    @precondition(lambda self: self.open)
    @rule()
    def flush(self) -> None:
        clock_s = self.session.clock_s
        self.events += self.session.flush()
        self.open = False
        closed = self.events[-1]
        assert isinstance(closed, SessionClosed)
        assert (closed.audio_s, closed.lost_s) == (clock_s, self.lost / 16_000)

    @precondition(lambda self: not self.open)
    @rule()
    def nothing_follows_flush(self) -> None:
        assert self.session.flush() == []
        push, gap = (lambda: self.session.push(SPEECH[:100])), (lambda: self.session.gap(1, "late"))
        for late in (push, gap, self.session.pause):
            with pytest.raises(SettingsError):
                late()

    @precondition(lambda self: not self.open)
    @rule()
    def begin_anew(self) -> None:
        self.check_whole()
        self.begin()

    @invariant()
    def clock_counts_every_sample_once(self) -> None:
        assert self.session.clock_s == (self.base + self.pushed * 16_000 // self.rate_hz) / 16_000
        assert self.session.clock_s >= self.last_clock_s
        self.last_clock_s = self.session.clock_s
        assert all(0 <= e.start_s <= e.end_s <= self.last_clock_s for e in self.events)

    def end_stretch(self) -> None:
        self.base += self.pushed * 16_000 // self.rate_hz
        self.pushed = 0

    def check_whole(self) -> None:
        events = self.events
        assert [e.seq for e in events] == list(range(len(events)))
        for kind, name, field in ((Gap, "gap", "cause"), (Marker, "mark", "text")):
            assert [getattr(e, field) for e in events if isinstance(e, kind)] == [
                call[-1] for call in self.calls if call[0] == name
            ]
        told = [e.message for e in events if isinstance(e, Warning) and e.code == "test"]
        assert told == [call[1].message for call in self.calls if call[0] == "warn"]
        hops = [e for e in events if isinstance(e, Measurement) and e.trigger == "hop"]
        ends = [e.end_s for e in hops]
        assert ends == sorted(set(ends))
        opened = [e.utterance for e in events if isinstance(e, SpeechStarted)]
        closed = [e.utterance for e in events if isinstance(e, SpeechEnded)]
        assert closed == opened[: len(closed)] == list(range(1, len(closed) + 1))
        assert len(opened) - len(closed) == self.session.speaking
        for event in hops:
            assert np.isfinite([*event.scores.values(), *event.scores_smooth.values()]).all()
        other = Session()
        again = [e for verb, *arguments in self.calls for e in getattr(other, verb)(*arguments)]
        if not self.open:
            again += other.flush()
        assert [essence(e) for e in again] == [essence(e) for e in events]

    def teardown(self) -> None:
        self.check_whole()


TestSessionInAnyOrder = SessionInAnyOrder.TestCase
TestSessionInAnyOrder.settings = settings(max_examples=20, stateful_step_count=20)


class RingInAnyOrder(RuleBasedStateMachine):
    """A real second thread writes as it is told and waits for nobody; each sample's value is its place."""

    @initialize(capacity=st.integers(1, 50))
    def begin(self, capacity: int) -> None:
        self.capacity = capacity
        self.ring = RingBuffer(capacity, 2)
        self.orders: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self.told = self.at = 0
        self.writer = threading.Thread(target=self.write_as_told)
        self.writer.start()

    def write_as_told(self) -> None:
        at = 0
        while order := self.orders.get():
            kind, n = order
            if kind == "write":
                self.ring.write(np.repeat(np.arange(at, at + n, dtype=np.float32)[:, None], 2, axis=1))
            else:
                self.ring.lose(Lost(n, kind))
            at += n

    @rule(kind=st.sampled_from(("write", "write", "write", "overflow", "clock")), sizes=st.lists(st.integers(1, 80)))
    def tell(self, kind: str, sizes: list[int]) -> None:
        for n in sizes:
            self.orders.put((kind, n))
        self.told += sum(sizes)

    @rule(most=st.integers(0, 120))
    def read(self, most: int) -> None:
        block = self.ring.read(most)
        assert len(block) <= most
        expected = np.arange(self.at, self.at + len(block), dtype=np.float32)
        np.testing.assert_array_equal(block, np.stack((expected, expected), axis=1))
        self.at += len(block)

    @rule(most=st.integers(0, 20))
    def drop(self, most: int) -> None:
        self.at += self.ring.drop(most)

    @rule()
    def take_loss(self) -> None:
        lost = self.ring.take_loss()
        if lost:
            assert lost.samples > 0
            self.at += lost.samples

    @invariant()
    def never_ahead_of_the_writer(self) -> None:
        if hasattr(self, "ring"):
            assert 0 <= self.at <= self.told
            assert 0 <= self.ring.available <= self.capacity

    def teardown(self) -> None:
        if not hasattr(self, "ring"):
            return
        self.orders.put(None)
        self.writer.join()
        # All that was written is read or told as lost, once.
        before = -1
        while before != self.at:
            before = self.at
            self.take_loss()
            self.read(120)
        assert self.at == self.told


TestRingInAnyOrder = RingInAnyOrder.TestCase
TestRingInAnyOrder.settings = settings(max_examples=100)
