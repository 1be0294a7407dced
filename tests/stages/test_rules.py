"""Rules are read strictly, and come true when they should and no more often."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.events import Alert, Measurement
from realtime_ser.session import Session
from realtime_ser.stages.model import Model
from realtime_ser.stages.rules import Rule, RuleWatch, parse_rule

LABELS = ("neutral", "angry")


def test_rules_are_read() -> None:
    assert parse_rule("arousal>0.4 for 8s", LABELS) == Rule("arousal>0.4 for 8s", "arousal", True, 0.4, 8.0)
    assert parse_rule(" angry < 0.25 ", LABELS) == Rule(" angry < 0.25 ", "angry", False, 0.25, 0.0)
    full = parse_rule("valence < -0.3 for 2.5 s cooldown 60s", LABELS)
    assert (full.threshold, full.for_s, full.cooldown_s) == (-0.3, 2.5, 60.0)


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "one of arousal, valence, confidence, neutral, angry"),
        ("arouse > 1", 1, "one of arousal"),
        ("arousal", 8, "> or <"),
        ("arousal = 1", 9, "> or <"),
        ("arousal > high", 11, "a number"),
        ("arousal > 1 for", 16, "a number of seconds"),
        ("arousal > 1 for 2", 18, "s"),
        ("arousal > 1 during 2s", 13, "for or cooldown"),
        ("arousal > 1 for 2s cooldown 3s more", 32, "nothing more"),
        ("arousal > 1; rm", 12, "for or cooldown"),
    ],
)
def test_what_cannot_be_understood_is_shown_with_its_place(text: str, column: int, expected: str) -> None:
    with pytest.raises(SettingsError) as told:
        parse_rule(text, LABELS)
    assert f"column {column}: expected {expected}" in str(told.value)


@pytest.mark.parametrize("text", ["arousal > 0.59", "arousal < 0", "valence < -0.6", "angry > 1", "confidence < -1"])
def test_what_never_comes_true_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="never comes true"):
        parse_rule(text, LABELS)


def test_a_model_without_known_emotions_has_no_arousal() -> None:
    with pytest.raises(SettingsError, match="expected one of confidence, calm, busy"):
        parse_rule("arousal > 0.1", ("calm", "busy"))


def fired(rule: str, values: list[float]) -> list[int]:
    """At which of the seconds 1, 2, …"""
    watch = RuleWatch(parse_rule(rule, LABELS))
    return [k + 1 for k, value in enumerate(values) if watch.push(value, k, k + 1)]


def test_it_must_hold_and_falls_below_before_it_fires_again() -> None:
    high = [0.8] * 5
    assert fired("angry > 0.7 for 3s cooldown 0s", [*high, *high]) == [3]
    assert fired("angry > 0.7 for 3s cooldown 0s", [0.8, 0.8, 0.6, *high]) == [6]
    assert fired("angry > 0.7 for 3s cooldown 0s", [*high, 0.6, *high]) == [3, 9]
    assert fired("angry > 0.7 for 3s cooldown 0s", [*high, 0.68, *high]) == [3]  # not far enough below
    assert fired("angry > 0.7 for 3s cooldown 20s", [*high, 0.6, *high]) == [3]
    assert fired("angry < 0.7 cooldown 0s", [0.8, 0.69, 0.8, 0.5]) == [2, 4]


def test_hops_anywhere_on_the_clock_add_up() -> None:
    for first in range(2_000):
        watch = RuleWatch(parse_rule("angry > 0.7 for 8s", LABELS))
        hops = [first + 4_000 * k for k in range(33)]
        told = [watch.push(0.8, at / 16_000, (at + 4_000) / 16_000) for at in hops]
        assert told.index(True) == 31


def test_a_gap_ends_what_held() -> None:
    watch = RuleWatch(parse_rule("angry > 0.7 for 3s", LABELS))
    assert not watch.push(0.8, 0, 2)
    watch.reset()
    assert not watch.push(0.8, 10, 12)
    assert watch.push(0.8, 12, 13)


def test_a_session_alerts_where_its_trace_says_so(model: Model, demo: tuple[NDArray[np.int16], int]) -> None:
    samples, rate_hz = demo
    for size in (len(samples), rate_hz // 7):
        session = Session(model, rules=["neutral > 0.4 for 2s cooldown 5s"])
        events = [e for at in range(0, len(samples), size) for e in session.push(samples[at : at + size], rate_hz)]
        alerts = [e for e in events if isinstance(e, Alert)]
        assert alerts
        for alert in alerts:
            behind = events[events.index(alert) - 1]
            assert isinstance(behind, Measurement)
            assert alert.end_s == behind.end_s
            assert alert.value == behind.scores_smooth["neutral"] > 0.4
        if size == len(samples):
            expected = [(a.start_s, a.value) for a in alerts]
    assert [(a.start_s, a.value) for a in alerts] == expected
    with pytest.raises(SettingsError, match="column 1"):
        Session(model, rules=["anger > 1"])
