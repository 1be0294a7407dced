"""One frozen dataclass of settings per stage, with units in the names.

The defaults are what the bundled models were measured with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from realtime_ser.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RATE_HZ = 16_000
"""The rate of everything inside a session; the sample count at this rate is its only clock."""


def _require(ok: bool, what: str, remedy: str) -> None:
    if not ok:
        raise SettingsError(what, remedy)


def _as_numbers(settings: DataclassInstance) -> None:
    """Each field as Python's own number of its default's type: NaN passes many a bound, and NumPy's are no JSON."""
    for field_ in fields(settings):
        given = getattr(settings, field_.name)
        kind: type[Any] = type(field_.default)
        try:
            number = kind(given)
            fits = number == given and math.isfinite(number)
        except (TypeError, ValueError, OverflowError):
            fits = False
        wanted = {bool: "True or False", int: "a whole number", float: "a number"}[kind]
        _require(bool(fits), f"{field_.name} {given!r}", f"give {wanted}")
        object.__setattr__(settings, field_.name, number)


@dataclass(frozen=True)
class CleanSettings:
    """What is done to the samples before the gate hears them. DC and rumble are always removed."""

    denoise: bool = False
    """WebRTC's noise suppressor. Off, because it makes the scores worse (docs/evaluation/options.md)."""

    def __post_init__(self) -> None:
        _as_numbers(self)


@dataclass(frozen=True)
class GateSettings:
    """When speech begins and ends. All durations are whole numbers of 20 ms frames."""

    aggressiveness: int = 0
    """webrtcvad's mode, 0 (lets most through) to 3. It only wakes the detector, which decides."""
    onset_ms: int = 100
    """Speech begins once this much of the last `onset_window_ms` is speech."""
    onset_window_ms: int = 200
    hangover_ms: int = 600
    """Speech ends after this much without speech."""
    preroll_ms: int = 540
    """So much before the onset belongs to the segment: the models were trained with some of the room around speech."""
    speech_enter: float = 0.7
    """A frame counts towards an onset from this probability of speech on."""
    speech_stay: float = 0.3
    """Inside a segment a frame counts as speech from this probability on."""
    min_level_dbfs: float = -70.0
    """Below this nothing is speech."""

    def __post_init__(self) -> None:
        _as_numbers(self)
        _require(self.aggressiveness in (0, 1, 2, 3), f"aggressiveness {self.aggressiveness}", "use 0, 1, 2 or 3")
        for name in ("onset_ms", "onset_window_ms", "hangover_ms", "preroll_ms"):
            value = getattr(self, name)
            _require(0 < value <= 5_000 and value % 20 == 0, f"{name} {value}", "use a multiple of 20 ms, up to 5000")
        _require(self.onset_ms <= self.onset_window_ms, "onset_ms exceeds onset_window_ms", "shorten the onset")
        for name in ("speech_enter", "speech_stay"):
            value = getattr(self, name)
            _require(0 < value < 1, f"{name} {value}", "use a probability between 0 and 1")
        _require(-120 <= self.min_level_dbfs <= 0, f"min_level_dbfs {self.min_level_dbfs}", "use -120 to 0 dBFS")


@dataclass(frozen=True)
class WindowSettings:
    """What the head sees: the last `window_s` of speech, anew every `hop_s`."""

    window_s: float = 3.0
    hop_s: float = 0.25
    first_s: float = 1.0
    """No measurement before this much speech of an utterance was heard."""
    shortest_s: float = 0.5
    """An utterance with less speech than this gets no measurement of its own."""

    def __post_init__(self) -> None:
        _as_numbers(self)
        _require(
            0.5 <= self.window_s <= 10.0, f"window of {self.window_s} s", "the model takes windows from 0.5 to 10 s"
        )
        hops = self.hop_s / 0.25
        _require(
            0.25 <= self.hop_s <= 5.0 and hops == int(hops),
            f"hop of {self.hop_s} s",
            "use a multiple of 0.25 s, up to 5",
        )
        _require(0.5 <= self.first_s <= 3600, f"first window after {self.first_s} s", "use 0.5 to 3600 s")
        _require(0.25 <= self.shortest_s <= 30, f"shortest utterance of {self.shortest_s} s", "use 0.25 to 30 s")


@dataclass(frozen=True)
class TraceSettings:
    """How posteriors become a trace a person can read."""

    time_constant_s: float = 3.0
    """Of the exponential average of log posteriors, in seconds of audio: in a pause, too, the past is forgotten."""
    enter_margin: float = 0.15
    """A new label takes over once it leads the current one by this much."""
    abstain_below: float = 0.4
    """Below this smoothed confidence the trace abstains."""
    neutral_lead: float = 0.2
    """So does an emotion that leads neutral by less: most speech is neutral, so who says otherwise has to be surer."""
    abstain_hysteresis: float = 0.05
    """It stops abstaining this far above both."""

    def __post_init__(self) -> None:
        _as_numbers(self)
        for name in ("enter_margin", "abstain_hysteresis"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} {value}", "use 0 to 1")
        _require(0 <= self.time_constant_s <= 3600, f"time constant of {self.time_constant_s} s", "use 0 to 3600 s")
        highest = 1 - self.abstain_hysteresis  # above it nothing would end abstention
        _require(
            0 <= self.abstain_below <= highest, f"confidence of {self.abstain_below} at least", f"use 0 to {highest}"
        )
        _require(0 <= self.neutral_lead < 1, f"neutral_lead {self.neutral_lead}", "use 0 to 1")


@dataclass(frozen=True)
class RestSettings:
    """Where a long session begins anew, so that it can be heard in pieces: in a pause, once in `every_s`."""

    every_s: int = 300
    """The first so many seconds have no rest, so short recordings have none."""
    range_db: float = 6.0
    """Noise whose 20 ms frames differ by no more than this is steady."""
    silent_dbfs: float = -60.0
    """What is below this is silence, steady or not."""

    def __post_init__(self) -> None:
        _as_numbers(self)
        _require(self.every_s >= 3, f"a rest every {self.every_s} s", "use 3 s or more")
        _require(0 <= self.range_db <= 120, f"range_db {self.range_db}", "use 0 to 120 dB")
        _require(-120 <= self.silent_dbfs <= 0, f"silent_dbfs {self.silent_dbfs}", "use -120 to 0 dBFS")


@dataclass(frozen=True)
class SessionSettings:
    """All that decides what a session measures. Equal settings, model and samples give equal events."""

    clean: CleanSettings = field(default_factory=CleanSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    rest: RestSettings = field(default_factory=RestSettings)

    def __post_init__(self) -> None:
        for name, stage in get_type_hints(type(self)).items():
            _require(
                isinstance(getattr(self, name), stage), f"{name} {getattr(self, name)!r}", f"give {stage.__name__}"
            )
        # Or a measurement would end before the silence that was told until then.
        noticed_s = (self.gate.preroll_ms + self.gate.onset_window_ms) / 1000
        _require(
            self.window.first_s >= noticed_s,
            f"first window after {self.window.first_s} s of an utterance, which is noticed after {noticed_s:.2f} s",
            "use a longer first_s, or a shorter preroll_ms",
        )
