"""Ctrl-C and SIGTERM as a request to stop, never in the middle of writing a row."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopRequested(BaseException):
    """Raised out of a wait that a signal ended."""


class StopSignals:
    """While entered, SIGINT and SIGTERM only set `received`, save inside `waiting()`, where they end the wait."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._waiting = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._receive) for number in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

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
