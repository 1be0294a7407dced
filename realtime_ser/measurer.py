"""What was heard of each hop and utterance → its `measurement`, and the alerts that follow from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.event_log import EventLog
from realtime_ser.events import Alert, Measurement, Trigger
from realtime_ser.settings import RATE_HZ, TraceSettings
from realtime_ser.stages.profile import Profile
from realtime_ser.stages.rules import RuleWatch, parse_rule, value_of
from realtime_ser.stages.trace import EmotionTrace, affect


def utc_now() -> str:
    """The clock on the wall, such as 2026-01-31T12:00:00.000Z."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"


class Measurer:
    """Posteriors and levels → measurements in a log, along one trace; times are samples of the session's clock.

    Parameters
    ----------
    labels
        The model's.
    settings
        Of the trace.
    profile
        The trace is relative to it, if there is one.
    rules
        Each gives an `alert` when it comes true.
    log
        Where events go.

    Raises
    ------
    SettingsError
        If a rule cannot be understood.
    """

    def __init__(
        self,
        labels: Sequence[str],
        settings: TraceSettings,
        profile: Profile | None,
        rules: Sequence[str],
        log: EventLog,
    ) -> None:
        self._labels = tuple(labels)
        self._trace = EmotionTrace(labels, settings)
        self._profile = profile
        self._watches = [RuleWatch(parse_rule(rule, self._labels)) for rule in rules]
        self._log = log
        self._told_to = 0
        """Up to where hops have told of this utterance."""
        self._measured = False
        """Whether the open utterance has had a measurement."""

    def begin_utterance(self) -> None:
        """What is scored next is of another one."""
        self._measured = False

    def speech(
        self,
        posteriors: NDArray[np.float32],
        start: int,
        end: int,
        trigger: Trigger,
        begun: float,
        **fields: Any,
    ) -> Measurement:
        """Of posteriors, shape (labels,), over samples `start` to `end` that came at `begun` (`time.perf_counter`).

        `fields` are the measurement's utterance and levels.
        """
        relative = self._profile.adjust(posteriors) if self._profile else posteriors
        follows = trigger == "hop" or not self._measured
        # An utterance too short for a hop still moves the trace.
        smooth = self._trace.push(relative, end / RATE_HZ) if follows else None
        point = smooth if smooth and trigger == "hop" else self._trace.judge(relative)
        self._measured = True
        arousal, valence = affect(self._labels, point.posteriors)
        measurement = self._measure(
            start,
            end,
            trigger,
            begun,
            state=point.state,
            label=point.label,
            label_raw=self._labels[int(posteriors.argmax())],
            confidence=point.confidence,
            scores=self.by_label(posteriors),
            scores_smooth=self.by_label(smooth.posteriors) if smooth else {},
            arousal=arousal,
            valence=valence,
            **fields,
        )
        if trigger == "hop":
            self._watch(measurement, max(start, self._told_to), end)
            self._told_to = end
        return measurement

    def silence(self, start: int, end: int, begun: float, **levels: Any) -> None:
        """Of samples in which nobody speaks."""
        self._measure(start, end, "hop", begun, state="no_speech", scores={}, scores_smooth={}, **levels)

    def by_label(self, posteriors: NDArray[np.float32]) -> dict[str, float]:
        """Posteriors, shape (labels,), with their names."""
        return dict(zip(self._labels, posteriors.tolist(), strict=True))

    def reset_trace(self) -> None:
        """What is scored next follows on nothing."""
        self._trace.reset()

    def reset(self) -> None:
        """As `reset_trace`, and rules begin to count anew."""
        self.reset_trace()
        for watch in self._watches:
            watch.reset()

    def _watch(self, measurement: Measurement, start: int, end: int) -> None:
        """Rules hear the trace, and of each hop only what is new."""
        for watch in self._watches:
            value = value_of(watch.rule.name, measurement)
            if value is not None and watch.push(value, start / RATE_HZ, end / RATE_HZ):
                self._log.add(Alert, end, end, rule=watch.rule.text, value=value)

    def _measure(self, start: int, end: int, trigger: Trigger, begun: float, **fields: Any) -> Measurement:
        latency_ms = 1000 * (time.perf_counter() - begun)
        return self._log.add(
            Measurement, start, end, trigger=trigger, latency_ms=latency_ms, wall_time=utc_now(), **fields
        )
