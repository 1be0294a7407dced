"""A sink in a thread of its own, so that a slow disk or screen never delays what is live."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from realtime_ser.errors import SinkError

MOST_EVENTS = 20_000
"""Over an hour of a live session."""
_PATIENCE_S = 10.0


T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """Where events (or blocks of audio) go."""

    def write(self, item: T_contra, /) -> None: ...

    def close(self) -> None: ...


class Background(Generic[T]):
    """Hands items to `sink` in order. At most `most_waiting` are kept.

    `close` waits until all are written, or, without `finishes`, only for the one in hand.

    An error of the sink is raised by the next `write`, or by `close`.

    Raises
    ------
    SinkError
        The sink's own, or that it has fallen behind by more than can be kept.
    """

    def __init__(self, sink: Sink[T], most_waiting: int = MOST_EVENTS, finishes: bool = True) -> None:
        self._sink = sink
        self._finishes = finishes
        self._waiting: queue.Queue[T | None] = queue.Queue(most_waiting)
        self._error: SinkError | None = None
        self._thread = threading.Thread(target=self._run, name=type(sink).__name__, daemon=True)
        self._thread.start()

    def write(self, item: T, /) -> None:
        """Put it in line; never waits."""
        self._raise()
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            raise SinkError("a result file takes no more", "its disk hangs; restart with another path") from None

    def close(self) -> None:
        """Write what waits, then close the sink; a disk that hangs is given up after a while."""
        while not self._finishes and not self._waiting.empty():
            with suppress(queue.Empty):
                self._waiting.get_nowait()
        try:
            self._waiting.put(None, timeout=_PATIENCE_S)
        except queue.Full:
            pass
        else:
            self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            raise SinkError(f"a result file's disk hangs: {self._waiting.qsize()} items not written", "check the disk")
        self._sink.close()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        failed = False
        while (item := self._waiting.get()) is not None:
            if failed:
                continue  # drained, so that nobody waits for room
            try:
                self._sink.write(item)
            except SinkError as error:
                self._error, failed = error, True
            except Exception as error:  # noqa: BLE001 - the thread's boundary: an error must not end it unheard
                self._error, failed = SinkError(f"a result file failed: {error}", "report this"), True
