"""What a timeline says in numbers, with silence, abstention and gaps as what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime_ser.timeline.read import Floats, Timeline
from realtime_ser.timeline.segments import Lane, lanes


@dataclass(frozen=True)
class Episode:
    """A stretch in which something held of all speech."""

    file: str
    channel: int
    start_s: float
    end_s: float
    speech_s: float
    """Without the pauses in it."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Statistics:
    """Of a timeline, all its recordings and channels together. Seconds count each moment once."""

    audio_s: float
    scored_s: float
    """Of speech with a label."""
    abstained_s: float
    silent_s: float
    lost_s: float
    unscored_s: float
    """What no row tells of: the end of an utterance behind its last hop, and what is too short; all that is between
    utterances, if there are no hops."""
    shares: Mapping[str, float]
    """Of each label in the speech that has one."""
    transitions: Mapping[tuple[str, str], int]
    """How often one label followed another; a pause or doubt between them does not matter, a gap does."""
    longest: Mapping[str, Episode]
    """The stretch of each label with the most speech; a pause does not end one, doubt or a gap does."""
    arousal_mean: float
    arousal_p90: float
    valence_mean: float
    valence_p90: float
    """Weighted by time; NaN without speech."""


def statistics(timeline: Timeline) -> Statistics:
    """Sum up all rows."""
    found = lanes(timeline)
    rows = np.concatenate([lane.rows for lane in found]) if found else np.empty(0, np.int64)
    seconds = np.concatenate([lane.end_s - lane.start_s for lane in found]) if found else np.empty(0)
    lost = timeline.event[rows] == "gap"
    state, label = np.where(lost, "", timeline.state[rows]), timeline.label[rows]
    scored_s = float(seconds[state == "speech"].sum())
    parts = {label_: float(seconds[(state == "speech") & (label == label_)].sum()) for label_ in timeline.labels}
    spoken = ((state == "speech") | (state == "abstain")) & np.isfinite(timeline.arousal[rows])
    arousal, valence, weights = timeline.arousal[rows][spoken], timeline.valence[rows][spoken], seconds[spoken]
    audio_s = sum(float(lane.end_s.max(initial=0.0)) for lane in found)
    return Statistics(
        audio_s=audio_s,
        scored_s=scored_s,
        abstained_s=float(seconds[state == "abstain"].sum()),
        silent_s=float(seconds[state == "no_speech"].sum()),
        lost_s=float(seconds[lost].sum()),
        unscored_s=max(0.0, audio_s - float(seconds.sum())),
        shares={name: part / scored_s if scored_s else 0.0 for name, part in parts.items()},
        transitions=_transitions(timeline, found),
        longest=_longest(timeline, found),
        arousal_mean=_mean(arousal, weights),
        arousal_p90=_percentile(arousal, weights, 90),
        valence_mean=_mean(valence, weights),
        valence_p90=_percentile(valence, weights, 90),
    )


def episodes(timeline: Timeline, holds: NDArray[np.bool_], least_s: float) -> list[Episode]:
    """Stretches in which `holds` (shape (rows,)) is true of every hop of speech, for at least `least_s` of speech.

    A pause does not end one; a gap does.
    """
    return _episodes(timeline, lanes(timeline), holds, least_s)


def _episodes(timeline: Timeline, found_in: list[Lane], holds: NDArray[np.bool_], least_s: float) -> list[Episode]:
    found = []
    for lane in found_in:
        lost = timeline.event[lane.rows] == "gap"
        counts = lost | (timeline.state[lane.rows] != "no_speech")
        seconds = lane.end_s - lane.start_s
        rows = np.flatnonzero(counts)
        held = (holds[lane.rows] & ~lost)[rows]
        edges = np.flatnonzero(np.diff(held, prepend=False, append=False))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            those = rows[first:end]
            speech_s = float(seconds[those].sum())
            if speech_s >= least_s:
                start_s, end_s = float(lane.start_s[those[0]]), float(lane.end_s[those[-1]])
                found.append(Episode(lane.file, lane.channel, start_s, end_s, speech_s))
    return found


def _transitions(timeline: Timeline, found: list[Lane]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for lane in found:
        before = ""
        columns = timeline.event[lane.rows], timeline.state[lane.rows], timeline.label[lane.rows]
        for event, state, label in zip(*columns, strict=True):
            if event == "gap":
                before = ""
            elif state == "speech":
                if before and label != before:
                    counts[before, label] += 1
                before = label
    return counts


def _longest(timeline: Timeline, found_in: list[Lane]) -> dict[str, Episode]:
    longest = {}
    for label in timeline.labels:
        if found := _episodes(timeline, found_in, (timeline.state == "speech") & (timeline.label == label), 0.0):
            longest[label] = max(found, key=lambda e: e.speech_s)
    return longest


def _mean(values: Floats, weights: Floats) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() else float("nan")


def _percentile(values: Floats, weights: Floats, percent: float) -> float:
    """The value below which `percent` of the weight lies."""
    if not weights.sum():
        return float("nan")
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, percent / 100)])
