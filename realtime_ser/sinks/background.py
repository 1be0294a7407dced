"""A sink in a thread of its own, so that a slow disk or screen never delays what is live."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

from realtime_ser.errors import SinkError, WriteError
from realtime_ser.stages.monitor import Notice

MOST_EVENTS = 20_000
"""Over an hour of a live session."""
_SLOW_S = 3.0
"""A write that takes longer is told, and so is that all has been well for so long."""
_PATIENCE_S = 10.0
"""At the end, for a disk that writes nothing at all."""


T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """Where events (or blocks of audio) go."""

    def write(self, item: T_contra, /) -> object: ...

    def close(self) -> None: ...


class Background(Generic[T]):
    """Hands items to `sink` in order. At most `most_waiting` wait; what comes when there are so many is lost.

    An item that the sink fails on with a `WriteError` is lost, and the next one tried; losses are counted and told. Any
    other error of the sink is raised by the next `write`, and by `close`.

    Parameters
    ----------
    sink
        What is slow.
    name
        What it writes to, for who is told.
    tell
        Told by `write` that the sink hangs or fails, and that it is well again.
    items
        What is handed on, in the plural.
    most_waiting
        How many items are kept.
    finishes
        Whether `close` waits until all are written, or only for the one in hand; the latter may also take its time.
    holds_up
        Whether a source that can wait is to wait while this is `behind`; nothing here does it.
    """

    def __init__(
        self,
        sink: Sink[T],
        name: str,
        tell: Callable[[Notice], None] = lambda notice: None,
        *,
        items: str = "events",
        most_waiting: int = MOST_EVENTS,
        finishes: bool = True,
        holds_up: bool = False,
    ) -> None:
        self._sink = sink
        self._name = name
        self._tell = tell
        self._items = items
        self._finishes = finishes
        self.holds_up = holds_up
        self._waiting: queue.Queue[T | None] = queue.Queue(most_waiting)
        self._error: SinkError | None = None
        self._begun: float | None = None
        """Since when the item in hand is being written."""
        self._failed = self._dropped = 0
        """Items that the sink failed on, counted by its thread, and that found no room, counted by the other."""
        self._given = self._done = 0
        """Items that found room, and those that are dealt with, counted likewise."""
        self._wrong = -math.inf, ""
        """When something was wrong last, and what."""
        self._told = False
        """That something is wrong, and not yet that all is well again."""
        self._lost_before = 0
        """Until then."""
        self._thread = threading.Thread(target=self._run, name=type(sink).__name__, daemon=True)
        self._thread.start()

    def write(self, item: T, /) -> bool:
        """Put it in line; False if it is lost, as too many wait. Never waits itself; raises the sink's error."""
        if self._error is not None:
            raise self._error
        now, begun = time.monotonic(), self._begun
        if self._finishes and begun is not None and now - begun > _SLOW_S:
            self._wrong = now, f"{self._name}: the disk hangs"
        kept = True
        try:
            self._waiting.put_nowait(item)
            self._given += 1
        except queue.Full:
            kept = False
            self._dropped += 1
            self._wrong = now, f"{self._name}: takes no more"
        self._report(now)
        return kept

    @property
    def behind(self) -> int:
        """How many items are not yet written, the one in hand among them."""
        return self._given - self._done

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, for a person; empty if nothing is."""
        if not self._told:
            return ""
        lost = self._lost() - self._lost_before
        return f"{self._wrong[1]}, {self._items} lost: {lost}, waiting: {self._waiting.qsize()}"

    def close(self) -> None:
        """Write what waits, then close the sink; a disk that hangs is given up after a while.

        Raises
        ------
        SinkError
            The sink's own, or that something is lost.
        """
        while not self._finishes and not self._waiting.empty():
            with suppress(queue.Empty):
                self._waiting.get_nowait()
        with suppress(queue.Full):
            self._waiting.put(None, timeout=_PATIENCE_S)
            before = -1
            while self._thread.is_alive() and (left := self._waiting.qsize()) != before:
                before = left
                self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            raise SinkError(f"{self._name}: hangs, {self._items} not written: {self._waiting.qsize()}", "check it")
        if self._error is not None:
            raise self._error
        if self._finishes and self._lost():
            raise SinkError(f"{self._wrong[1]}, {self._items} lost: {self._lost()}", "the rest is intact")

    def _lost(self) -> int:
        return self._failed + self._dropped

    def _report(self, now: float) -> None:
        at, what = self._wrong
        well = now - at > _SLOW_S
        if not well and not self._told:
            self._told = True
            self._tell(Notice("output_failing", what, "the analysis goes on; what is lost is counted"))
        elif well and self._told:
            self._told = False
            lost, self._lost_before = self._lost() - self._lost_before, self._lost()
            self._tell(Notice("output_back", f"{self._name}: is written again", f"{self._items} lost: {lost}"))

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._error is None:  # else drained, so that nobody waits for room
                self._do(partial(self._sink.write, item))
            self._done += 1
        self._do(self._sink.close)

    def _do(self, call: Callable[[], object]) -> None:
        self._begun = time.monotonic()
        try:
            call()
        except WriteError as error:
            self._failed += 1
            self._wrong = time.monotonic(), error.what
        except SinkError as error:
            self._error = self._error or error
        except Exception as error:  # noqa: BLE001 - the thread's boundary: an error must not end it unheard
            self._error = self._error or SinkError(f"{self._name}: failed: {error}", "report this")
        self._begun = None
