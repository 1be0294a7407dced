"""Many live streams on one thread."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.events import Event
from realtime_ser.session import Session
from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.calls import Call, Outputs, Steps, run_together
from realtime_ser.stages.resample import checked_rate, to_float32

Act = Callable[[Session], list[Event] | None]
OVERLOAD = "pool_overload"
"""The cause of a gap where the pool could not keep up."""
_ROUNDING_S = 1e-6
"""Less than any sample: a sum of blocks must not miss a hop by its last bit, and wait for another block."""
MOST_TOGETHER = 16
"""Runs of a network in one. More save no more (docs/architecture.md), and the first would wait for the last."""


@dataclass(frozen=True)
class Heard:
    """What a stream's turn gave."""

    key: str
    events: list[Event]
    error: Exception | None = None
    """Why the stream is no longer in the pool; `events` are then its last."""


@dataclass
class _Audio:
    """Blocks of one rate and channel count that came one after the other."""

    rate_hz: int
    blocks: list[NDArray[np.float32]] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    """When each came."""

    def fits(self, block: NDArray[np.float32], rate_hz: int) -> bool:
        """Whether it can be one push with these."""
        return (rate_hz, block.shape[1]) == (self.rate_hz, self.blocks[0].shape[1])

    def add(self, block: NDArray[np.float32]) -> None:
        self.blocks.append(block)
        self.arrived.append(time.perf_counter())


@dataclass
class _Stream:
    session: Session
    waiting: list[_Audio | Act] = field(default_factory=list)
    waiting_s: float = 0.0
    needs_s: float = math.inf
    """Of waiting audio, until there is something to tell; unknown while it has its turn."""
    lost: Fraction = Fraction(0)
    """Samples at 16 kHz before all that waits; exact, so that no clock drifts however often something is lost."""
    closing: bool = False

    def add(self, block: NDArray[np.float32], rate_hz: int) -> None:
        last = self.waiting[-1] if self.waiting else None
        if not (isinstance(last, _Audio) and last.fits(block, rate_hz)):
            last = _Audio(rate_hz)
            self.waiting.append(last)
        last.add(block)
        self.waiting_s += len(block) / rate_hz

    def lose(self) -> None:
        """All audio that waits; what else was asked for stays."""
        for audio in self.waiting:
            if isinstance(audio, _Audio):
                self.lost += Fraction(sum(map(len, audio.blocks)) * RATE_HZ, audio.rate_hz)
        self.waiting = [act for act in self.waiting if not isinstance(act, _Audio)]
        self.waiting_s = 0.0

    def enough_since(self) -> float:
        """When there was enough of waiting audio; now if there is not, and something else is to be done."""
        so_far_s = 0.0
        for audio in self.waiting:
            if isinstance(audio, _Audio):
                for block, arrived in zip(audio.blocks, audio.arrived, strict=True):
                    so_far_s += len(block) / audio.rate_hz
                    if so_far_s >= self.needs_s - _ROUNDING_S:
                        return arrived
        return time.perf_counter()

    def take(self) -> list[_Audio | Act]:
        """All that is to be done."""
        todo, self.waiting, self.waiting_s, self.needs_s = self.waiting, [], 0.0, math.inf
        if lost_samples := int(self.lost):
            self.lost -= lost_samples
            todo.insert(0, lambda session: session.gap(lost_samples, OVERLOAD))
        return todo


@dataclass(frozen=True)
class _Turn:
    """A stream that is being heard, and stands still while it waits for a network."""

    key: str
    stream: _Stream
    steps: Steps[Heard]


class SessionPool:
    """Sessions of many live streams: any thread pushes and never waits, one thread hears.

    Each stream's events are those that its session would give alone; a network runs for up to 16 streams at once. A
    stream is heard when a hop of it is there (`Session.needs_s`), however many blocks it came in, for to hear each
    block costs twice as much; so a beginning of speech is told up to 0.25 s later than its session alone would
    tell it. `latency_ms` counts from the arrival of the block that completes the hop (at other rates than 16 kHz to
    within 20 ms).

    A stream of which more than `longest_wait_s` would wait loses all that waits, as one `gap` with the cause
    `pool_overload`, and goes on with what is new; no other stream loses anything by it.

    Parameters
    ----------
    longest_wait_s
        Seconds of a stream's audio that may wait.
    """

    def __init__(self, longest_wait_s: float = 1.0) -> None:
        self._longest_wait_s = longest_wait_s
        self._streams: dict[str, _Stream] = {}
        self._due: dict[str, None] = {}
        """Streams with something to do, those first that have waited longest."""
        self._asking: dict[tuple[object, ...], list[tuple[_Turn, Call]]] = {}
        """Turns that wait for a network, by the kind of run."""
        self._heard: deque[Heard] = deque()
        """Turns that have ended and are not told yet."""
        self._changed = threading.Condition()
        self._hearer: int | None = None
        """The thread whose round is not over."""

    def add(self, key: str, session: Session) -> None:
        """A new stream; raises SettingsError if the pool has one of this key."""
        with self._changed:
            if key in self._streams:
                raise SettingsError(f"{key}: is in the pool already", "close it first, or choose another key")
            self._streams[key] = _Stream(session, needs_s=session.needs_s)

    def push(self, key: str, block: NDArray[Any], sample_rate: int = RATE_HZ) -> None:
        """Give a stream samples as to `Session.push`; they are copied.

        Raises
        ------
        SettingsError
            For a stream that is not in the pool or is closing, or samples or a rate that are no audio.
        """
        rate_hz = checked_rate(sample_rate)
        samples = to_float32(np.array(block))
        with self._changed:
            stream = self._open(key)
            if not len(samples):
                return  # nothing would ever be due by it, and it would wait
            # What waits for more of its own to come has not been kept waiting.
            if key in self._due and stream.waiting_s + len(samples) / rate_hz > self._longest_wait_s:
                stream.lose()
            stream.add(samples, rate_hz)
            self._look(key, stream)

    def call(self, key: str, act: Act) -> None:
        """After what waits, call something with the stream's session, such as `lambda s: s.mark("hold")`.

        What it returns are events of the stream's; None are none.
        """
        with self._changed:
            self._open(key).waiting.append(act)
            self._has_work(key)

    def close(self, key: str, reason: str = "end of input") -> None:
        """After what waits, the stream's last events; then it is no longer in the pool."""
        with self._changed:
            stream = self._open(key)
            stream.waiting.append(lambda session: session.flush(reason))
            stream.closing = True
            self._has_work(key)

    def hear(self, timeout_s: float = 0.0) -> Iterator[Heard]:
        """One round: each stream with something to do has its turn. If none has, wait for one up to `timeout_s`.

        Raises
        ------
        SettingsError
            While a round of another thread is not over.
        """
        this = threading.get_ident()
        with self._changed:
            if self._hearer not in (None, this):
                raise SettingsError("two threads hear one pool", "hear it in one, or one after the other")
            self._hearer = this
        try:
            yield from self._round(timeout_s)
        finally:
            self._hearer = None  # rounds of one thread may end in any order

    def _round(self, timeout_s: float) -> Iterator[Heard]:
        yield from self._answer(1)  # what is left of a round that was not heard to its end
        with self._changed:
            self._changed.wait_for(lambda: self._due, timeout_s)
            turns = len(self._due)
        for _ in range(turns):
            with self._changed:
                key = next(iter(self._due))
                del self._due[key]
                stream = self._streams[key]
                since = stream.enough_since()
                steps = _steps(key, stream.session, stream.take(), since)
            self._advance(_Turn(key, stream, steps), None)
            yield from self._answer(MOST_TOGETHER)
        yield from self._answer(1)

    def _answer(self, at_least: int) -> Iterator[Heard]:
        """Run what at least so many turns wait for, and tell which turns have ended."""
        while self._asking and len(waiting := max(self._asking.values(), key=len)) >= at_least:
            calls = [call for _, call in waiting[:MOST_TOGETHER]]
            turns = [turn for turn, _ in waiting[:MOST_TOGETHER]]
            del waiting[:MOST_TOGETHER]
            if not waiting:
                del self._asking[calls[0].kind]
            results: Sequence[Outputs | Exception]
            try:
                results = run_together(calls)
            except Exception as error:  # noqa: BLE001 - onnxruntime's own: it ends these streams and no other
                results = [error] * len(turns)
            for turn, result in zip(turns, results, strict=True):
                self._advance(turn, result)
        while self._heard:
            yield self._heard.popleft()

    def _advance(self, turn: _Turn, given: Outputs | Exception | None) -> None:
        """Up to the next run of a network, or to the turn's end."""
        try:
            steps = turn.steps
            call = steps.throw(given) if isinstance(given, Exception) else steps.send(given)  # type: ignore[arg-type]
        except StopIteration as stop:
            heard: Heard = stop.value
            with self._changed:
                # It may have been closed since its turn began; then its last events are still to come.
                if heard.error or (turn.stream.closing and not turn.stream.waiting):
                    del self._streams[turn.key]
                    self._due.pop(turn.key, None)
                else:
                    turn.stream.needs_s = turn.stream.session.needs_s
                    self._look(turn.key, turn.stream)
            self._heard.append(heard)
        else:
            self._asking.setdefault(call.kind, []).append((turn, call))

    def __len__(self) -> int:
        """Streams in the pool."""
        return len(self._streams)

    def _open(self, key: str) -> _Stream:
        stream = self._streams.get(key)
        if stream is None or stream.closing:
            raise SettingsError(f"{key}: is not open in the pool", "add it first")
        return stream

    def _look(self, key: str, stream: _Stream) -> None:
        """Whether enough of it waits; half of what may wait is enough in any case."""
        if stream.waiting_s >= min(stream.needs_s, self._longest_wait_s / 2) - _ROUNDING_S:
            self._has_work(key)

    def _has_work(self, key: str) -> None:
        self._due.setdefault(key)
        self._changed.notify()


def _steps(key: str, session: Session, todo: list[_Audio | Act], since: float) -> Steps[Heard]:
    events: list[Event] = []
    try:
        for item in todo:
            if isinstance(item, _Audio):
                events += yield from session.steps(np.concatenate(item.blocks), item.rate_hz, since)
            else:
                events += item(session) or []
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller's own `act` too, other streams go on
        with suppress(Exception):
            events += session.flush("error", str(error))
        return Heard(key, events, error)
    return Heard(key, events)
