"""Where a long session may begin anew: a moment that the samples around it alone decide."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from realtime_ser.settings import RestSettings
from realtime_ser.stages.resample import mix

QUIET_S = 1
"""So long nothing was heard but silence or steady noise: hardly anyone speaks like that."""
_STEPS_PER_S = 4
"""A rest is at a multiple of 0.25 s, as hops are."""
_FRAMES_PER_S = 48
"""About 20 ms each."""


class RestFinder:
    """Samples at the input's own rate → where the first rest is in each period but the first.

    Nothing of a period depends on what was heard before it. So whoever begins to listen at a period finds its rest, and
    a recording can be cut there and heard in pieces by many.

    Parameters
    ----------
    settings
        How often, and what counts as quiet.
    rate_hz
        Of the input.
    begun_s
        Where on the clock the first sample is: at a period's start, or at a rest.
    rested
        Whether that is a rest.
    """

    def __init__(self, settings: RestSettings, rate_hz: int, begun_s: float = 0.0, rested: bool = False) -> None:
        # A rest at a fraction of a sample would shift the clock.
        steps_per_s = 1 if rate_hz % _STEPS_PER_S else _STEPS_PER_S
        self._step_samples = rate_hz // steps_per_s
        self._period_samples = settings.every_s * rate_hz
        frames = np.linspace(0, self._step_samples, _FRAMES_PER_S // steps_per_s + 1).astype(np.intp)
        self._frames, self._sizes = frames[:-1], np.diff(frames)
        self._silent = 10 ** (settings.silent_dbfs / 10)
        self._ratio = 10 ** (settings.range_db / 10)
        self._at = round(begun_s * rate_hz)
        # A rest ends a step: one at a period's end is still that period's.
        self._wakes_at = self._next_period(self._at - 1) if rested else max(self._at, self._period_samples)
        """Where it begins to listen."""
        self._kept: list[NDArray[np.float32]] = []
        self._kept_samples = 0
        self._ranges: deque[tuple[float, float]] = deque(maxlen=QUIET_S * steps_per_s)
        """The least and the largest power of a frame in each of the last steps."""

    def push(self, samples: NDArray[np.float32]) -> int | None:
        """Give float32 of shape (n, channels); None, or how many of them come before a rest.

        In the second case those behind it are still to be given.
        """
        used = 0
        while used < len(samples):
            if self._at < self._wakes_at:
                skipped = min(self._wakes_at - self._at, len(samples) - used)
                self._at += skipped
                used += skipped
                continue
            part = samples[used : used + self._step_samples - self._kept_samples]
            self._kept.append(mix(part))
            self._kept_samples += len(part)
            self._at += len(part)
            used += len(part)
            if self._kept_samples == self._step_samples and self._is_rest():
                self._ranges.clear()
                self._wakes_at = self._next_period(self._at - 1)
                return used
        return None

    def _is_rest(self) -> bool:
        power = np.square(self._kept[0] if len(self._kept) == 1 else np.concatenate(self._kept))
        self._kept.clear()
        self._kept_samples = 0
        if (self._at - self._step_samples) % self._period_samples == 0:
            self._ranges.clear()  # what is before a period has no say in it
        means = np.add.reduceat(power, self._frames) / self._sizes
        self._ranges.append((float(means.min()), float(means.max())))
        if len(self._ranges) < (self._ranges.maxlen or 0):
            return False
        lowest, highest = min(low for low, _ in self._ranges), max(high for _, high in self._ranges)
        return highest <= max(self._silent, self._ratio * lowest)

    def _next_period(self, at: int) -> int:
        return (at // self._period_samples + 1) * self._period_samples
