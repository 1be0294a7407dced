"""Sessions one behind another in a timeline, as --append writes them: each is a recording of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rows_by_lane(file: NDArray[np.object_], channel: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each channel of each recording, in their order, and the lanes in that of their first rows."""
    numbers: dict[tuple[str, int], int] = {}
    keys = zip(file, channel.tolist(), strict=True)
    number = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []


def clock_rows(event: NDArray[np.object_], trigger: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which rows of a lane tell of its audio one after the other: gaps, and hops, or utterances where there are none.

    None of them ends before the one before it in its session.
    """
    measured = event == "measurement"
    hops = measured & (trigger == "hop")
    return (hops if hops.any() else measured & (trigger == "utterance")) | (event == "gap")


def named_by_run(
    file: NDArray[np.object_],
    channel: NDArray[np.int64],
    event: NDArray[np.object_],
    trigger: NDArray[np.object_],
    end_s: NDArray[np.float64],
) -> NDArray[np.object_]:
    """The recordings' names with the number of the run behind all but the first: "mic", "mic (2)".

    A new run begins where the clock goes back.
    """
    named = file.copy()
    for rows in rows_by_lane(file, channel):
        clock = clock_rows(event[rows], trigger[rows])
        runs = _runs(clock, ~clock & (event[rows] == "measurement"), end_s[rows])
        for row, run in zip(rows[runs > 0].tolist(), runs[runs > 0].tolist(), strict=True):
            named[row] = f"{file[row]} ({run + 1})"
    return named


def _runs(clock: NDArray[np.bool_], pooled: NDArray[np.bool_], end_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of a lane's rows, how many runs came before; `pooled` tells of what is past."""
    ticks = np.flatnonzero(clock)
    back = np.flatnonzero(np.diff(end_s[ticks]) < 0)
    begins = ticks[back + 1]
    for i, last in enumerate(ticks[back].tolist()):
        # What a session warned of, or a person marked, before its first hop.
        while not pooled[begins[i] - 1] and end_s[begins[i] - 1] < end_s[last]:
            begins[i] -= 1
    return np.searchsorted(begins, np.arange(len(end_s)), side="right")
