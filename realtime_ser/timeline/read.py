"""Read a timeline back: what `live`, `replay` and `analyze` wrote, as arrays."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError, TimelineError
from realtime_ser.events import State
from realtime_ser.printable import printable
from realtime_ser.timeline.runs import named_by_run

if TYPE_CHECKING:
    import pandas

Floats = NDArray[np.float64]
Texts = NDArray[np.object_]

_FIRST = "file start end event trigger state utterance label label_raw confidence arousal valence".split()
"""Columns that every version of the schema has before the scores."""
_LAST = "level_dbfs snr_db clipped latency_ms wall_time channel note".split()
_TEXTS = frozenset("file event trigger state label label_raw wall_time note".split())
_CHUNK_ROWS = 5_000


@dataclass(frozen=True)
class Timeline:
    """The rows of a timeline in the order of the file, one array for each column, all of one length.

    Numbers that do not exist are NaN, texts that do not exist are empty, and so is `channel` 0 and `utterance` 0.
    """

    path: Path
    labels: tuple[str, ...]
    file: Texts
    """The recording's name. Where --append went on in a file, those of its second session are called "mic (2)"."""
    start_s: Floats
    end_s: Floats
    event: Texts
    """`measurement`, `gap`, `warning`, `marker` or `alert`."""
    trigger: Texts
    """`hop`, `utterance` or `file` for measurements."""
    state: Texts
    """`speech`, `abstain` or `no_speech` for measurements."""
    utterance: NDArray[np.int64]
    channel: NDArray[np.int64]
    label: Texts
    label_raw: Texts
    confidence: Floats
    arousal: Floats
    valence: Floats
    scores: Floats
    """Shape (rows, labels): of each window alone."""
    scores_smooth: Floats
    """Shape (rows, labels): of the smoothed trace."""
    level_dbfs: Floats
    snr_db: Floats
    clipped: Floats
    latency_ms: Floats
    wall_time: Texts
    note: Texts
    sidecar: dict[str, Any] = field(default_factory=dict)
    """What stands beside it: model, settings, versions; empty if nothing does."""
    problems: tuple[str, ...] = ()
    """What is wrong with the file; what came before it was read."""

    def __len__(self) -> int:
        return len(self.start_s)

    def to_pandas(self) -> pandas.DataFrame:
        """As a data frame with the CSV's columns; raises SettingsError without pandas (extra `export`)."""
        try:
            import pandas
        except ImportError:
            raise SettingsError("pandas is not installed", "pip install 'realtime-ser[export]'") from None
        return pandas.DataFrame(self.columns())

    @property
    def hops(self) -> NDArray[np.bool_]:
        """Which rows are measurements of a hop: the trace itself, speech and silence."""
        return (self.event == "measurement") & (self.trigger == "hop")

    @property
    def trace(self) -> Floats:
        """`scores_smooth`, and the scores themselves of utterances, which are not smoothed."""
        return np.where(np.isfinite(self.scores_smooth), self.scores_smooth, self.scores)

    def part(self, rows: NDArray[np.bool_]) -> Timeline:
        """Some of the rows."""
        changed = {
            f.name: getattr(self, f.name)[rows] for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **changed)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays by the names that the CSV gives them."""
        first = {"file": self.file, "start": self.start_s, "end": self.end_s}
        rest = "event trigger state utterance label label_raw confidence arousal valence".split()
        return {
            **first,
            **{name: getattr(self, name) for name in rest},
            **{f"p_{label}": self.scores[:, i] for i, label in enumerate(self.labels)},
            **{f"s_{label}": self.scores_smooth[:, i] for i, label in enumerate(self.labels)},
            **{name: getattr(self, name) for name in _LAST},
        }

    @property
    def duration_s(self) -> float:
        """Up to the last row's end."""
        return float(self.end_s.max(initial=0.0))


def read_timeline(path: Path | str) -> Timeline:
    """Read a CSV or JSON Lines timeline of any version; columns that are not its own are passed over.

    A file that is cut off in the middle of a row is read up to there, and says so in `problems`.

    Raises
    ------
    TimelineError
        If it cannot be opened, is empty, or is no timeline.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # a spreadsheet's UTF-8 has a byte order mark
            first = file.readline()
            if not first:
                raise TimelineError(f"{path}: the file is empty", "nothing was written into it")
            file.seek(0)
            timeline = _from_json(path, file) if first.startswith("{") else _from_csv(path, file)
    except OSError as error:
        raise TimelineError(f"{path}: {(error.strerror or str(error)).lower()}", "check the path") from None
    except UnicodeDecodeError:
        raise TimelineError(f"{path}: is no text", "name a timeline that --csv or --jsonl wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise TimelineError(f"{path}: is a damaged timeline ({detail})", "write it anew") from None
    return timeline


def _from_csv(path: Path, file: Iterable[str]) -> Timeline:
    rows = filter(None, csv.reader(file))  # an editor or a spreadsheet may leave empty lines
    header = next(rows, [""])
    if header[0].startswith("file;") or header[-1].endswith(";"):
        # Not read: where cells are so separated, a spreadsheet may have taken 1.250 for a thousand and more.
        raise TimelineError(f"{path}: was saved with semicolons between its cells", "give it as --csv wrote it")
    if header[: len(_FIRST)] != _FIRST:
        missing = [name for name in _FIRST if name not in header]
        what = f"has no column {missing[0]!r}" if 0 < len(missing) < len(_FIRST) else "is no timeline"
        raise TimelineError(f"{path}: {what}", "name a timeline that --csv or --jsonl wrote")
    header = [printable(name) for name in header]
    labels = tuple(name[2:] for name in header if name.startswith("p_"))
    if not labels or [name[2:] for name in header if name.startswith("s_")] != list(labels):
        raise TimelineError(f"{path}: its p_ and s_ columns do not agree", "write it anew")
    # Other columns are somebody's own.
    known = {*_FIRST, *_LAST, *(name for name in header if name.startswith(("p_", "s_")))}
    parts: list[list[NDArray[Any]]] = [[] for _ in header]
    problems: list[str] = []
    n_rows = 0
    try:
        for chunk in _chunks(rows, len(header)):
            if len(chunk[-1]) != len(header):
                chunk.pop()
                problems.append(f"row {n_rows + len(chunk) + 2} is cut off; it was read up to there")
            n_rows += len(chunk)
            for part, name, cells in zip(parts, header, zip(*chunk, strict=True), strict=False):
                if name in known:
                    part.append(_objects(cells) if name in _TEXTS else _floats(path, name, cells))
            if problems:
                break
    except csv.Error as error:
        problems.append(f"after row {n_rows + 1}: {error}; it was read up to there")
    columns = {name: np.concatenate(part) for name, part in zip(header, parts, strict=True) if part}

    def column(name: str, number: bool) -> NDArray[Any]:
        if name in columns:
            return columns[name]
        return np.full(n_rows, math.nan) if number else _objects([""] * n_rows)

    return _timeline(path, labels, column, _sidecar(path), problems)


def _chunks(rows: Iterator[list[str]], n_columns: int) -> Iterator[list[list[str]]]:
    """Rows by the thousand, up to and with the first that is shorter or longer: a day of rows is too many strings."""
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        wrong = next((i for i, row in enumerate(chunk) if len(row) != n_columns), None)
        yield chunk if wrong is None else chunk[: wrong + 1]


def _floats(path: Path, name: str, column: Sequence[Any]) -> Floats:
    try:
        return np.array([float(value or math.nan) if value != 0 else 0.0 for value in column], np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise TimelineError(f"{path}: column {name!r}: {error}", "write it anew") from None


def _objects(column: Sequence[str]) -> Texts:
    """Texts, printable: so no export, page or picture has to ask what is in them."""
    found = np.empty(len(column), object)
    found[:] = [printable(text) for text in column]
    return found


def _from_json(path: Path, file: Iterable[str]) -> Timeline:
    events: list[dict[str, Any]] = []
    problems: list[str] = []
    created: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for number, line in enumerate(file, 1):
        try:
            event = json.loads(line)
            kind = event["type"]
        except (ValueError, KeyError, TypeError, RecursionError):
            problems.append(f"line {number} is cut off; it was read up to there")
            break
        if kind == "session.created":
            created = created or event
            sources[event["session_id"]] = event["source"]
        elif kind in ("measurement", "gap", "warning", "marker", "alert"):
            events.append(event)
    if not created:
        raise TimelineError(f"{path}: is no timeline", "name a timeline that --csv or --jsonl wrote")
    labels = tuple(printable(_text(label)) for label in created["labels"])
    if not labels:
        raise TimelineError(f"{path}: has no labels", "write it anew")
    names = {"start": "start_s", "end": "end_s", "event": "type"}

    def values(name: str) -> list[Any]:
        if name == "file":
            return [sources.get(e["session_id"], created["source"]) for e in events]
        if name == "note":
            return [_note(e) for e in events]
        if name[:2] in ("p_", "s_") and name[2:] in labels:
            scores = "scores" if name[0] == "p" else "scores_smooth"
            return [e.get(scores, {}).get(name[2:]) for e in events]
        return [e.get(names.get(name, name)) for e in events]

    def column(name: str, number: bool) -> NDArray[Any]:
        found = values(name)
        return _floats(path, name, found) if number else _objects([_text(v) for v in found])

    return _timeline(path, labels, column, created, problems)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _note(event: dict[str, Any]) -> str:
    """As the CSV has it."""
    match event["type"]:
        case "gap":
            return f"{event['cause']}: {event['lost_samples']} samples lost"
        case "warning":
            return f"{event['code']}: {event['message']}; {event['remedy']}"
        case "marker":
            return str(event["text"])
        case "alert":
            return f"{event['rule']}: {event['value']:.2f}"
        case _:
            return ""


def _timeline(
    path: Path,
    labels: tuple[str, ...],
    column: Callable[[str, bool], NDArray[Any]],
    sidecar: dict[str, Any],
    problems: list[str],
) -> Timeline:
    def numbers(name: str) -> Floats:
        return column(name, True)

    def texts(name: str) -> Texts:
        return column(name, False)

    def counts(name: str) -> NDArray[np.int64]:
        return np.nan_to_num(numbers(name)).astype(np.int64)

    state = texts("state")
    if unknown := set(state) - {"", *get_args(State)}:
        raise ValueError(f"state {min(unknown)!r}")
    start_s, end_s = numbers("start"), numbers("end")
    if not (np.isfinite(start_s).all() and np.isfinite(end_s).all()):
        raise TimelineError(f"{path}: a row has no time", "write it anew")
    event, trigger, channel = texts("event"), texts("trigger"), counts("channel")
    if ((event == "measurement") & (state == "")).any():
        raise ValueError("a measurement has no state")
    return Timeline(
        path,
        labels,
        start_s=start_s,
        end_s=end_s,
        utterance=counts("utterance"),
        channel=channel,
        scores=np.stack([numbers(f"p_{label}") for label in labels], axis=1),
        scores_smooth=np.stack([numbers(f"s_{label}") for label in labels], axis=1),
        sidecar=sidecar,
        problems=tuple(problems),
        file=named_by_run(texts("file"), channel, event, trigger, end_s),
        event=event,
        trigger=trigger,
        state=state,
        label=texts("label"),
        label_raw=texts("label_raw"),
        wall_time=texts("wall_time"),
        note=texts("note"),
        confidence=numbers("confidence"),
        arousal=numbers("arousal"),
        valence=numbers("valence"),
        level_dbfs=numbers("level_dbfs"),
        snr_db=numbers("snr_db"),
        clipped=numbers("clipped"),
        latency_ms=numbers("latency_ms"),
    )


def _sidecar(path: Path) -> dict[str, Any]:
    """The JSON beside a CSV, if it is there and whole."""
    try:
        found = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
