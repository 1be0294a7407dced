"""A timeline as a still picture for documents (extra `report`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from realtime_ser.errors import SettingsError, SinkError
from realtime_ser.timeline.read import Timeline
from realtime_ser.timeline.segments import Lane, lanes

COLOURS = {
    "neutral": "#9aa1ac",
    "happy": "#e5b800",
    "sad": "#3b82f6",
    "angry": "#e5484d",
    "fearful": "#9d6ff0",
    "disgusted": "#3fa34d",
    "surprised": "#f0822e",
}
_OTHERS = ("#12a594", "#d6409f", "#65a30d", "#0ea5e9", "#b45309", "#f472b6")
_MOST_POINTS = 4_000


def draw_still(timeline: Timeline, path: Path) -> None:
    """A band of emotions, and arousal and valence, for each lane; PNG or SVG by the path's suffix.

    Silence is blank, gaps are hatched, markers are flags.

    Raises
    ------
    SettingsError
        If Matplotlib is not installed.
    SinkError
        If the path cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SettingsError("matplotlib is not installed", "pip install 'realtime-ser[report]'") from None
    found = lanes(timeline)
    figure = Figure(figsize=(10, 0.6 + 3.2 * max(1, len(found))), layout="constrained")
    heights = [2, 1] * max(1, len(found))
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    for i, lane in enumerate(found):
        band, affect = panels[2 * i, 0], panels[2 * i + 1, 0]
        _draw(timeline, lane, band, affect)
        band.set_title(Path(lane.file).name + (f", channel {lane.channel}" if lane.channel else ""), fontsize=10)
    panels[-1, 0].set_xlabel("seconds")
    if found:
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=7, fontsize=8, frameon=False)
    temporary = path.with_name(path.name + ".new")
    try:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
        temporary.replace(path)
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise SinkError(f"{path}: cannot be written ({error})", "choose another path") from None


def _draw(timeline: Timeline, lane: Lane, band: Any, affect: Any) -> None:
    every = max(1, len(lane.rows) // _MOST_POINTS)
    rows, start_s, end_s = lane.rows[::every], lane.start_s[::every], lane.end_s[::every]
    spoken = np.isfinite(timeline.scores_smooth[rows, 0])
    # Each row as a step from its start to its end; what is not speech is a hole.
    at_s = np.stack((start_s, end_s), axis=1).ravel()
    scores = np.where(spoken[:, None], timeline.scores_smooth[rows], 0.0).repeat(2, axis=0)
    colours = [COLOURS.get(label, _OTHERS[i % len(_OTHERS)]) for i, label in enumerate(timeline.labels)]
    band.stackplot(at_s, scores.T, labels=timeline.labels, colors=colours, linewidth=0)
    band.set(ylim=(0, 1), ylabel="emotion")
    for name, colour in (("arousal", "#e5484d"), ("valence", "#3b82f6")):
        values = np.where(spoken, getattr(timeline, name)[rows], np.nan).repeat(2)
        affect.plot(at_s, values, color=colour, label=name, linewidth=1)
    affect.set(ylim=(-1, 1))
    affect.legend(loc="upper right", fontsize=7, frameon=False, ncols=2)
    affect.grid(alpha=0.3)
    own = (timeline.file == lane.file) & (timeline.channel == lane.channel)
    for i in np.flatnonzero(own & (timeline.event == "gap")):
        for panel in (band, affect):
            panel.axvspan(
                timeline.start_s[i], timeline.end_s[i], facecolor="none", edgecolor="#e5484d", hatch="///", linewidth=0
            )
    for i in np.flatnonzero(own & (timeline.event == "marker")):
        band.annotate("⚑", (timeline.start_s[i], 1), ha="left", va="bottom", fontsize=9)
        band.axvline(timeline.start_s[i], color="black", linewidth=0.8)
