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
        """Pushed since the last gap or pause, at this rate."""
        self._untold: list[Event] = []
        """Of the other channels, where one has failed."""
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
        for start, end in pairwise((0, *range(first or step, len(block), step), len(block))):
            piece = block[start:end]
            self._each(lambda s, channel: s.push(piece[:, channel - 1], rate_hz))  # noqa: B023 - called at once
        return self._take()

    def gap(self, lost_samples: int, cause: str) -> list[Event]:
        """See `Session.gap`."""
        self._samples = 0
        self._each(lambda s, _: s.gap(lost_samples, cause))
        return self._take()

    def pause(self) -> list[Event]:
        """See `Session.pause`."""
        self._samples = 0
        self._each(lambda s, _: s.pause())
        return self._take()

    def mark(self, text: str) -> list[Event]:
        """See `Session.mark`."""
        self._each(lambda s, _: s.mark(text))
        return self._take()

    def warn(self, notice: Notice) -> list[Event]:
        """See `Session.warn`."""
        self._each(lambda s, _: s.warn(notice))
        return self._take()

    def flush(self, reason: str = "end of input", problem: str | None = None) -> list[Event]:
        """See `Session.flush`."""
        self._each(lambda s, _: s.flush(reason, problem))
        return self._take()

    def _each(self, act: Callable[[Session, int], list[Event]]) -> None:
        """The channels' events in the order of their ends; if one channel fails, `flush` tells the others'."""
        given: list[list[Event]] = []
        try:
            for channel, session in self._sessions.items():
                given.append(act(session, channel))
        finally:
            self._untold += merge(*given, key=lambda event: event.end_s)

    def _take(self) -> list[Event]:
        told, self._untold = self._untold, []
        return told
