"""A timeline in the formats of other programs, written with those formats' own libraries (extra `export`)."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from realtime_ser.errors import SettingsError, SinkError, TimelineError
from realtime_ser.timeline.names import short_names
from realtime_ser.timeline.read import Timeline
from realtime_ser.timeline.segments import Segment, lanes, segments

_EMOTIONML = "http://www.w3.org/2009/10/emotionml"


def export(timeline: Timeline, format_: str, path: Path, overwrite: bool = False) -> None:
    """Write a timeline in one of `FORMATS`; nothing half-written is left behind.

    Raises
    ------
    TimelineError
        If it holds several recordings, and the format has room for one.
    SettingsError
        For an unknown format, or one whose library is not installed.
    SinkError
        If the path exists, or cannot be written; a folder gives way to nothing but a newer audformat database.
    """
    if format_ not in FORMATS:
        raise SettingsError(f"format {format_!r}", f"there are: {', '.join(FORMATS)}")
    chosen = FORMATS[format_]
    files = dict.fromkeys(timeline.file)
    if len(files) > 1 and not chosen.many:
        raise TimelineError(
            f"{timeline.path}: holds {len(files)} recordings",
            f"name one of them with --recording, such as {list(files)[-1]!r}",
        )
    if path.exists() and not overwrite:
        raise SinkError(f"{path}: exists already", "give --overwrite, or another path")
    if path.exists() and path.samefile(timeline.path):
        raise SinkError(f"{path}: is the timeline itself", "name another file")
    if path.is_dir() and not chosen.folder:
        raise SinkError(f"{path}: is a folder", "name a file")
    if path.exists() and chosen.folder and not _is_database(path):
        raise SinkError(f"{path}: is no folder with an audformat database alone", "name another folder")
    with _beside(path) as unfinished:
        try:
            chosen.write(timeline, unfinished)
        except ImportError as error:
            raise SettingsError(f"{error.name} is not installed", "pip install 'realtime-ser[export]'") from None


def of_recording(timeline: Timeline, name: str) -> Timeline:
    """The rows of one recording alone; raises TimelineError if there is none of this name."""
    rows = timeline.file == name
    if not rows.any():
        known = ", ".join(map(str, dict.fromkeys(timeline.file)))
        raise TimelineError(f"{timeline.path}: has no recording {name!r}", f"there are: {known}")
    return timeline.part(rows)


def _is_database(path: Path) -> bool:
    """Whether a folder holds a header and tables and nothing else: no recordings that would go with them."""
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError:
        return False
    return "db.yaml" in names and all(name.startswith("db.") for name in names)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place in the same folder, which becomes `path` once all went well."""
    place = path.absolute()  # the folder we are in has a name, too
    try:
        folder = Path(tempfile.mkdtemp(prefix=".realtime-ser-", dir=place.parent))
    except OSError as error:
        raise _not_written(path, error) from None
    try:
        unfinished = folder / place.name
        yield unfinished
        _put_in_place(unfinished, place)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(new: Path, path: Path) -> None:
    """Move it to `path`. A folder that is there waits beside it, outside of what is removed, until that is done."""
    if not path.is_dir():
        new.replace(path)
        return
    old = path.with_name(f"{new.parent.name}.old")
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    old.replace(new)


def _not_written(path: Path, error: OSError) -> SinkError:
    return SinkError(f"{path}: cannot be written ({(error.strerror or str(error)).lower()})", "choose another path")


def _spoken(timeline: Timeline) -> Iterator[Segment]:
    """Labelled and abstained stretches of all lanes, in the order of time within each."""
    for lane in lanes(timeline):
        yield from (s for s in segments(timeline, lane) if s.state in ("speech", "abstain"))


def _words(segment: Segment) -> str:
    text = segment.label if segment.state == "speech" else "unsure"
    return f"{segment.channel}: {text}" if segment.channel else text


def _notes(timeline: Timeline, kind: str) -> list[tuple[float, str]]:
    rows = np.flatnonzero(timeline.event == kind)
    return [(float(timeline.start_s[i]), str(timeline.note[i])) for i in rows]


def write_audacity(timeline: Timeline, path: Path) -> None:
    """Labels with six decimals, separated by tabs: emotions, gaps, and markers as points."""
    lines = [(s.start_s, s.end_s, _words(s)) for s in _spoken(timeline)]
    for i in np.flatnonzero(timeline.event == "gap"):
        lines.append((float(timeline.start_s[i]), float(timeline.end_s[i]), f"gap: {timeline.note[i]}"))
    lines += [(at_s, at_s, f"marker: {text}") for at_s, text in _notes(timeline, "marker")]
    rows = [f"{start_s:.6f}\t{end_s:.6f}\t{text}" for start_s, end_s, text in sorted(lines)]
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def write_textgrid(timeline: Timeline, path: Path) -> None:
    """Praat's TextGrid: interval tiers utterance, label and state for each channel, no holes; markers as points."""
    from praatio.textgrid import IntervalTier, PointTier, Textgrid

    grid = Textgrid(0, timeline.duration_s)
    for lane in lanes(timeline):
        found = list(segments(timeline, lane))
        of = f" {lane.channel}" if lane.channel else ""
        tiers: dict[str, list[tuple[float, float, str]]] = {
            "utterance": [(s.start_s, s.end_s, str(s.utterance)) for s in found if s.utterance],
            "label": [(s.start_s, s.end_s, s.label) for s in found if s.label],
            "state": [(s.start_s, s.end_s, s.state) for s in found],
        }
        for name, entries in tiers.items():
            grid.addTier(IntervalTier(name + of, _merged(entries), 0, timeline.duration_s))
    if markers := _notes(timeline, "marker"):
        grid.addTier(PointTier("marker", markers, 0, timeline.duration_s))
    grid.save(str(path), "long_textgrid", includeBlankSpaces=True, reportingMode="silence")


def _merged(entries: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Neighbours that touch and say the same, as one."""
    merged: list[tuple[float, float, str]] = []
    for start_s, end_s, text in entries:
        if merged and merged[-1][2] == text and start_s - merged[-1][1] < 1e-6:
            start_s = merged.pop()[0]
        merged.append((start_s, end_s, text))
    return merged


def _captions(timeline: Timeline) -> Any:
    import webvtt

    def clock(seconds: float) -> str:
        ms = round(1000 * seconds)
        return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"

    captions = webvtt.WebVTT()
    for segment in sorted(_spoken(timeline), key=lambda s: s.start_s):
        # Players take what is between these for markup, and WebVTT's arrow for a new time.
        text = f"{_words(segment)} {segment.confidence:.0%}".translate({ord("<"): "‹", ord(">"): "›"})
        captions.captions.append(webvtt.Caption(clock(segment.start_s), clock(segment.end_s), text))
    return captions


def write_webvtt(timeline: Timeline, path: Path) -> None:
    """Captions for a browser's video or audio element."""
    with path.open("w", encoding="utf-8") as file:
        _captions(timeline).write(file, format="vtt")


def write_srt(timeline: Timeline, path: Path) -> None:
    """Captions for video players."""
    with path.open("w", encoding="utf-8") as file:
        _captions(timeline).write(file, format="srt")


def write_elan(timeline: Timeline, path: Path) -> None:
    """ELAN's .eaf: the tiers of the TextGrid; times are whole milliseconds."""
    from pympi.Elan import Eaf

    eaf = Eaf(author="realtime-ser")
    eaf.remove_tier("default")
    for lane in lanes(timeline):
        of = f" {lane.channel}" if lane.channel else ""
        for name in ("utterance", "label", "state"):
            eaf.add_tier(name + of)
        for s in segments(timeline, lane):
            start_ms, end_ms = round(1000 * s.start_s), round(1000 * s.end_s)
            if end_ms <= start_ms:
                continue
            eaf.add_annotation("state" + of, start_ms, end_ms, s.state)
            if s.label:
                eaf.add_annotation("label" + of, start_ms, end_ms, s.label)
            if s.utterance:
                eaf.add_annotation("utterance" + of, start_ms, end_ms, str(s.utterance))
    if markers := _notes(timeline, "marker"):
        eaf.add_tier("marker")
        for at_s, text in markers:
            eaf.add_annotation("marker", round(1000 * at_s), round(1000 * at_s) + 1, text)
    eaf.to_file(str(path))


def write_audformat(timeline: Timeline, path: Path) -> None:
    """A folder that `audformat.Database.load` opens: a segmented table `emotion`, or `emotion.1`, … of each channel."""
    import audformat
    import pandas

    database = audformat.Database(
        "realtime-ser", source="realtime-ser", usage="other", description="A timeline of realtime-ser."
    )
    database.schemes["label"] = audformat.Scheme(labels=list(timeline.labels))
    database.schemes["state"] = audformat.Scheme(labels=["speech", "abstain"])
    for name, low in (("confidence", 0.0), ("arousal", -1.0), ("valence", -1.0)):
        database.schemes[name] = audformat.Scheme("float", minimum=low, maximum=1.0)
    spoken = list(_spoken(timeline))
    for channel in sorted(set(timeline.channel.tolist())) or [0]:
        found = [s for s in spoken if s.channel == channel]
        index = audformat.segmented_index(
            [s.file for s in found],
            pandas.to_timedelta([s.start_s for s in found], unit="s"),
            pandas.to_timedelta([s.end_s for s in found], unit="s"),
        )
        table = database[f"emotion.{channel}" if channel else "emotion"] = audformat.Table(index)
        columns: dict[str, list[Any]] = {
            "label": [s.label or None for s in found],
            "state": [s.state for s in found],
            "confidence": [s.confidence for s in found],
            "arousal": [s.arousal for s in found],
            "valence": [s.valence for s in found],
        }
        for name, values in columns.items():
            table[name] = audformat.Column(scheme_id=name)
            table[name].set(values)
    database.save(str(path))


def write_emotionml(timeline: Timeline, path: Path) -> None:
    """W3C EmotionML 1.0 with the labels as its own vocabulary; dimensions run from 0 to 1 there.

    Where each is stands in a media fragment, its channel as the track (its `start` and `end` are times of day). Valid
    against the W3C's schema: `EMOTIONML_XSD=emotionml.xsd pytest tests/timeline` with the schema from
    https://www.w3.org/TR/emotionml/.
    """
    ElementTree.register_namespace("", _EMOTIONML)

    def tag(name: str) -> str:
        return f"{{{_EMOTIONML}}}{name}"

    vocabularies = {"labels": ("category", timeline.labels), "affect": ("dimension", ("arousal", "valence"))}
    root = ElementTree.Element(
        tag("emotionml"), {"version": "1.0", "category-set": "#labels", "dimension-set": "#affect"}
    )
    for name, (kind, items) in vocabularies.items():
        vocabulary = ElementTree.SubElement(root, tag("vocabulary"), {"type": kind, "id": name})
        for item in items:
            ElementTree.SubElement(vocabulary, tag("item"), {"name": _token(item)})
    for s in _spoken(timeline):
        if not s.label and not math.isfinite(s.arousal):
            continue  # an emotion of which nothing is said is not allowed
        emotion = ElementTree.SubElement(root, tag("emotion"))
        if s.label:
            value = {"name": _token(s.label), "confidence": f"{s.confidence:.4f}"}
            ElementTree.SubElement(emotion, tag("category"), value)
        for name, number in (("arousal", s.arousal), ("valence", s.valence)):
            if math.isfinite(number):
                ElementTree.SubElement(emotion, tag("dimension"), {"name": name, "value": f"{(number + 1) / 2:.4f}"})
        place = f"{quote(s.file)}#t={s.start_s:.3f},{s.end_s:.3f}" + (f"&track={s.channel}" if s.channel else "")
        ElementTree.SubElement(emotion, tag("reference"), {"uri": place, "role": "expressedBy"})
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _token(label: str) -> str:
    """As the schema wants a vocabulary's names: an NMTOKEN."""
    return re.sub(r"[^\w.-]", "_", label)


def write_rttm(timeline: Timeline, path: Path) -> None:
    """NIST's rich transcription time marks, the label in the place of the speaker.

    Recordings are called by their names, without suffixes if they differ without them.
    """
    rows = []
    # What follows a suffix is the run.
    stems = {file: re.sub(r"\.\w+(?=( \(\d+\))?$)", "", file) for file in dict.fromkeys(timeline.file)}
    if len(set(stems.values())) < len(stems):
        stems = {file: file for file in stems}
    names = short_names(stems.values())
    for s in _spoken(timeline):
        name = re.sub(r"\s", "_", names[stems[s.file]]) or "-"
        label = re.sub(r"\s", "_", s.label) or "unsure"
        rows.append(
            f"SPEAKER {name} {max(1, s.channel)} {s.start_s:.3f} {s.duration_s:.3f} <NA> <NA> {label} "
            f"{s.confidence:.4f} <NA>"
        )
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def write_parquet(timeline: Timeline, path: Path) -> None:
    """Every row and column, for pandas, DuckDB and the like; what does not exist is null."""
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = {}
    for name, values in timeline.columns().items():
        if values.dtype == object:
            columns[name] = pyarrow.array([value or None for value in values], pyarrow.string())
        elif values.dtype == np.int64:
            columns[name] = pyarrow.array(values, mask=values == 0)
        else:
            columns[name] = pyarrow.array(values, mask=np.isnan(values))
    parquet.write_table(pyarrow.table(columns), path)


@dataclass(frozen=True)
class Format:
    """How to write it, what its files are called, whether it has room for several recordings, and is a folder."""

    write: Callable[[Timeline, Path], None]
    suffix: str
    many: bool = False
    folder: bool = False


FORMATS = {
    "audacity": Format(write_audacity, ".labels.txt"),
    "textgrid": Format(write_textgrid, ".TextGrid"),
    "webvtt": Format(write_webvtt, ".vtt"),
    "srt": Format(write_srt, ".srt"),
    "elan": Format(write_elan, ".eaf"),
    "audformat": Format(write_audformat, ".audformat", many=True, folder=True),
    "emotionml": Format(write_emotionml, ".emotionml"),
    "rttm": Format(write_rttm, ".rttm", many=True),
    "parquet": Format(write_parquet, ".parquet", many=True),
}
