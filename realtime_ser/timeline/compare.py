"""A timeline beside what people heard: on one grid, where both have something to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import TimelineError
from realtime_ser.timeline.annotations import Annotation
from realtime_ser.timeline.read import Floats, Timeline
from realtime_ser.timeline.segments import Lane, lanes

GRID_S = 0.25
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """Of the moments (a quarter of a second each) in which the timeline and every rater name an emotion.

    Raters who gave numbers alone are no part of that; their numbers are compared.
    """

    labels: tuple[str, ...]
    """The model's, then the raters' others; "Angry" is "angry"."""
    unknown: tuple[str, ...]
    """Those others, which no moment can agree on."""
    compared_s: float
    only_timeline_s: float
    only_raters_s: float
    """Where one side abstains, is silent, lost, or was not rated."""
    tied_s: float
    """Of the compared seconds, where no label has more raters than another."""
    agreement: float
    """With the raters' majority; ties are left out, and it is NaN where all are."""
    cohens_kappa: float
    fleiss_kappa: float
    """Of all raters and the timeline together."""
    confusion: Ints
    """Shape (labels, labels): moments, majority by row, timeline by column."""
    affect_s: float
    """Speech, whether an emotion is named or not, in which some rater gave arousal or valence."""
    arousal_concordance: float
    valence_concordance: float
    """With the mean of those who gave a number; NaN where nobody did."""


def compare(timeline: Timeline, raters: Sequence[Sequence[Annotation]]) -> Comparison:
    """Compare one lane with one or more raters.

    Raises
    ------
    TimelineError
        If the timeline has several lanes, or nothing can be compared.
    """
    lane = only_lane(timeline)
    heard = {label.casefold() for label in timeline.labels}
    said = {a.label.casefold() for rater in raters for a in rater}
    unknown = tuple(sorted(said - heard - {""}))
    labels = (*timeline.labels, *unknown)
    n = int(np.ceil(timeline.duration_s / GRID_S))
    middle_s: Floats = (np.arange(n, dtype=np.float64) + 0.5) * GRID_S
    row = _covering(lane.start_s, lane.end_s, middle_s)
    rows = lane.rows[np.maximum(row, 0)] if len(lane.rows) else np.zeros(n, np.int64)
    named = (row >= 0) & (timeline.state[rows] == "speech") & (timeline.event[rows] != "gap")
    index = {label.casefold(): i for i, label in enumerate(labels)}
    mine = np.array(
        [index[label.casefold()] if ok else -1 for ok, label in zip(named, timeline.label[rows], strict=True)], np.int64
    )
    naming = [rater for rater in ([a for a in rater if a.label] for rater in raters) if rater]
    theirs = np.array([_on_grid(rater, middle_s, index) for rater in naming], np.int64).reshape(len(naming), n)
    rated = (theirs >= 0).all(axis=0) if naming else np.zeros(n, bool)
    both = named & rated
    affect = [
        np.stack((np.where(row >= 0, getattr(timeline, name)[rows], np.nan), _mean(raters, name, middle_s)))
        for name in ("arousal", "valence")
    ]
    given = [np.isfinite(pair).all(axis=0) for pair in affect]
    if not (both | given[0] | given[1]).any():
        raise TimelineError(f"{timeline.path}: shares no labelled moment with the labels", "check that times agree")
    counts = np.stack([(theirs[:, both] == k).sum(axis=0) for k in range(len(labels))], axis=1)
    best = counts.argmax(axis=1)
    clear = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (best[clear], mine[both][clear]), 1)
    together = counts.copy()
    together[np.arange(len(together)), mine[both]] += 1
    return Comparison(
        labels,
        unknown,
        compared_s=float(both.sum() * GRID_S),
        only_timeline_s=float((named & ~rated).sum() * GRID_S),
        only_raters_s=float((rated & ~named).sum() * GRID_S),
        tied_s=float((~clear).sum() * GRID_S),
        agreement=float(np.trace(confusion) / confusion.sum()) if clear.any() else float("nan"),
        cohens_kappa=cohens_kappa(confusion),
        fleiss_kappa=fleiss_kappa(together),
        confusion=confusion,
        affect_s=float((given[0] | given[1]).sum() * GRID_S),
        arousal_concordance=concordance(*affect[0][:, given[0]]),
        valence_concordance=concordance(*affect[1][:, given[1]]),
    )


def only_lane(timeline: Timeline) -> Lane:
    """The lane of a timeline that has one; raises TimelineError for none or several, and names them."""
    found = lanes(timeline)
    files = list(dict.fromkeys(lane.file for lane in found))
    if not found:
        raise TimelineError(f"{timeline.path}: has no rows", "analyse a recording")
    if len(files) > 1:
        raise TimelineError(
            f"{timeline.path}: holds {len(files)} recordings",
            f"name one of them with --recording, such as {files[-1]!r}",
        )
    if len(found) > 1:
        channels = ", ".join(str(lane.channel) for lane in found)
        raise TimelineError(f"{timeline.path}: has {len(found)} channels: {channels}", "name one with --channel")
    return found[0]


def of_channel(timeline: Timeline, channel: int) -> Timeline:
    """The rows of one channel alone; raises TimelineError if there are none."""
    rows = timeline.channel == channel
    if not rows.any():
        known = ", ".join(map(str, sorted({*timeline.channel.tolist()} - {0})))
        remedy = f"there are: {known}" if known else "it is of a mix: leave --channel out"
        raise TimelineError(f"{timeline.path}: has no channel {channel}", remedy)
    return timeline.part(rows)


def cohens_kappa(confusion: Ints) -> float:
    """Agreement beyond chance of two raters (Cohen, 1960); NaN if chance alone agrees always."""
    total = confusion.sum()
    if not total:
        return float("nan")
    observed = np.trace(confusion) / total
    expected = float(confusion.sum(axis=0) @ confusion.sum(axis=1)) / total**2
    return float((observed - expected) / (1 - expected)) if expected < 1 else float("nan")


def fleiss_kappa(counts: Ints) -> float:
    """Agreement beyond chance of several raters (Fleiss, 1971); counts have shape (moments, labels)."""
    if not len(counts):
        return float("nan")
    raters = int(counts[0].sum())
    observed = float(np.mean((np.square(counts).sum(axis=1) - raters) / (raters * (raters - 1))))
    expected = float(np.square(counts.sum(axis=0) / counts.sum()).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def concordance(a: Floats, b: Floats) -> float:
    """Lin's concordance correlation coefficient (1989); NaN if neither varies, or there is nothing."""
    if not len(a):
        return float("nan")
    spread = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(2 * np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread > 0 else float("nan")


def most_uncertain(timeline: Timeline, n: int) -> list[tuple[float, float]]:
    """The windows of the `n` hops that name an emotion with the least confidence and do not overlap: (start_s, end_s).

    Raises
    ------
    TimelineError
        If the timeline has several lanes.
    """
    named = _named(timeline)
    return _apart(timeline, named[np.argsort(timeline.confidence[named], kind="stable")], n)


def random_windows(timeline: Timeline, n: int, taken: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """`n` of those windows by chance, always the same of a timeline, that overlap neither each other nor `taken`."""
    return _apart(timeline, np.random.default_rng(0).permutation(_named(timeline)), n, taken)


def _named(timeline: Timeline) -> Ints:
    """The rows of its lane that name an emotion: of the others `compare` could not say whether they are right."""
    rows = only_lane(timeline).rows
    return rows[timeline.state[rows] == "speech"]


def _apart(
    timeline: Timeline, rows: Ints, n: int, taken: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for row in rows:
        start_s, end_s = float(timeline.start_s[row]), float(timeline.end_s[row])
        if len(found) < n and all(end_s <= a or start_s >= b for a, b in (*taken, *found)):
            found.append((start_s, end_s))
    return found


def _covering(start_s: Floats, end_s: Floats, at_s: Floats) -> Ints:
    """Which of some ordered stretches covers each moment; -1 for none."""
    which = np.searchsorted(start_s, at_s, side="right") - 1
    inside = (which >= 0) & (at_s < end_s[np.maximum(which, 0)]) if len(end_s) else np.zeros(len(at_s), bool)
    return np.where(inside, which, -1)


def _covered(rater: Sequence[Annotation], at_s: Floats) -> tuple[list[Annotation], Ints]:
    """Which label holds at each moment, -1 for none: while several do, the one that began last."""
    ordered = sorted(rater, key=lambda a: (a.start_s, -a.end_s))
    which = np.full(len(at_s), -1)
    for k, label in enumerate(ordered):
        first, end = np.searchsorted(at_s, (label.start_s, label.end_s))
        which[first:end] = k
    return ordered, which


def _on_grid(rater: Sequence[Annotation], at_s: Floats, index: dict[str, int]) -> Ints:
    ordered, which = _covered(rater, at_s)
    return np.array([index[ordered[k].label.casefold()] if k >= 0 else -1 for k in which.tolist()], np.int64)


def _mean(raters: Sequence[Sequence[Annotation]], name: str, at_s: Floats) -> Floats:
    """Of the numbers that raters gave at each moment; NaN where nobody did."""
    given = np.full((len(raters), len(at_s)), np.nan)
    for i, rater in enumerate(raters):
        ordered, which = _covered([a for a in rater if np.isfinite(getattr(a, name))], at_s)
        given[i] = [getattr(ordered[k], name) if k >= 0 else np.nan for k in which.tolist()]
    n = np.isfinite(given).sum(axis=0)
    return np.where(n > 0, np.nansum(given, axis=0) / np.maximum(n, 1), np.nan)
