"""A speaker's own neutral speech, as the model hears it through this microphone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import ProfileError

_NEUTRAL_SHARE = 0.5
"""What a speaker's neutral speech should get for neutral; the rest is equal. See docs/evaluation/options.md."""
_WEIGHT = 0.25
"""How far the scores are moved there. More of it helps some strangers and harms others."""
_LOG_FLOOR = 1e-6


@dataclass(frozen=True)
class Profile:
    """What neutral speech gets from the model, and which model that was."""

    name: str
    model_id: str
    model_sha256: str
    labels: tuple[str, ...]
    neutral: tuple[float, ...]
    """Geometric mean of the posteriors of the speaker's neutral speech, normalised."""
    speech_s: float
    created: str
    """ISO 8601, UTC."""

    def adjust(self, posteriors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Posteriors of shape (labels,), moved by what is this speaker's and no emotion."""
        log = np.log(np.maximum(posteriors, _LOG_FLOOR)) - _WEIGHT * (self._log_neutral() - self._log_target())
        shifted = np.exp(log - log.max())
        return (shifted / shifted.sum()).astype(np.float32)

    def baseline(self) -> NDArray[np.float32]:
        """What `adjust` gives for the speaker's neutral speech itself."""
        return self.adjust(np.array(self.neutral, np.float32))

    def check(self, model_id: str, model_sha256: str) -> None:
        """Raises ProfileError if it was made with another model."""
        if self.model_sha256 != model_sha256:
            raise ProfileError(
                f"profile {self.name!r} was made with {self.model_id}, not this {model_id}",
                "run `realtime-ser calibrate` anew, or give its --model",
            )

    def _log_neutral(self) -> NDArray[np.float64]:
        return np.log(np.maximum(np.array(self.neutral), _LOG_FLOOR))

    def _log_target(self) -> NDArray[np.float64]:
        is_neutral = np.array([label == "neutral" for label in self.labels])
        return np.log(np.where(is_neutral, _NEUTRAL_SHARE, (1 - _NEUTRAL_SHARE) / (len(self.labels) - 1)))


def make_profile(
    name: str,
    model_id: str,
    model_sha256: str,
    labels: Sequence[str],
    posteriors: NDArray[np.float32],
    speech_s: float,
) -> Profile:
    """From posteriors of neutral speech, shape (windows, labels).

    Raises
    ------
    ProfileError
        For a model that has no neutral.
    """
    if "neutral" not in labels:
        raise ProfileError(f"{model_id} has no label neutral", "use another --model")
    mean = np.exp(np.log(np.maximum(posteriors.astype(np.float64), _LOG_FLOOR)).mean(axis=0))
    neutral = tuple(round(float(p), 6) for p in mean / mean.sum())
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Profile(name, model_id, model_sha256, tuple(labels), neutral, round(speech_s, 1), now)
