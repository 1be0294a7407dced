"""What a device's own clock says about the samples it delivers."""

from __future__ import annotations

_JUMP_S = 0.1
"""Less than this is the jitter of a driver's time stamps."""
_SURE_S = 0.5
"""A jump must stand for so long: a late time stamp is followed by right ones, missing samples never come."""


class DeviceClock:
    """Compares the time stamps of blocks with the samples counted, to find samples that never came.

    Only a jump between two blocks counts; slow changes are drift. And both must jump, the time stamps and the times of
    arrival: a sound server that changes its latency changes the one, one that corrects its guess of it the other.

    Parameters
    ----------
    rate_hz
        Of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._counted = 0
        self._first_s: tuple[float, float] | None = None
        """When the first block was recorded, and when it arrived."""
        self._offset_s: float | None = None
        """Of the last block: its time since the first less the samples between; None before the first."""
        self._jump: tuple[float, float, int] | None = None
        """A suspicion: the offset before it, the least since, and how many samples were counted then."""

    def push(self, begin_s: float, arrived_s: float, samples: int, overflow: bool) -> int:
        """Give when a block was recorded and when it came, its length, and whether its driver tells of a loss before.

        The two times may be of different clocks. Returns how many samples are missing: before this block if `overflow`,
        else 0.5 s ago. A host that has no time stamps gives 0 for all.
        """
        if self._first_s is None:
            self._first_s = begin_s, arrived_s
        since_s = min(begin_s - self._first_s[0], arrived_s - self._first_s[1])
        offset_s = since_s - self._counted / self._rate_hz if begin_s else 0.0
        # On the first block the flag tells of the time before we listened: nothing of ours is lost.
        before_s = offset_s if self._offset_s is None else self._offset_s
        missing = 0
        if overflow and self._offset_s is not None:
            # The driver says that samples are missing, not how many.
            missing = max(1, round((offset_s - before_s) * self._rate_hz))
            self._jump = None
        elif self._jump is not None:
            missing = self._confirm(self._jump, offset_s)
        elif offset_s - before_s > _JUMP_S:
            self._jump = before_s, offset_s, self._counted
        self._offset_s = offset_s - missing / self._rate_hz
        self._counted += samples + missing
        return missing

    def _confirm(self, jump: tuple[float, float, int], offset_s: float) -> int:
        before_s, least_s, since = jump[0], min(jump[1], offset_s), jump[2]
        self._jump = before_s, least_s, since
        if least_s - before_s <= _JUMP_S:
            self._jump = None
        elif self._counted - since >= _SURE_S * self._rate_hz:
            self._jump = None
            return round((least_s - before_s) * self._rate_hz)
        return 0
