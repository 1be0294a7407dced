"""A timeline as one self-contained HTML file (extra `report`)."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.stages.model import models_folder
from realtime_ser.timeline.colours import colours_of
from realtime_ser.timeline.names import short_names
from realtime_ser.timeline.read import Timeline
from realtime_ser.timeline.segments import Lane, lanes
from realtime_ser.timeline.sound import Sound
from realtime_ser.timeline.statistics import Statistics, statistics

_PAGE = Path(__file__).parent / "page"
_STATES = {"no_speech": 0, "speech": 1, "abstain": 2, "gap": 3}


def report(timelines: Sequence[Timeline], heard: Sound | None = None) -> str:
    """HTML of timelines side by side where the screen has room, with the sound of the first if it is given.

    Raises
    ------
    SettingsError
        If plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise SettingsError("plotly is not installed", "pip install 'realtime-ser[report]'") from None
    sections: list[str] = []
    data: list[dict[str, Any]] = []
    names = short_names(file for timeline in timelines for file in timeline.file)
    for timeline in timelines:
        sections.append("<div>")
        for lane in lanes(timeline):
            name = names[lane.file] + (f", channel {lane.channel}" if lane.channel else "")
            sections.append(
                f"<section><h2>{html.escape(name)}</h2>"
                f'<div class="plot"><div id="lane{len(data)}"></div><div class="cursor"></div></div>'
                f"{_tables(statistics(_alone(timeline, lane)))}</section>"
            )
            data.append(_packed(timeline, lane, heard if timeline is timelines[0] else None))
        sections.append("</div>")
    problems = [f"{t.path}: {problem}" for t in timelines for problem in t.problems]
    title = ", ".join(dict.fromkeys(t.path.name for t in timelines))
    # No tag or comment in a name may end the script.
    lanes_script = "const LANES = " + json.dumps(data).replace("<", "\\u003c") + ";\n"
    scripts = get_plotlyjs(), lanes_script + (_PAGE / "report.js").read_text(encoding="utf-8")
    fields = {
        # Were a tag to get in after all, the browser would run nothing but these two scripts, and fetch nothing.
        "scripts_allowed": " ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
        "title": html.escape(f"Emotion timeline: {title}"),
        "subtitle": html.escape(_subtitle(timelines[0])),
        "problems": "".join(f'<p class="problem">{html.escape(problem)}</p>' for problem in problems),
        "player": _player(heard),
        "layout": "several" if len(timelines) > 1 else "",
        "lanes": "\n".join(sections),
        "card": _card(timelines[0]),
        "style": (_PAGE / "report.css").read_text(encoding="utf-8"),
        "plotly": scripts[0],
        "script": scripts[1],
    }
    return Template((_PAGE / "report.html").read_text(encoding="utf-8")).substitute(fields)


def _alone(timeline: Timeline, lane: Lane) -> Timeline:
    return timeline.part((timeline.file == lane.file) & (timeline.channel == lane.channel))


def _subtitle(timeline: Timeline) -> str:
    sidecar = timeline.sidecar
    parts = [f"model {sidecar.get('model_id', 'unknown')}", sidecar.get("model_licence"), sidecar.get("wall_time")]
    return " · ".join(str(part) for part in parts if part)


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _encoded(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _bytes_of(values: NDArray[np.float64], scale: float) -> NDArray[np.int8]:
    """As whole numbers of a byte; -128 for what does not exist."""
    return np.where(np.isfinite(values), np.clip(np.round(values * scale), -127, 127), -128).astype(np.int8)


def _packed(timeline: Timeline, lane: Lane, audio: Sound | None) -> dict[str, Any]:
    """What the page draws a lane from: a day is seven bytes a row and some."""
    rows = lane.rows
    lost = timeline.event[rows] == "gap"
    states = [3 if gap else _STATES[state] for gap, state in zip(lost, timeline.state[rows], strict=True)]
    own = (timeline.file == lane.file) & (timeline.channel == lane.channel)
    markers = np.flatnonzero(own & ((timeline.event == "marker") | (timeline.event == "alert")))
    gaps = np.flatnonzero(own & (timeline.event == "gap"))
    packed: dict[str, Any] = {
        # Plotly takes texts for HTML.
        "labels": [html.escape(label) for label in timeline.labels],
        "colours": colours_of(timeline.labels),
        "duration": float(lane.end_s.max(initial=1.0)),
        "start": _encoded(lane.start_s.astype(np.float32)),
        "end": _encoded(lane.end_s.astype(np.float32)),
        "state": _encoded(np.array(states, np.uint8)),
        "scores": _encoded(np.round(np.nan_to_num(timeline.trace[rows]) * 250).astype(np.uint8)),
        "arousal": _encoded(_bytes_of(timeline.arousal[rows], 100)),
        "valence": _encoded(_bytes_of(timeline.valence[rows], 100)),
        "level": _encoded(_bytes_of(timeline.level_dbfs[rows], 1)),
        "markers": [{"at": float(timeline.start_s[i]), "text": html.escape(str(timeline.note[i]))} for i in markers],
        "gaps": [
            {
                "start": float(timeline.start_s[i]),
                "end": float(timeline.end_s[i]),
                "text": html.escape(str(timeline.note[i]).split(":")[0]),
            }
            for i in gaps
        ],
    }
    if audio is not None:
        packed["heard"], packed["duration"] = audio.duration_s, max(audio.duration_s, packed["duration"])
        packed["spectrogram"] = "data:image/png;base64," + base64.b64encode(audio.spectrogram_png).decode()
        if audio.pitch_hz is not None:
            at = np.round(np.arange(len(audio.pitch_hz)) * audio.pitch_step_s, 3).tolist()
            packed["pitch"] = {"x": at, "y": [None if np.isnan(hz) else round(hz, 1) for hz in audio.pitch_hz.tolist()]}
    return packed


def _tables(found: Statistics) -> str:
    def seconds(value: float) -> str:
        return f"{value:.1f} s" if value < 600 else f"{value / 60:.1f} min"

    def number(value: float) -> str:
        return f"{value:+.2f}" if np.isfinite(value) else "–"

    def table(caption: str, rows: list[tuple[str, str]]) -> str:
        body = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
        return f"<table><caption>{caption}</caption>{body}</table>" if body else ""

    coverage = {
        "scored": found.scored_s,
        "unsure": found.abstained_s,
        "silent": found.silent_s,
        "not scored": found.unscored_s,
        "lost": found.lost_s,
    }
    shares = sorted(found.shares.items(), key=lambda item: -item[1])
    transitions = sorted(found.transitions.items(), key=lambda item: -item[1])[:8]
    longest = sorted(found.longest.items(), key=lambda item: -item[1].speech_s)
    tables = (
        table("Coverage", [("audio", seconds(found.audio_s)), *((k, seconds(v)) for k, v in coverage.items())]),
        table("Scored speech", [(label, f"{share:.0%}") for label, share in shares if share >= 0.005]),
        table(
            "Arousal and valence",
            [
                ("mean arousal", number(found.arousal_mean)),
                ("90th percentile", number(found.arousal_p90)),
                ("mean valence", number(found.valence_mean)),
                ("90th percentile", number(found.valence_p90)),
            ],
        ),
        table(
            "Longest stretch, without pauses",
            [(k, f"{seconds(e.speech_s)} from {seconds(e.start_s)} on") for k, e in longest],
        ),
        table("Transitions", [(f"{a} → {b}", str(n)) for (a, b), n in transitions]),
    )
    return f'<div class="tables">{"".join(tables)}</div>'


def _card(timeline: Timeline) -> str:
    """The bundled model's own, if it is that model: a timeline must not choose another place to read from."""
    folders = {folder.name: folder for folder in models_folder().glob("*/")}
    folder = folders.get(str(timeline.sidecar.get("model_id")))
    if folder is None:
        return ""
    text = (folder / "card.md").read_text(encoding="utf-8")
    return f"<details><summary>The model's card and figures</summary><pre>{html.escape(text)}</pre></details>"


def _player(audio: Sound | None) -> str:
    if audio is None:
        return ""
    return (
        f'<audio controls preload="auto" src="data:audio/mpeg;base64,{base64.b64encode(audio.mp3).decode()}"></audio>'
    )
