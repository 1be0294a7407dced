"""The trace is calm, decides with a margin, and abstains when unsure."""

from __future__ import annotations

import numpy as np
import pytest

from realtime_ser.settings import TraceSettings
from realtime_ser.stages.trace import EmotionTrace, affect

LABELS = ("neutral", "happy", "sad")


def one_hot(k: int, p: float = 0.9) -> np.ndarray:
    posteriors = np.full(3, (1 - p) / 2, np.float32)
    posteriors[k] = p
    return posteriors


def test_first_window_is_taken_as_it_is() -> None:
    point = EmotionTrace(LABELS).push(one_hot(1), 1.0)
    np.testing.assert_allclose(point.posteriors, one_hot(1), rtol=1e-5)
    assert (point.state, point.label) == ("speech", "happy")


def test_step_response_follows_the_time_constant_whatever_the_hop() -> None:
    for hop_s in (0.25, 0.5, 1.0):
        trace = EmotionTrace(LABELS, TraceSettings(time_constant_s=2))
        trace.push(one_hot(0), 0)
        for k in range(round(2 / hop_s)):
            point = trace.push(one_hot(1), (k + 1) * hop_s)
        # After one time constant 63% of the way from one log ratio to its opposite.
        ratio = np.log(point.posteriors[1] / point.posteriors[0]) / np.log(0.9 / 0.05)
        assert ratio == pytest.approx(1 - 2 * np.exp(-1), abs=1e-3)


def test_one_odd_window_does_not_change_the_label() -> None:
    trace = EmotionTrace(LABELS)
    for k in range(8):
        trace.push(one_hot(0), k / 4)
    assert trace.push(one_hot(2), 2.0).label == "neutral"


def test_a_tie_does_not_flicker() -> None:
    trace = EmotionTrace(LABELS, TraceSettings(time_constant_s=0, abstain_below=0))
    near = [np.array([0.45 + d, 0.45 - d, 0.1], np.float32) for d in (0.01, -0.01) * 10]
    assert {trace.push(p, k / 4).label for k, p in enumerate(near)} == {"neutral"}


def test_unsure_abstains_with_hysteresis() -> None:
    trace = EmotionTrace(LABELS, TraceSettings(time_constant_s=0, abstain_below=0.5, abstain_hysteresis=0.1))
    states = [trace.push(one_hot(0, p), k).state for k, p in enumerate((0.6, 0.45, 0.55, 0.65, 0.55))]
    assert states == ["speech", "abstain", "abstain", "speech", "speech"]


@pytest.mark.parametrize(
    ("posteriors", "label"),
    [((0.35, 0.5, 0.15), None), ((0.2, 0.6, 0.2), "happy"), ((0.1, 0.45, 0.45), "happy"), ((0.5, 0.4, 0.1), "neutral")],
)
def test_an_emotion_is_named_only_with_a_lead_over_neutral(posteriors: tuple[float, ...], label: str | None) -> None:
    given = np.array(posteriors, np.float32)
    assert EmotionTrace(LABELS).push(given, 0).label == label
    assert EmotionTrace(LABELS).judge(given).label == label


def test_the_lead_over_neutral_has_hysteresis() -> None:
    trace = EmotionTrace(LABELS, TraceSettings(time_constant_s=0, neutral_lead=0.2, abstain_hysteresis=0.1))
    given = [np.array([0.9 - happy, happy, 0.1], np.float32) for happy in (0.6, 0.5, 0.56, 0.62, 0.56)]
    assert [trace.push(p, k).label for k, p in enumerate(given)] == ["happy", None, None, "happy", "happy"]


def test_labels_without_neutral_need_no_lead() -> None:
    assert EmotionTrace(("happy", "sad")).push(np.array([0.52, 0.48], np.float32), 0).label == "happy"


def test_reset_forgets() -> None:
    trace = EmotionTrace(LABELS)
    trace.push(one_hot(0), 1)
    trace.reset()
    assert trace.push(one_hot(2), 1.1).label == "sad"


def test_a_certain_zero_stays_finite() -> None:
    trace = EmotionTrace(LABELS)
    for k in range(4):
        point = trace.push(np.array([1, 0, 0], np.float32), k)
    assert np.isfinite(point.posteriors).all()


def test_affect_is_the_expectation_over_the_words_and_none_for_unknown_words() -> None:
    arousal, valence = affect(("neutral", "happy"), np.array([0.5, 0.5], np.float32))
    assert (arousal, valence) == (pytest.approx(0.255), pytest.approx(0.405))
    assert affect(("neutral", "bored"), np.array([0.5, 0.5], np.float32)) == (None, None)
