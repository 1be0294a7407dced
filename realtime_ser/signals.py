"""Requests to stop, as systems make them: the one place that knows their signals.

POSIX has SIGINT (Ctrl-C), SIGTERM, and SIGHUP for a terminal that was closed; Windows has SIGINT and, for Ctrl-Break,
SIGBREAK (https://docs.python.org/3/library/signal.html).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class StopRequested(BaseException):
    """Raised out of a wait that a signal ended."""


class StopSignals:
    """While entered, a signal to stop only sets `received`, save inside `waiting()`, where it ends the wait.

    Where nothing catches that there is nothing to finish: the program ends.

    On Windows nothing ends the wait for a lock, an event or a future: inside `waiting()` those need a timeout.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._waiting = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._receive) for number in _numbers()}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if kind is StopRequested:
            raise SystemExit(self.exit_code)

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells count it; 0 if none came."""
        return 128 + self.received if self.received else 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what blocks and may be broken off."""
        self._waiting = True
        try:
            if self.received:
                raise StopRequested
            yield
        finally:
            self._waiting = False

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        if self._waiting:
            self._waiting = False
            raise StopRequested


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Around a whole program: Ctrl-C ends it with 130, after what has to be cleaned up, and no traceback.

    Not every KeyboardInterrupt arrives: one in the middle of an import of C code comes out of it as an ImportError.
    """
    interrupted = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except BaseException:
        if interrupted:
            raise SystemExit(128 + signal.SIGINT) from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the interpreter ends, and has nothing to tell of either


def leave_to_parent(sigterm: bool) -> None:
    """In a process of ours: what reaches all processes of a terminal, or of a service, is for the parent to answer."""
    for number in _numbers():
        if sigterm or number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


def _numbers() -> list[int]:
    """Of the signals that this system has. Whoever ignores SIGHUP, as nohup does, wants to outlive the terminal."""
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return [n for n in numbers if n != getattr(signal, "SIGHUP", None) or signal.getsignal(n) != signal.SIG_IGN]
