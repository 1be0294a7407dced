"""Labels that people gave, in the formats of their programs."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from realtime_ser.errors import SettingsError, TimelineError
from realtime_ser.printable import printable
from realtime_ser.timeline.read import read_timeline
from realtime_ser.timeline.segments import lanes, segments

_EXPORTED = re.compile(r"(?:(\d+): )?(.*)")
"""A label as `export` writes it for Audacity: the channel in front."""
_NO_LABELS = re.compile(r"unsure$|gap: |marker: ")
"""What else it writes there."""


@dataclass(frozen=True)
class Annotation:
    """A stretch with what one person heard in it: no label, or NaN for a number, where nobody gave one."""

    start_s: float
    end_s: float
    label: str
    arousal: float = math.nan
    valence: float = math.nan

    @property
    def says_something(self) -> bool:
        """Whether anything was given at all."""
        return bool(self.label) or math.isfinite(self.arousal) or math.isfinite(self.valence)


Tiers = dict[str, list[Annotation]]
"""By name, audformat's tables too; formats without have one that is called ""."""


@dataclass(frozen=True)
class Wanted:
    """Which labels, of a file that may hold those of several recordings, channels or tiers."""

    labels: tuple[str, ...] = ()
    """The model's."""
    file: str = ""
    channel: int = 0
    tier: str | None = None
    """Its name; None to look for it."""
    tell: Callable[[str], None] = lambda line: None
    """Told which tier was read, if there are several, and what is wrong with a timeline."""


def read_annotations(path: Path, wanted: Wanted = Wanted()) -> list[Annotation]:
    """Audacity labels, Praat TextGrid, ELAN, audformat (a folder), CSV (start,end[,label,arousal,valence]), a timeline.

    Of several tiers or tables that are not empty, the one that `export` writes labels into is read, or the only one
    in which a label of the model stands. Without a label, what has a number is kept. A timeline is a rater whose labels
    are its segments.

    Raises
    ------
    TimelineError
        If it cannot be read as that, or none or several of its tiers may be meant.
    SettingsError
        If the format's library is not installed.
    """
    if not path.exists():
        raise TimelineError(f"{path}: no such file", "check the path")
    reader = _audformat if path.is_dir() else _READERS.get(path.suffix.lower(), _audacity)
    try:
        tiers = reader(path, wanted)
    except TimelineError:
        raise
    except ImportError as error:
        raise SettingsError(f"{error.name} is not installed", "pip install 'realtime-ser[export]'") from None
    except Exception as error:  # noqa: BLE001 - the formats' libraries raise classes that share no other base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TimelineError(f"{path}: cannot be read as labels ({reason})", "give another file") from None
    for name, tier in tiers.items():
        tidied = [replace(one, label=printable(one.label).strip()) for one in tier]
        tiers[name] = [one for one in tidied if one.says_something]
    found = _chosen(path, tiers, wanted)
    for one in found:
        if not -math.inf < one.start_s <= one.end_s < math.inf:
            raise TimelineError(f"{path}: has a label from {one.start_s} to {one.end_s} s", "mend its times")
    return found


def _chosen(path: Path, tiers: Tiers, wanted: Wanted) -> list[Annotation]:
    filled = [name for name in tiers if tiers[name]]
    if not filled:
        raise TimelineError(f"{path}: holds no labels", "fill some in")
    listed = ", ".join(map(repr, filled))
    if wanted.tier is not None:
        if wanted.tier not in filled:
            raise TimelineError(
                f"{path}: has no labels in a tier {wanted.tier!r}",
                f"there are: {listed if any(filled) else 'no tiers'}",
            )
        return tiers[wanted.tier]
    of = wanted.channel
    ours = [name for name in (f"label {of}", "label", f"emotion.{of}", "emotion") if name in filled][:1]
    known = {label.casefold() for label in wanted.labels}
    speaking = [name for name in filled if any(one.label.casefold() in known for one in tiers[name])]
    for names in (ours, filled, speaking):
        if len(names) == 1:
            if len(filled) > 1:
                wanted.tell(f"{path}: tier {names[0]!r} was read, of {listed}")
            return tiers[names[0]]
    raise TimelineError(f"{path}: has several tiers: {listed}", "name the one with the labels with --tier")


def _audacity(path: Path, wanted: Wanted) -> Tiers:
    found = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if not line or line.startswith("\\"):  # a line with frequencies belongs to the one before
            continue
        start, end, text = line.split("\t", 2)
        channel, label = _EXPORTED.fullmatch(text.strip()).groups()  # type: ignore[union-attr]  # fits any line
        if label and not _NO_LABELS.match(label) and (not channel or wanted.channel in (0, int(channel))):
            found.append(Annotation(_number(start), _number(end), label))
    return {"": found}


def _csv(path: Path, wanted: Wanted) -> Tiers:
    with path.open(encoding="utf-8-sig", newline="") as file:  # a spreadsheet's UTF-8 has a byte order mark
        rows = csv.reader(file)
        header = [name.strip().casefold() for name in next(rows, ())]
        if {"event", "trigger"} <= set(header):
            return _timeline(path, wanted)
        if ";" in "".join(header):
            # Not read: where cells are so separated, a spreadsheet may have taken 1.250 for a thousand and more.
            raise ValueError("its cells are separated by semicolons; save it with commas, and points in numbers")
        for name in ("start", "end", *(() if {"arousal", "valence"} & set(header) else ("label",))):
            if name not in header:
                raise ValueError(f"it has no column {name!r}")
        try:
            return {"": [_of_row(header, cells) for cells in rows if any(cells)]}
        except (ValueError, csv.Error) as error:
            raise ValueError(f"line {rows.line_num}: {error}") from None


def _of_row(header: list[str], cells: list[str]) -> Annotation:
    if any(cells[len(header) :]):
        raise ValueError("has more cells than there are columns; write decimals with a point")
    row = dict(zip(header, map(str.strip, cells), strict=False))
    start_s, end_s = (_number(row.get(name, "")) for name in ("start", "end"))
    arousal, valence = (_number(row.get(name) or "nan") for name in ("arousal", "valence"))
    return Annotation(start_s, end_s, row.get("label", ""), arousal, valence)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        comma = "; write decimals with a point" * ("," in text)
        raise ValueError(f"{printable(text)!r} is no number{comma}") from None


def _timeline(path: Path, wanted: Wanted) -> Tiers:
    timeline = read_timeline(path)
    for problem in timeline.problems:
        wanted.tell(f"{path}: {problem}")
    every = lanes(timeline)
    fitting = [lane for lane in every if (lane.file, lane.channel) == (wanted.file, wanted.channel)] or every
    if len(fitting) > 1:
        channel = f", channel {wanted.channel}" * bool(wanted.channel)
        raise TimelineError(f"{path}: has {len(every)} lanes, none of them {wanted.file!r}{channel}", "give its own")
    return {
        "": [
            Annotation(s.start_s, s.end_s, s.label, s.arousal, s.valence)
            for lane in fitting
            for s in segments(timeline, lane)
        ]
    }


def _textgrid(path: Path, wanted: Wanted) -> Tiers:
    from praatio.textgrid import IntervalTier, openTextgrid

    grid = openTextgrid(str(path), includeEmptyIntervals=False)
    intervals = [tier for tier in grid.tiers if isinstance(tier, IntervalTier)]  # not points
    return {tier.name: [Annotation(e.start, e.end, e.label) for e in tier.entries] for tier in intervals}


def _elan(path: Path, wanted: Wanted) -> Tiers:
    from pympi.Elan import Eaf

    eaf = Eaf(str(path))
    rows = {name: sorted(eaf.get_annotation_data_for_tier(name)) for name in eaf.get_tier_names()}
    return {
        name: [Annotation(start / 1000, end / 1000, label) for start, end, label, *_ in tier]
        for name, tier in rows.items()
    }


def _audformat(path: Path, wanted: Wanted) -> Tiers:
    import audformat
    import yaml

    # audformat itself would run what a header's tags and pickled tables say.
    header = yaml.safe_load((path / "db.yaml").read_text(encoding="utf-8"))
    for name in (*(header.get("tables") or ()), *(header.get("misc_tables") or ())):
        pickled = path / f"db.{name}.pkl"
        if pickled.parent != path or pickled.exists():
            raise ValueError(f"table {name!r} is pickled, which could run any program: save it as CSV")
    database = audformat.Database.load(str(path))
    tables = {name: database[name].get().reset_index() for name in database.tables}
    return {name: _of_table(table, wanted.file) for name, table in tables.items() if {"start", "end"} <= set(table)}


def _of_table(table: Any, file: str) -> list[Annotation]:
    if table["file"].nunique() > 1:
        table = table[table["file"] == file]
    times_s = (table[name].dt.total_seconds() for name in ("start", "end"))
    labels = table["label"] if "label" in table else [""] * len(table)
    numbers = (table[n].astype(float) if n in table else [math.nan] * len(table) for n in ("arousal", "valence"))
    rows = zip(*times_s, labels, *numbers, strict=True)
    return [Annotation(a, b, label if isinstance(label, str) else "", *two) for a, b, label, *two in rows]


_READERS: dict[str, Callable[[Path, Wanted], Tiers]] = {
    ".csv": _csv,
    ".jsonl": _timeline,
    ".textgrid": _textgrid,
    ".eaf": _elan,
    ".txt": _audacity,
}
