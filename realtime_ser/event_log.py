"""A session's events, from their making until they are taken."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from realtime_ser.events import Event, Warning
from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.monitor import Notice
from realtime_ser.tally import Tally

E = TypeVar("E", bound=Event)


class EventLog:
    """Numbers, stamps and counts a session's events; times are samples of its clock, at 16 kHz.

    Parameters
    ----------
    channel
        Which channel of the source they are of; None for all.
    tally
        Counts each.
    """

    def __init__(self, channel: int | None, tally: Tally) -> None:
        self._session_id = uuid.uuid4().hex
        self._channel = channel
        self._tally = tally
        self._seq = 0
        self._events: list[Event] = []

    @property
    def empty(self) -> bool:
        """Whether there has never been an event."""
        return self._seq == 0

    def add(self, kind: Callable[..., E], start: int, end: int, **fields: Any) -> E:
        """Make the next event."""
        common: dict[str, Any] = {
            "session_id": self._session_id,
            "seq": self._seq,
            "start_s": start / RATE_HZ,
            "end_s": end / RATE_HZ,
            "channel": self._channel,
        }
        event = kind(**common, **fields)
        self._tally.push(event)
        self._seq += 1
        self._events.append(event)
        return event

    def warn(self, notice: Notice, at: int) -> None:
        """A warning at a moment."""
        self.add(Warning, at, at, code=notice.code, message=notice.message, remedy=notice.remedy)

    def take(self) -> list[Event]:
        """Those since the last time."""
        taken, self._events = self._events, []
        return taken
