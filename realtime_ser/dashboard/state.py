"""What the screen shows, gathered from events by one thread and read by another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from realtime_ser.events import (
    Alert,
    Event,
    Gap,
    Marker,
    Measurement,
    SessionCreated,
    SpeechEnded,
    SpeechStarted,
    State,
    Warning,
)

SHOWN_S = 60.0
"""Of the trace; so long a warning is shown, too."""


@dataclass(frozen=True)
class Point:
    """The smoothed trace from `at_s` on, until the next point; no scores in silence and across gaps."""

    at_s: float
    state: State
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Snapshot:
    """All that one picture is drawn from. Times are seconds of audio."""

    source: str = ""
    model_id: str = ""
    licence: str = ""
    labels: tuple[str, ...] = ()
    profile: str | None = None
    baseline: Mapping[str, float] | None = None
    """What this speaker's neutral speech gets; None without a profile."""
    channel: int | None = None
    csv_path: Path | None = None
    recording: Path | None = None
    """Where the audio itself is stored, if it is."""
    recording_ended: bool = False
    """It is stored no more."""
    elapsed_s: float = 0.0
    lag_s: float = 0.0
    real_time_factor: float = 0.0
    lost_s: float = 0.0
    away: bool = False
    """The device is gone: nothing is heard until it is back."""
    speaking: bool = False
    state: State = "no_speech"
    label: str | None = None
    confidence: float | None = None
    scores: Mapping[str, float] | None = None
    arousal: float | None = None
    valence: float | None = None
    level_dbfs: float | None = None
    snr_db: float | None = None
    utterances: int = 0
    points: tuple[Point, ...] = ()
    markers_s: tuple[float, ...] = ()
    warning: str = ""
    """The latest, or an alert."""
    warned_s: float = 0.0
    trouble: str = ""
    """What is wrong with the outputs at the moment."""


class DashboardState:
    """Takes the events of one session and progress; gives snapshots. Safe between threads."""

    def __init__(self, csv_path: Path | None = None, recording: Path | None = None, channel: int | None = None) -> None:
        self._lock = threading.Lock()
        self._now = Snapshot(csv_path=csv_path, recording=recording, channel=channel)
        self._points: deque[Point] = deque()
        self._markers: deque[float] = deque()

    def progress(self, audio_s: float, lag_s: float, real_time_factor: float, lost_s: float, trouble: str = "") -> None:
        """How far analysis is, what it costs, and what is wrong with the outputs."""
        with self._lock:
            self._now = replace(
                self._now,
                elapsed_s=audio_s,
                lag_s=lag_s,
                real_time_factor=real_time_factor,
                lost_s=lost_s,
                trouble=trouble,
            )

    def update(self, event: Event) -> None:
        """Take in an event."""
        with self._lock:
            match event:
                case SessionCreated():
                    self._now = replace(
                        self._now,
                        source=event.source,
                        model_id=event.model_id,
                        licence=event.model_licence,
                        labels=event.labels,
                        profile=event.profile,
                        baseline=event.baseline or None,
                    )
                case SpeechStarted():
                    self._now = replace(self._now, speaking=True, utterances=event.utterance)
                case SpeechEnded():
                    self._now = replace(self._now, speaking=False, state="no_speech")
                case Measurement():
                    self._measure(event)
                case Gap():
                    self._now = replace(self._now, speaking=False)
                    self._add(Point(event.start_s, "no_speech", {}))
                case Marker():
                    self._markers.append(event.start_s)
                case Alert():
                    self._warn(f"alert: {event.rule}: {event.value:.2f}", event.end_s)
                case Warning():
                    self._warn(f"{event.message}: {event.remedy}", event.end_s)
                    if event.code == "recording_ended":
                        self._now = replace(self._now, recording_ended=True)
                    elif event.code == "device_lost":
                        self._now = replace(self._now, away=True, level_dbfs=None, snr_db=None)
                    elif event.code == "device_back":
                        self._now = replace(self._now, away=False)
                case _:
                    pass

    def snapshot(self) -> Snapshot:
        """Everything as it is now."""
        with self._lock:
            return replace(self._now, points=tuple(self._points), markers_s=tuple(self._markers))

    def _warn(self, warning: str, at_s: float) -> None:
        self._now = replace(self._now, warning=warning, warned_s=at_s)

    def _measure(self, event: Measurement) -> None:
        self._now = replace(self._now, level_dbfs=event.level_dbfs, snr_db=event.snr_db)
        if event.state == "no_speech":
            # What was felt last stays readable in the pause, dimmed; it is not said of the pause.
            self._now = replace(self._now, state="no_speech")
            self._add(Point(event.start_s, "no_speech", {}))
        elif event.scores_smooth:
            self._now = replace(
                self._now,
                state=event.state,
                label=event.label,
                confidence=event.confidence,
                scores=event.scores_smooth,
                arousal=event.arousal,
                valence=event.valence,
            )
            self._add(Point(event.end_s, event.state, event.scores_smooth))

    def _add(self, point: Point) -> None:
        self._points.append(point)
        # One point from before the oldest second shown says what to draw there.
        while len(self._points) > 1 and self._points[1].at_s < point.at_s - SHOWN_S:
            self._points.popleft()
        while self._markers and self._markers[0] < point.at_s - SHOWN_S:
            self._markers.popleft()
