"""The events a session emits: one frozen dataclass per type.

`start_s` and `end_s` are seconds of audio since the session began; wall-clock fields are annotations only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

SCHEMA = 1
"""Version of the event and CSV schema."""

State = Literal["speech", "abstain", "no_speech"]
Trigger = Literal["hop", "utterance", "file"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all events share. `seq` counts from 0 without holes within a session."""

    type: ClassVar[str]
    session_id: str
    seq: int
    start_s: float
    end_s: float
    channel: int | None = None
    """Counts from 1; None where all channels are heard as one."""

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON Lines writes it, `type` first."""
        return {"type": self.type, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class SessionCreated(Event):
    """First event: what the measurements that follow were made with."""

    type: ClassVar[str] = "session.created"
    schema: int = SCHEMA
    model_id: str
    model_sha256: str
    model_licence: str
    labels: tuple[str, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    source: str
    affect: str
    """Where arousal and valence come from."""
    wall_time: str
    """ISO 8601, UTC."""
    profile: str | None = None
    """Name of the speaker's profile that the trace is relative to."""
    baseline: Mapping[str, float] = field(default_factory=dict)
    """What the trace shows of this speaker's neutral speech; empty without a profile."""


@dataclass(frozen=True, kw_only=True)
class SpeechStarted(Event):
    """The gate opened. `start_s` is the onset with its pre-roll; `end_s` is when it was noticed."""

    type: ClassVar[str] = "speech.started"
    utterance: int
    """Counts from 1."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Event):
    """What was heard between `start_s` and `end_s`: the window behind the scores, or a hop of silence.

    `scores` and `scores_smooth` map label to probability, and are empty where nothing was scored.
    """

    type: ClassVar[str] = "measurement"
    trigger: Trigger
    state: State
    utterance: int | None = None
    label: str | None = None
    """The smoothed trace's, of an utterance or a file that of all its speech; None in silence and while abstaining."""
    label_raw: str | None = None
    """The most probable label of this window alone."""
    confidence: float | None = None
    """Probability of `label`, smoothed as it is; while abstaining of the one that would be named."""
    scores: Mapping[str, float]
    scores_smooth: Mapping[str, float]
    arousal: float | None = None
    valence: float | None = None
    level_dbfs: float | None = None
    """RMS level of the hop, or of the speech of an utterance or a file; None for digital silence."""
    snr_db: float | None = None
    """Level above the gate's noise floor; None in silence."""
    clipped: int = 0
    """Samples at full scale in any channel, at the input's own rate, of what `level_dbfs` speaks of."""
    latency_ms: float | None = None
    """From the push of the last sample to this event; None for a file."""
    wall_time: str | None = None


@dataclass(frozen=True, kw_only=True)
class SpeechEnded(Event):
    """The gate closed. `measurement` pools the whole utterance; None if it was too short to score."""

    type: ClassVar[str] = "speech.ended"
    utterance: int
    duration_s: float
    measurement: Measurement | None = None

    def to_dict(self) -> dict[str, Any]:
        record = super().to_dict()
        record["measurement"] = self.measurement.to_dict() if self.measurement else None
        return record


@dataclass(frozen=True, kw_only=True)
class Gap(Event):
    """Samples between `start_s` and `end_s` were lost; the clock ran on over them."""

    type: ClassVar[str] = "gap"
    cause: str
    lost_samples: int
    """At 16 kHz."""


@dataclass(frozen=True, kw_only=True)
class Warning(Event):
    """Something about the input that a person should know."""

    type: ClassVar[str] = "warning"
    code: str
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Alert(Event):
    """A rule came true over the smoothed trace."""

    type: ClassVar[str] = "alert"
    rule: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Marker(Event):
    """The user marked this moment."""

    type: ClassVar[str] = "marker"
    text: str


@dataclass(frozen=True, kw_only=True)
class SessionClosed(Event):
    """Last event: the totals."""

    type: ClassVar[str] = "session.closed"
    audio_s: float
    speech_s: float
    """Of all utterances, without pre-roll and hangover."""
    scored_s: float
    """Behind the measurements, each moment once: with pre-roll and hangover, so mostly more than `speech_s`."""
    abstained_s: float
    """Of `scored_s`."""
    lost_s: float
    shares: Mapping[str, float]
    """Share of scored time for each label of the smoothed trace."""
    reason: str
