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


def named_by_run(
    file: NDArray[np.object_],
    channel: NDArray[np.int64],
    clock: NDArray[np.bool_],
    pooled: NDArray[np.bool_],
    end_s: NDArray[np.float64],
) -> NDArray[np.object_]:
    """The recordings' names with the number of the run behind all but the first: "mic", "mic (2)".

    Parameters
    ----------
    clock
        Which rows never end before the one before them in a session: a new one begins where that goes back.
    pooled
        Which rows tell of what is past.
    """
    named = file.copy()
    for rows in rows_by_lane(file, channel):
        runs = _runs(clock[rows], pooled[rows], end_s[rows])
        for row, run in zip(rows[runs > 0].tolist(), runs[runs > 0].tolist(), strict=True):
            named[row] = f"{file[row]} ({run + 1})"
    return named


def _runs(clock: NDArray[np.bool_], pooled: NDArray[np.bool_], end_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of a lane's rows, how many runs came before."""
    ticks = np.flatnonzero(clock)
    back = np.flatnonzero(np.diff(end_s[ticks]) < 0)
    begins = ticks[back + 1]
    for i, last in enumerate(ticks[back].tolist()):
        # What a session warned of, or a person marked, before its first hop.
        while not pooled[begins[i] - 1] and end_s[begins[i] - 1] < end_s[last]:
            begins[i] -= 1
    return np.searchsorted(begins, np.arange(len(end_s)), side="right")
