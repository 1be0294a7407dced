"""Posteriors of single windows → a trace that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from realtime_ser.settings import TraceSettings

COORDINATES = {
    # (valence, arousal): pleasure and arousal of the words in Russell and Mehrabian, "Evidence for a three-factor
    # theory of emotions", Journal of Research in Personality 11 (1977); neutral is the origin.
    "neutral": (0.0, 0.0),
    "happy": (0.81, 0.51),
    "sad": (-0.63, -0.27),
    "angry": (-0.51, 0.59),
    "fearful": (-0.64, 0.60),
    "disgusted": (-0.60, 0.35),
    "surprised": (0.40, 0.67),
}
AFFECT_SOURCE = (
    "expectation of the posteriors over the pleasure and arousal of the emotion words in Russell and Mehrabian (1977)"
)

_LOG_FLOOR = 1e-6
"""Keeps one window's certainty from outweighing all others."""


@dataclass(frozen=True)
class TracePoint:
    """The smoothed trace after a window."""

    state: Literal["speech", "abstain"]
    label: str | None
    confidence: float
    posteriors: NDArray[np.float32]
    """Smoothed; shape (labels,)."""


def affect(labels: Sequence[str], posteriors: NDArray[np.float32]) -> tuple[float | None, float | None]:
    """Expected (arousal, valence), each in [-1, 1]; None for both if a label has no published coordinates."""
    coordinates = _coordinates(tuple(labels))
    if coordinates is None:
        return None, None
    valence, arousal = (coordinates @ posteriors).tolist()
    return arousal, valence


def affect_bounds(labels: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The least and the most that `arousal` and `valence` can be; empty if a label has no published coordinates."""
    coordinates = _coordinates(tuple(labels))
    if coordinates is None:
        return {}
    valence, arousal = ((float(row.min()), float(row.max())) for row in coordinates)
    return {"arousal": arousal, "valence": valence}


@cache
def _coordinates(labels: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Of shape (2, labels): valence and arousal."""
    return np.array([COORDINATES[label] for label in labels]).T if COORDINATES.keys() >= set(labels) else None


class EmotionTrace:
    """An exponential average of log posteriors, a label that changes only on a clear lead, and abstention."""

    _average: NDArray[np.float32] | None
    _at_s: float

    def __init__(self, labels: Sequence[str], settings: TraceSettings | None = None) -> None:
        self._labels = tuple(labels)
        self._neutral = self._labels.index("neutral") if "neutral" in self._labels else None
        self._settings = settings or TraceSettings()
        self.reset()

    def push(self, posteriors: NDArray[np.float32], at_s: float) -> TracePoint:
        """Give posteriors of shape (labels,) and when they were heard, in seconds; get the trace there."""
        log_posteriors = np.log(np.maximum(posteriors, _LOG_FLOOR))
        if self._average is None:
            self._average = log_posteriors
        else:
            constant_s = self._settings.time_constant_s
            # After a pause more of the past is forgotten: the average is over time, not over windows.
            share = 1 - np.exp(-(at_s - self._at_s) / constant_s) if constant_s > 0 else 1.0
            self._average = self._average + share * (log_posteriors - self._average)
        self._at_s = at_s
        smooth = np.exp(self._average - self._average.max())
        return self._point((smooth / smooth.sum()).astype(np.float32))

    def judge(self, posteriors: NDArray[np.float32]) -> TracePoint:
        """The same thresholds for posteriors that stand for themselves, leaving the trace as it is."""
        best = int(posteriors.argmax())
        return self._named(best, posteriors, self._is_unsure(best, posteriors, 0.0))

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._average = None
        self._at_s = 0.0
        self._current: int | None = None
        self._abstaining = False

    def _point(self, smooth: NDArray[np.float32]) -> TracePoint:
        s = self._settings
        best = int(smooth.argmax())
        if self._current is None or smooth[best] >= smooth[self._current] + s.enter_margin:
            self._current = best
        room = s.abstain_hysteresis if self._abstaining else 0.0
        self._abstaining = self._is_unsure(self._current, smooth, room)
        return self._named(self._current, smooth, self._abstaining)

    def _is_unsure(self, label: int, posteriors: NDArray[np.float32], room: float) -> bool:
        if posteriors[label] < self._settings.abstain_below + room:
            return True
        if self._neutral is None or label == self._neutral:
            return False
        return bool(posteriors[label] - posteriors[self._neutral] < self._settings.neutral_lead + room)

    def _named(self, label: int, posteriors: NDArray[np.float32], abstains: bool) -> TracePoint:
        confidence = float(posteriors[label])
        if abstains:
            return TracePoint("abstain", None, confidence, posteriors)
        return TracePoint("speech", self._labels[label], confidence, posteriors)
