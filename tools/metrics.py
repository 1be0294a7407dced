"""The figures of the field: UAR and its kin, calibration, abstention. Plain functions on arrays.

`truth` and `guess` are class numbers of shape (n,); a guess of -1 means nothing was scored, and is wrong.
`posteriors` have shape (n, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.intp]
Floats = NDArray[np.floating]

BOOTSTRAPS = 1000
FEWEST_GROUPS = 3
"""Of fewer, an interval would tell nothing but their own figures."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval, NaN where there is none."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def __format__(self, spec: str) -> str:
        """All three numbers by `spec`; with three decimals if it is empty."""
        value, low, high = (format(number, spec or ".3f") for number in (self.value, self.low, self.high))
        return value if np.isnan(self.low) else f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def recalls(truth: Ints, guess: Ints) -> dict[int, float]:
    """Recall of each class present in `truth`."""
    return {int(k): float(np.mean(guess[truth == k] == k)) for k in np.unique(truth)}


def uar(truth: Ints, guess: Ints) -> float:
    """Unweighted average recall: the mean of the recalls of the classes present."""
    return float(np.mean(list(recalls(truth, guess).values())))


def macro_f1(truth: Ints, guess: Ints) -> float:
    """Mean over the classes present of the harmonic mean of precision and recall."""
    scores = []
    for k in np.unique(truth):
        hits = np.sum((truth == k) & (guess == k))
        scores.append(2 * hits / max(np.sum(truth == k) + np.sum(guess == k), 1))
    return float(np.mean(scores))


@dataclass(frozen=True)
class Sample:
    """Rows of some groups (speakers), and a figure of row numbers."""

    figure: Callable[[Ints], float]
    groups: Sequence[Hashable]

    @property
    def value(self) -> float:
        return self.figure(np.arange(len(self.groups)))

    def draws(self, n: int, seed: int) -> Floats | None:
        """The figure of groups drawn with replacement, n times; None if there are too few."""
        _, number = np.unique(np.array([str(g) for g in self.groups]), return_inverse=True)
        rows = [np.flatnonzero(number == k) for k in range(number.max() + 1)]
        if len(rows) < FEWEST_GROUPS:
            return None
        rng = np.random.default_rng(seed)
        drawn = (rng.integers(len(rows), size=len(rows)) for _ in range(n))
        return np.array([self.figure(np.concatenate([rows[k] for k in some])) for some in drawn])


def mean_of(samples: Sequence[Sample]) -> Sample:
    """The mean of figures of the same rows."""
    return Sample(lambda rows: float(np.mean([sample.figure(rows) for sample in samples])), samples[0].groups)


def bootstrap(
    figure: Callable[[Ints], float], groups: Sequence[Hashable], n: int = BOOTSTRAPS, seed: int = 0
) -> Interval:
    """`figure` of row numbers, with the interval over groups (speakers) drawn with replacement, if there are enough."""
    return bootstrap_mean([Sample(figure, groups)], n, seed)


def bootstrap_mean(samples: Sequence[Sample], n: int = BOOTSTRAPS, seed: int = 0) -> Interval:
    """The mean of their figures. Each sample's groups are drawn by themselves; of too few groups it stays as it is."""
    value = float(np.mean([sample.value for sample in samples]))
    drawn = [sample.draws(n, seed + place) for place, sample in enumerate(samples)]
    if all(draws is None for draws in drawn):
        return Interval(value)
    means = np.mean(
        [np.full(n, sample.value) if draws is None else draws for sample, draws in zip(samples, drawn, strict=True)],
        axis=0,
    )
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def confusion(truth: Ints, guess: Ints, n_classes: int) -> Ints:
    """Counts, shape (classes, classes + 1): rows spoken, columns heard, the last one for nothing scored."""
    counts = np.zeros((n_classes, n_classes + 1), np.intp)
    np.add.at(counts, (truth, guess), 1)
    return counts


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> list[tuple[float, float, int]]:
    """For each bin of equal width that holds anything: mean confidence, accuracy, count."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[index == b].mean()), float(right[index == b].mean()), int(np.sum(index == b)))
        for b in np.unique(index)
    ]


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """|confidence - accuracy| over the bins, weighted by their counts (Guo et al., 2017)."""
    found = reliability(confidence, right, bins)
    return float(sum(abs(c - a) * n for c, a, n in found) / len(confidence))


def calibration_error_by_chance(confidence: Floats, draws: int = BOOTSTRAPS) -> Interval:
    """What `expected_calibration_error` is when every confidence is exactly right: few clips scatter about it."""
    rng = np.random.default_rng(0)
    found = [expected_calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(draws)]
    low, middle, high = np.quantile(found, (0.025, 0.5, 0.975))
    return Interval(float(middle), float(low), float(high))


def risk_coverage(confidence: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Shares kept when the least confident are left out one by one, and the share of errors among those kept."""
    order = np.argsort(-confidence, kind="stable")
    kept = np.arange(1, len(order) + 1)
    return kept / len(order), np.cumsum(~right[order]) / kept


def cross_entropy(posteriors: Floats, targets: Floats) -> float:
    """Mean of -Σ target log posterior, in nats."""
    return float(-np.mean(np.sum(targets * np.log(np.maximum(posteriors, 1e-12)), axis=1)))
