"""A timeline as a still picture for documents (extra `report`)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from realtime_ser.errors import SinkError
from realtime_ser.timeline.colours import colours_of
from realtime_ser.timeline.names import short_names
from realtime_ser.timeline.read import Floats, Timeline
from realtime_ser.timeline.segments import Lane, lanes
from realtime_ser.timeline.sound import Sound, need_matplotlib

_MOST_STEPS = 1_400
"""As many as the panels have pixels."""


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
    need_matplotlib()
    from matplotlib.figure import Figure

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
    edges_s = _edges(lane)
    at_s = np.stack((edges_s[:-1], edges_s[1:]), axis=1).ravel()

    def steps(column: Floats) -> Floats:
        return _means(lane, column[lane.rows], edges_s).repeat(2)

    colours = colours_of(timeline.labels)
    names = [label.replace("$", r"\$") for label in timeline.labels]  # else mathematics
    columns = [steps(column) for column in timeline.trace.T]
    if kind == "band":
        panel.stackplot(at_s, np.nan_to_num(columns), labels=names, colors=colours, linewidth=0)
        panel.set(ylim=(0, 1), ylabel="all")
        name = short_names(timeline.file)[lane.file] + (f", channel {lane.channel}" if lane.channel else "")
        panel.set_title(name, fontsize=10, parse_math=False)
    elif kind == "lines":
        for column, colour in zip(columns, colours, strict=True):
            panel.plot(at_s, column, color=colour, linewidth=1)
        panel.set(ylim=(0, 1), ylabel="each")
    else:
        for name, colour in (("arousal", "#e5484d"), ("valence", "#3b82f6")):
            panel.plot(at_s, steps(getattr(timeline, name)), color=colour, label=name, linewidth=1)
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


def _edges(lane: Lane) -> Floats:
    """Between the steps to draw: where rows begin and end, or as many as can be seen."""
    edges_s = np.unique(np.append(0.0, (lane.start_s, lane.end_s)))
    return edges_s if len(edges_s) <= _MOST_STEPS else np.linspace(0.0, edges_s[-1], _MOST_STEPS + 1)


def _means(lane: Lane, values: Floats, edges_s: Floats) -> Floats:
    """Of rows' values from edge to edge, by the seconds of each that has one; NaN where none has."""
    has = np.isfinite(values)
    seconds = np.where(has, lane.end_s - lane.start_s, 0.0)
    at_s = np.append(0.0, np.stack((lane.start_s, lane.end_s), axis=1))

    def between(amounts: Floats) -> Floats:
        told = np.cumsum(amounts)
        return np.diff(np.interp(edges_s, at_s, np.append(0.0, np.stack((told - amounts, told), axis=1))))

    heard_s = between(seconds)
    sums = between(seconds * np.where(has, values, 0.0))
    return np.divide(sums, heard_s, out=np.full(len(heard_s), np.nan), where=heard_s > 1e-6)


def _draw_sound(sound: Sound, panel: Any) -> None:
    from matplotlib import image

    picture = image.imread(io.BytesIO(sound.spectrogram_png))
    panel.imshow(picture, extent=(0, sound.duration_s, 0, 500), aspect="auto", interpolation="nearest")
    if sound.pitch_hz is not None:
        panel.plot(np.arange(len(sound.pitch_hz)) * sound.pitch_step_s, sound.pitch_hz, color="#5eead4", linewidth=1)
    panel.set(ylim=(0, 500), ylabel="mel; pitch in Hz")
