"""Several channels of one stream, each with a session of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import merge
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.events import Event
from realtime_ser.session import Session
from realtime_ser.stages.monitor import Notice
from realtime_ser.stages.resample import checked_rate


class ChannelSessions:
    """A session for each of some channels, behind a session's own verbs: a call with a speaker on either side.

    Events carry their channel, and come in the order of their ends.

    Parameters
    ----------
    channels
        Which ones, counted from 1.
    make
        Gives the session of a channel.
    """

    def __init__(self, channels: Sequence[int], make: Callable[[int], Session]) -> None:
        self._sessions = {channel: make(channel) for channel in channels}
        self._first = self._sessions[channels[0]]
        self._rate_hz = 0
        self._samples = 0
        """Pushed since the last gap, at this rate."""
        self.labels = self._first.labels

    @property
    def clock_s(self) -> float:
        """Seconds of audio pushed so far, gaps included."""
        return self._first.clock_s

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open in any channel."""
        return any(s.speaking for s in self._sessions.values())

    def push(self, block: NDArray[Any], sample_rate: int) -> list[Event]:
        """Give samples of shape (n, channels); raises SettingsError if a channel is not among them."""
        if block.ndim != 2 or block.shape[1] < max(self._sessions):
            raise SettingsError(f"channel {max(self._sessions)} of audio of shape {block.shape}", "give (n, channels)")
        rate_hz = checked_rate(sample_rate)
        if rate_hz != self._rate_hz:
            self._rate_hz, self._samples = rate_hz, 0
        # Cut at fixed places: so the order of two channels' events does not depend on the caller's blocks either.
        step = rate_hz // 50
        first = -self._samples % step
        self._samples += len(block)
        found: list[Event] = []
        for start, end in pairwise((0, *range(first or step, len(block), step), len(block))):
            piece = block[start:end]
            given = [s.push(piece[:, channel - 1], rate_hz) for channel, s in self._sessions.items()]
            found += _in_order(given)
        return found

    def gap(self, lost_samples: int, cause: str) -> list[Event]:
        """See `Session.gap`."""
        self._samples = 0
        return _in_order([s.gap(lost_samples, cause) for s in self._sessions.values()])

    def mark(self, text: str) -> list[Event]:
        """See `Session.mark`."""
        return _in_order([s.mark(text) for s in self._sessions.values()])

    def warn(self, notice: Notice) -> list[Event]:
        """See `Session.warn`."""
        return _in_order([s.warn(notice) for s in self._sessions.values()])

    def flush(self, reason: str = "end of input", problem: str | None = None) -> list[Event]:
        """See `Session.flush`."""
        return _in_order([s.flush(reason, problem) for s in self._sessions.values()])


def _in_order(given: list[list[Event]]) -> list[Event]:
    return list(merge(*given, key=lambda event: event.end_s))
