"""Our figures agree with scikit-learn's, and with what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tools import metrics


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_uar_and_f1_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    truth = rng.integers(5, size=300)
    guess = np.where(rng.random(300) < 0.4, truth, rng.integers(5, size=300))
    assert metrics.uar(truth, guess) == pytest.approx(sklearn.balanced_accuracy_score(truth, guess))
    assert metrics.macro_f1(truth, guess) == pytest.approx(sklearn.f1_score(truth, guess, average="macro"))
    counts = metrics.confusion(truth, guess, 5)
    np.testing.assert_array_equal(counts[:, :5], sklearn.confusion_matrix(truth, guess))


def test_nothing_scored_is_wrong() -> None:
    truth, guess = np.array([0, 0, 1, 1]), np.array([0, -1, 1, -1])
    assert metrics.uar(truth, guess) == 0.5
    assert metrics.confusion(truth, guess, 2).tolist() == [[1, 0, 1], [0, 1, 1]]


def test_intervals_widen_when_speakers_differ(rng: np.random.Generator) -> None:
    speakers = np.repeat(np.arange(10), 30)
    alike = rng.random(300) < 0.5
    apart = np.repeat(np.arange(10) < 5, 30)
    narrow, wide = (metrics.bootstrap(lambda rows, r=r: float(r[rows].mean()), speakers) for r in (alike, apart))
    assert wide.value == 0.5
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert narrow.low < narrow.value < narrow.high


def test_calibration_error_of_a_calibrated_and_an_overconfident_model(rng: np.random.Generator) -> None:
    confidence = rng.uniform(0.2, 1, 20_000)
    right = rng.random(20_000) < confidence
    assert metrics.expected_calibration_error(confidence, right) < 0.02
    assert metrics.expected_calibration_error(np.full(1000, 0.9), np.arange(1000) < 600) == pytest.approx(0.3)


def test_few_clips_show_an_error_though_every_confidence_is_right(rng: np.random.Generator) -> None:
    confidence = rng.uniform(0.2, 1, 400)
    found = metrics.calibration_error_by_chance(confidence)
    assert 0.02 < found.low < found.value < found.high
    many = metrics.calibration_error_by_chance(np.tile(confidence, 100), draws=50)
    assert many.high < found.low
    error = metrics.expected_calibration_error(confidence, rng.random(400) < confidence)
    assert found.low - 0.01 < error < found.high + 0.01


def test_leaving_out_the_unsure_lowers_the_risk(rng: np.random.Generator) -> None:
    confidence = rng.uniform(0, 1, 5000)
    right = rng.random(5000) < confidence
    coverage, risk = metrics.risk_coverage(confidence, right)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(np.mean(~right))
    assert risk[500] < risk[2500] < risk[-1]


def test_cross_entropy_of_the_truth_itself_is_its_entropy() -> None:
    targets = np.array([[0.5, 0.5], [1.0, 0.0]])
    assert metrics.cross_entropy(targets, targets) == pytest.approx(np.log(2) / 2)


def test_an_interval_is_told_as_its_figure_is() -> None:
    interval = metrics.Interval(-0.0123, -0.05, 0.02)
    assert f"{interval:+.2f}, {interval:.1%}, {interval}" == (
        "-0.01 [-0.05, +0.02], -1.2% [-5.0%, 2.0%], -0.012 [-0.050, 0.020]"
    )
    assert f"{metrics.Interval(0.5):.1%}" == "50.0%"


def test_the_mean_of_samples_is_surer_than_each_of_them(rng: np.random.Generator) -> None:
    speakers = np.repeat(np.arange(20), 10)
    values = rng.normal(size=(4, 20))[:, speakers]
    samples = [metrics.Sample(lambda rows, v=v: float(v[rows].mean()), list(speakers)) for v in values]
    alone = [metrics.bootstrap_mean([sample]) for sample in samples]
    together = metrics.bootstrap_mean(samples)
    assert together.value == pytest.approx(np.mean([interval.value for interval in alone]))
    assert together.high - together.low < 0.7 * np.mean([interval.high - interval.low for interval in alone])
    # Two speakers are too few to tell how speakers differ.
    few = metrics.Sample(lambda rows: float(rows.mean()), [1, 1, 2])
    assert np.isnan(metrics.bootstrap_mean([few]).low)
    assert metrics.bootstrap_mean([few, samples[0]]).low < metrics.bootstrap_mean([few, samples[0]]).high
