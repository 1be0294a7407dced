"""A timeline as a still picture for documents (extra `report`)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError, SinkError
from realtime_ser.timeline.colours import colours_of
from realtime_ser.timeline.names import short_names
from realtime_ser.timeline.read import Timeline
from realtime_ser.timeline.segments import Lane, lanes
from realtime_ser.timeline.sound import Sound

_MOST_POINTS = 4_000


def draw_still(timeline: Timeline, path: Path, sound: Sound | None = None) -> None:
    """For each lane a band of emotions, the same as lines, arousal and valence; PNG or SVG by the path's suffix.

    With the sound, its mel spectrogram and pitch below the first lane. Silence is blank, gaps are hatched, markers are
    flags.

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
    rows = [(lane, kind) for lane in found for kind in ("band", "lines", "affect")]
    if found and sound is not None:
        rows.insert(3, (found[0], "sound"))
    heights = [2.0 if kind == "band" else 1.2 for _, kind in rows] or [1.0]
    figure = Figure(figsize=(10, 0.8 + 0.9 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (lane, kind) in zip(panels, rows, strict=False):
        if kind == "sound" and sound is not None:
            _draw_sound(sound, panel)
        else:
            _draw(timeline, lane, kind, panel)
    panels[-1].set_xlabel("seconds")
    if found:
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=7, fontsize=8, frameon=False
        )
    temporary = path.with_name(path.name + ".new")
    try:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
        temporary.replace(path)
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise SinkError(f"{path}: cannot be written ({error})", "choose another path") from None


def _draw(timeline: Timeline, lane: Lane, kind: str, panel: Any) -> None:
    every = max(1, len(lane.rows) // _MOST_POINTS)
    rows, start_s, end_s = lane.rows[::every], lane.start_s[::every], lane.end_s[::every]
    scores = timeline.trace[rows]
    spoken = np.isfinite(scores[:, 0])
    # Each row as a step from its start to its end; what is not speech is a hole.
    at_s = np.stack((start_s, end_s), axis=1).ravel()

    def steps(values: NDArray[np.float64], hole: float) -> NDArray[np.float64]:
        return np.where(spoken, values, hole).repeat(2)

    colours = colours_of(timeline.labels)
    names = [label.replace("$", r"\$") for label in timeline.labels]  # else mathematics
    columns = [scores[:, i] for i in range(len(timeline.labels))]
    if kind == "band":
        panel.stackplot(at_s, [steps(c, 0.0) for c in columns], labels=names, colors=colours, linewidth=0)
        panel.set(ylim=(0, 1), ylabel="all")
        name = short_names(timeline.file)[lane.file] + (f", channel {lane.channel}" if lane.channel else "")
        panel.set_title(name, fontsize=10, parse_math=False)
    elif kind == "lines":
        for column, colour in zip(columns, colours, strict=True):
            panel.plot(at_s, steps(column, np.nan), color=colour, linewidth=1)
        panel.set(ylim=(0, 1), ylabel="each")
    else:
        for name, colour in (("arousal", "#e5484d"), ("valence", "#3b82f6")):
            panel.plot(at_s, steps(getattr(timeline, name)[rows], np.nan), color=colour, label=name, linewidth=1)
        panel.set(ylim=(-1, 1), ylabel="affect")
        panel.legend(loc="upper right", fontsize=7, frameon=False, ncols=2)
    panel.grid(alpha=0.3)
    own = (timeline.file == lane.file) & (timeline.channel == lane.channel)
    for i in np.flatnonzero(own & (timeline.event == "gap")):
        edge = {"facecolor": "none", "edgecolor": "#e5484d", "hatch": "///", "linewidth": 0}
        panel.axvspan(timeline.start_s[i], timeline.end_s[i], **edge)
    for i in np.flatnonzero(own & ((timeline.event == "marker") | (timeline.event == "alert"))):
        panel.axvline(timeline.start_s[i], color="black", linewidth=0.8)
        if kind == "band":
            panel.annotate("⚑", (timeline.start_s[i], 1), ha="left", va="bottom", fontsize=9)


def _draw_sound(sound: Sound, panel: Any) -> None:
    from matplotlib import image

    picture = image.imread(io.BytesIO(sound.spectrogram_png))
    panel.imshow(picture, extent=(0, sound.duration_s, 0, 500), aspect="auto", interpolation="nearest")
    if sound.pitch_hz is not None:
        panel.plot(np.arange(len(sound.pitch_hz)) * sound.pitch_step_s, sound.pitch_hz, color="#5eead4", linewidth=1)
    panel.set(ylim=(0, 500), ylabel="mel; pitch in Hz")
