"""A timeline without overlaps: which row tells of which stretch of the audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import TimelineError
from realtime_ser.timeline.read import Floats, Timeline
from realtime_ser.timeline.runs import clock_rows, rows_by_lane

State = Literal["speech", "abstain", "no_speech", "gap"]


@dataclass(frozen=True)
class Lane:
    """One channel of one recording: hops and gaps in order, none of which overlaps another.

    Utterances instead of hops, if the timeline was made with a row for each utterance alone. Where no row tells
    anything (an utterance's end behind its last hop, one too short to score) there is a hole.
    """

    file: str
    channel: int
    rows: NDArray[np.int64]
    """Of the timeline."""
    start_s: Floats
    end_s: Floats


@dataclass(frozen=True)
class Segment:
    """A stretch of one state and label."""

    file: str
    channel: int
    start_s: float
    end_s: float
    state: State
    label: str
    """Empty but for `speech`."""
    utterance: int
    """0 outside speech."""
    confidence: float
    arousal: float
    valence: float
    """Means; NaN outside speech."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def lanes(timeline: Timeline) -> list[Lane]:
    """Each channel of each recording, in the order in which they first appear.

    Raises
    ------
    TimelineError
        If there is one with a row for the whole recording alone.
    """
    found = []
    for every in rows_by_lane(timeline.file, timeline.channel):
        file, channel = timeline.file[every[0]], timeline.channel[every[0]]
        event, trigger = timeline.event[every], timeline.trigger[every]
        rows = every[clock_rows(event, trigger)]
        if set(trigger[event == "measurement"]) == {"file"}:
            raise TimelineError(f"{timeline.path}: has rows of whole files alone", "analyse with --rows hop")
        # As lists: scalars of arrays are slow to go through one by one.
        start_s, end_s = timeline.start_s[rows].tolist(), timeline.end_s[rows].tolist()
        speaks = ((timeline.state[rows] != "no_speech") & (timeline.event[rows] != "gap")).tolist()
        for i in range(1, len(rows)):
            k = i - 1
            # Speech is noticed late, and its pre-roll was told as silence before.
            while speaks[i] and k >= 0 and not speaks[k] and end_s[k] > start_s[i]:
                end_s[k] = start_s[i]
                k -= 1
            # Windows look back on what was told already.
            if k >= 0:
                start_s[i] = min(max(start_s[i], end_s[k]), end_s[i])
        starts, ends = np.array(start_s), np.array(end_s)
        kept = ends > starts
        found.append(Lane(str(file), int(channel), rows[kept], starts[kept], ends[kept]))
    return found


def segments(timeline: Timeline, lane: Lane) -> Iterator[Segment]:
    """Rows of one state, label and utterance that touch, as one."""

    def key(i: int) -> tuple[State, str, int]:
        row = lane.rows[i]
        if timeline.event[row] == "gap":
            return "gap", "", 0
        state: State = timeline.state[row]
        return state, timeline.label[row] if state == "speech" else "", int(timeline.utterance[row])

    def stretch(i: int) -> tuple[int, State, str, int]:
        return int(piece[i]), *key(i)

    # A hole ends a segment, too.
    holes = np.concatenate(([False], lane.start_s[1:] > lane.end_s[:-1] + 1e-6)) if len(lane.rows) else np.empty(0)
    piece = np.cumsum(holes)
    for (_, state, label, utterance), run in groupby(range(len(lane.rows)), stretch):
        those = list(run)
        rows, weights = lane.rows[those], lane.end_s[those] - lane.start_s[those]
        spoken = state in ("speech", "abstain")
        confidence, arousal, valence = (
            float(np.average(column[rows], weights=weights)) if spoken else float("nan")
            for column in (timeline.confidence, timeline.arousal, timeline.valence)
        )
        start_s, end_s = float(lane.start_s[those[0]]), float(lane.end_s[those[-1]])
        yield Segment(lane.file, lane.channel, start_s, end_s, state, label, utterance, confidence, arousal, valence)
