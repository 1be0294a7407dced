"""Many measurements → one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from realtime_ser.events import Event, Measurement, SessionClosed, SpeechEnded
from realtime_ser.settings import TraceSettings
from realtime_ser.stages.profile import Profile
from realtime_ser.stages.trace import EmotionTrace, affect


class FilePool:
    """One measurement for a whole recording: its utterances' posteriors, and the powers of speech and of noise that
    their levels tell, weighted by their duration."""

    def __init__(self, labels: tuple[str, ...], settings: TraceSettings, profile: Profile | None = None) -> None:
        self._profile = profile
        self._labels = labels
        self._trace = EmotionTrace(labels, settings)
        self._sum = np.zeros(len(labels))
        self._weight_s = 0.0
        self._clipped = 0
        self._powers = np.zeros(2)
        """Of speech and of noise, each times how long; and how long that is in all."""
        self._audible_s = 0.0

    def push(self, events: Iterable[Event]) -> Measurement | None:
        """Give a session's events in order; get the recording's measurement with its last one."""
        for event in events:
            if isinstance(event, SpeechEnded) and event.measurement:
                self._sum += event.duration_s * np.array([event.measurement.scores[label] for label in self._labels])
                self._weight_s += event.duration_s
                self._add_levels(event.measurement, event.duration_s)
            elif isinstance(event, SessionClosed):
                return self._measurement(event)
        return None

    def _add_levels(self, spoken: Measurement, duration_s: float) -> None:
        self._clipped += spoken.clipped
        if spoken.level_dbfs is not None and spoken.snr_db is not None:
            levels_dbfs = np.array([spoken.level_dbfs, spoken.level_dbfs - spoken.snr_db])
            self._powers += duration_s * 10 ** (levels_dbfs / 10)
            self._audible_s += duration_s

    def _measurement(self, closed: SessionClosed) -> Measurement:
        common: dict[str, Any] = {
            "session_id": closed.session_id,
            "seq": closed.seq + 1,
            "start_s": 0.0,
            "end_s": closed.end_s,
            "channel": closed.channel,
            "trigger": "file",
        }
        if not self._weight_s:
            return Measurement(**common, state="no_speech", scores={}, scores_smooth={})
        pooled = (self._sum / self._weight_s).astype(np.float32)
        point = self._trace.judge(self._profile.adjust(pooled) if self._profile else pooled)
        arousal, valence = affect(self._labels, point.posteriors)
        level_dbfs = snr_db = None
        if self._audible_s:
            level_dbfs, floor_dbfs = (10 * np.log10(self._powers / self._audible_s)).tolist()
            snr_db = level_dbfs - floor_dbfs
        return Measurement(
            **common,
            state=point.state,
            label=point.label,
            label_raw=self._labels[int(pooled.argmax())],
            confidence=point.confidence,
            scores=dict(zip(self._labels, pooled.tolist(), strict=True)),
            scores_smooth={},
            arousal=arousal,
            valence=valence,
            level_dbfs=level_dbfs,
            snr_db=snr_db,
            clipped=self._clipped,
        )
