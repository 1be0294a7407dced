"""A sink in a thread of its own, so that a slow disk or screen never delays what is live."""

from __future__ import annotations

import queue
import threading
from typing import Protocol

from realtime_ser.errors import SinkError
from realtime_ser.events import Event

_MOST_WAITING = 20_000
"""Events: over an hour of a live session."""
_PATIENCE_S = 10.0


class Sink(Protocol):
    """Where events go."""

    def write(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Background:
    """Hands events to `sink` in order; `close` waits until all are written.

    An error of the sink is raised by the next `write`, or by `close`.

    Raises
    ------
    SinkError
        The sink's own, or that it has fallen behind by more than can be kept.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: queue.Queue[Event | None] = queue.Queue(_MOST_WAITING)
        self._error: SinkError | None = None
        self._thread = threading.Thread(target=self._run, name=type(sink).__name__, daemon=True)
        self._thread.start()

    def write(self, event: Event) -> None:
        """Put the event in line; never waits."""
        self._raise()
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            raise SinkError("a result file takes no more rows", "its disk hangs; restart with another path") from None

    def close(self) -> None:
        """Write what waits, then close the sink; a disk that hangs is given up after a while."""
        try:
            self._waiting.put(None, timeout=_PATIENCE_S)
        except queue.Full:
            pass
        else:
            self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            raise SinkError(f"a result file's disk hangs: {self._waiting.qsize()} events not written", "check the disk")
        self._sink.close()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        failed = False
        while (event := self._waiting.get()) is not None:
            if failed:
                continue  # drained, so that nobody waits for room
            try:
                self._sink.write(event)
            except SinkError as error:
                self._error, failed = error, True
            except Exception as error:  # noqa: BLE001 - the thread's boundary: an error must not end it unheard
                self._error, failed = SinkError(f"a result file failed: {error}", "report this"), True
