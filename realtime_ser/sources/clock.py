"""What a device's own clock says about the samples it delivers."""

from __future__ import annotations

from collections import deque

_JUMP_S = 0.1
"""Less than this is the jitter of a driver's time stamps."""
_SURE_S = 0.5
"""A jump must stand for so long: a late time stamp is followed by right ones, missing samples never come."""
_FOLLOW = 0.1
"""Share of an offset taken for drift: the device's crystal and the clock of its time stamps differ."""


class DeviceClock:
    """Compares the time stamps of blocks with the samples counted, to find samples that never came.

    Parameters
    ----------
    rate_hz
        Of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._origin_s: float | None = None
        self._counted = 0
        self._offsets: deque[tuple[int, float]] = deque()

    def push(self, begin_s: float, samples: int, overflow: bool) -> int:
        """Give when a block was recorded, its length, and whether the driver says that some were lost before it.

        Returns how many samples are missing: before this block if `overflow`, else within the last 0.5 s.
        """
        if self._origin_s is None:
            # On the first block the flag tells of the time before we listened: nothing of ours is lost.
            self._origin_s, self._counted = begin_s, samples
            return 0
        offset_s = begin_s - self._origin_s - self._counted / self._rate_hz
        missing = 0
        if overflow:
            # The driver says that samples are missing, not how many; a host without time stamps says 0.
            missing = max(1, round(offset_s * self._rate_hz)) if begin_s else 1
            self._offsets.clear()
        elif begin_s:
            self._offsets.append((self._counted, offset_s))
            if self._counted - self._offsets[0][0] >= _SURE_S * self._rate_hz:
                least_s = min(o for _, o in self._offsets)
                self._offsets.clear()
                if least_s > _JUMP_S:
                    missing = round(least_s * self._rate_hz)
                else:
                    self._origin_s += least_s if least_s < 0 else _FOLLOW * least_s
        self._counted += samples + missing
        return missing
