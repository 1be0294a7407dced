"""Labels that people gave, in the formats of their programs."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from realtime_ser.errors import SettingsError, TimelineError
from realtime_ser.printable import printable


@dataclass(frozen=True)
class Annotation:
    """A stretch with what one person heard in it; NaN for a number nobody gave."""

    start_s: float
    end_s: float
    label: str
    arousal: float = math.nan
    valence: float = math.nan


def read_annotations(path: Path) -> list[Annotation]:
    """Audacity labels, Praat TextGrid, ELAN, audformat (a folder) or CSV (start,end,label[,arousal,valence]).

    A TextGrid or ELAN file is read from its tier `label`, or its first. Empty labels are left out.

    Raises
    ------
    TimelineError
        If it cannot be read as that.
    SettingsError
        If the format's library is not installed.
    """
    if not path.exists():
        raise TimelineError(f"{path}: no such file", "check the path")
    reader = _audformat if path.is_dir() else _READERS.get(path.suffix.lower(), _audacity)
    try:
        found = reader(path)
    except ImportError as error:
        raise SettingsError(f"{error.name} is not installed", "pip install 'realtime-ser[export]'") from None
    except Exception as error:  # noqa: BLE001 - the formats' libraries raise classes that share no other base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TimelineError(f"{path}: cannot be read as labels ({reason})", "give another file") from None
    if not found:
        raise TimelineError(f"{path}: holds no labels", "fill some in")
    found = [replace(one, label=printable(one.label)) for one in found]
    for one in found:
        if not -math.inf < one.start_s <= one.end_s < math.inf:
            raise TimelineError(f"{path}: has a label from {one.start_s} to {one.end_s} s", "mend its times")
    return found


def _audacity(path: Path) -> list[Annotation]:
    found = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if not line or line.startswith("\\"):  # a line with frequencies belongs to the one before
            continue
        start, end, label = line.split("\t", 2)
        if label.strip():
            found.append(Annotation(float(start), float(end), label.strip()))
    return found


def _csv(path: Path) -> list[Annotation]:
    with path.open(encoding="utf-8-sig", newline="") as file:  # a spreadsheet's UTF-8 has a byte order mark
        reader = csv.DictReader(file)
        rows = list(reader)
    if ";" in "".join(reader.fieldnames or ()):
        # Not read: where cells are so separated, a spreadsheet may have taken 1.250 for a thousand and more.
        raise ValueError("its cells are separated by semicolons; save it with commas, and points in numbers")

    def number(row: dict[str, str], name: str) -> float:
        return float(row.get(name) or math.nan)

    return [
        Annotation(float(r["start"]), float(r["end"]), r["label"], number(r, "arousal"), number(r, "valence"))
        for r in rows
        if r["label"]
    ]


def _textgrid(path: Path) -> list[Annotation]:
    from praatio.textgrid import openTextgrid

    grid = openTextgrid(str(path), includeEmptyIntervals=False)
    name = "label" if "label" in grid.tierNames else grid.tierNames[0]
    return [Annotation(e.start, e.end, e.label) for e in grid.getTier(name).entries]


def _elan(path: Path) -> list[Annotation]:
    from pympi.Elan import Eaf

    eaf = Eaf(str(path))
    names = list(eaf.get_tier_names())
    rows = eaf.get_annotation_data_for_tier("label" if "label" in names else names[0])
    return [Annotation(start / 1000, end / 1000, label) for start, end, label, *_ in sorted(rows) if label]


def _audformat(path: Path) -> list[Annotation]:
    import audformat
    import yaml

    # audformat itself would run what a header's tags and pickled tables say.
    header = yaml.safe_load((path / "db.yaml").read_text(encoding="utf-8"))
    for name in (*(header.get("tables") or ()), *(header.get("misc_tables") or ())):
        pickled = path / f"db.{name}.pkl"
        if pickled.parent != path or pickled.exists():
            raise ValueError(f"table {name!r} is pickled, which could run any program: save it as CSV")
    database = audformat.Database.load(str(path))
    table = database[next(name for name in database.tables if "label" in database[name].columns)]
    frame = table.get().reset_index()
    numbers = {name: frame[name].astype(float) if name in frame else None for name in ("arousal", "valence")}
    return [
        Annotation(
            row.start.total_seconds(),
            row.end.total_seconds(),
            str(row.label),
            *(math.nan if values is None else float(values[i]) for values in numbers.values()),
        )
        for i, row in enumerate(frame.itertuples())
        if isinstance(row.label, str)
    ]


_READERS: dict[str, Callable[[Path], list[Annotation]]] = {
    ".csv": _csv,
    ".textgrid": _textgrid,
    ".eaf": _elan,
    ".txt": _audacity,
}
