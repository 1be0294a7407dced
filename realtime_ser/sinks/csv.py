"""The timeline as CSV: one row per measurement, gap, warning and marker, in the order of time."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from realtime_ser.errors import SinkError
from realtime_ser.events import SCHEMA, Alert, Event, Gap, Marker, Measurement, SessionCreated, Warning
from realtime_ser.printable import json_line, printable
from realtime_ser.sinks._file import LineFile, Mode, drop_unfinished_line, first_line, write_atomically
from realtime_ser.stages.monitor import Notice

_TEXTS = ("file", "event", "trigger", "state", "label", "label_raw", "wall_time", "channel", "note")
_FORMULA = re.compile(r"(^\s*|;\s*)([=+\-@＝＋－＠])")


def columns(labels: Sequence[str]) -> list[str]:
    """The header for a model with these labels; the first three are audformat's segmented index."""
    return [
        *"file start end event trigger state utterance label label_raw confidence arousal valence".split(),
        *(f"p_{label}" for label in labels),
        *(f"s_{label}" for label in labels),
        *"level_dbfs snr_db clipped latency_ms wall_time channel note".split(),
    ]


def _number(value: float | None, decimals: int) -> str:
    """Fixed decimals; empty for what does not exist."""
    if value is None or not math.isfinite(value):
        return ""
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and not float(text) else text  # no "-0.0"


def file_cell(name: str) -> str:
    """What stands in the `file` column for a file of this name."""
    return _text(name)


@lru_cache  # the same few again in every row
def _text(value: str | None) -> str:
    """Free text without control characters, and with an apostrophe where a spreadsheet would see a formula: at the
    beginning, and behind a semicolon, which separates cells in many countries."""
    return _FORMULA.sub(r"\1'\2", printable(value or ""))


class CsvSink:
    """Writes events as rows of a timeline, flushed one by one, and `PATH.json` with what they were made with.

    Parameters
    ----------
    path
        The CSV. Its folder must exist.
    labels
        The model's labels.
    file
        What goes into the `file` column.
    mode
        What to do if the file exists.
    rows
        Of the measurements, all or those of whole utterances only.
    joined
        When many timelines are joined and this goes on after an interruption: the files whose rows it holds already.
    made_with
        What else, besides the session's own facts, the sidecar is to say.
    tell
        Told when the file was rotated, in the thread that writes.

    Raises
    ------
    SinkError
        If the file exists, holds other columns, or cannot be written; `WriteError` if later rows may be.
    """

    def __init__(
        self,
        path: Path,
        labels: Sequence[str],
        *,
        file: str,
        mode: Mode = "new",
        rows: Literal["all", "utterance"] = "all",
        joined: Sequence[str] | None = None,
        made_with: Mapping[str, str] | None = None,
        tell: Callable[[Notice], None] = lambda notice: None,
    ) -> None:
        self._columns = columns(labels)
        self._file_name = file
        self._rows = rows
        header = _header(labels)
        self._appends = mode == "append" and path.is_file() and path.stat().st_size > 0
        if self._appends:
            _check_header(path, header)
        self._file = LineFile(path, mode, header, tell)
        self._beside = sidecar_path(path) if path.is_file() else None  # nothing stands beside a pipe or device
        self._more = made_with or {}
        self._made_with: dict[str, Any] | None = None
        """For the sidecar; the sessions of further channels would say the same."""
        self._described = False
        """The sidecar is written."""
        self._resumes = joined is not None
        self._joined = list(joined or ())
        self._joined_fields: dict[str, Any] = {}

    def write(self, event: Event) -> None:
        """Write the event's row, if it has one."""
        if isinstance(event, SessionCreated) and self._made_with is None:
            fields = {k: v for k, v in event.to_dict().items() if k not in {"type", "seq", "start_s", "end_s"}}
            self._made_with = {**fields, **self._more, "columns": self._columns}
        if self._made_with is not None and not self._described:  # with a disk that was full, once there is room
            self._sidecar(self._made_with)
            self._described = True
        match event:
            case Measurement(trigger=trigger):
                if self._rows == "all" or trigger == "utterance":
                    self._row(event, self._measurement(event))
            case Gap():
                self._row(event, {"note": f"{event.cause}: {event.lost_samples} samples lost"})
            case Warning():
                self._row(event, {"note": f"{event.code}: {event.message}; {event.remedy}"})
            case Marker():
                self._row(event, {"note": event.text})
            case Alert():
                self._row(event, {"note": f"{event.rule}: {event.value:.2f}"})
            case _:
                pass

    def join(self, path: Path) -> None:
        """Append the rows of another timeline with the same columns, and take over its sidecar if this has none.

        Raises
        ------
        SinkError
            If this goes on a timeline of another model; nothing of the other is then written.
        """
        sidecar = sidecar_path(path)
        if sidecar.exists():
            fields = json.loads(sidecar.read_text(encoding="utf-8"))
            self._joined.append(fields["source"])
            first = not self._joined_fields
            self._joined_fields = fields | {"source": self._joined}
            if first:  # the others when closed: not the whole list again for each of thousands
                self._sidecar(self._joined_fields)
        with path.open(encoding="utf-8", newline="") as part:
            next(part, None)
            for line in part:
                if line.endswith("\n"):
                    self._file.write(line[:-1])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._joined_fields and len(self._joined) > 1:
            self._sidecar(self._joined_fields)
            self._joined_fields = {}

    def _sidecar(self, fields: dict[str, Any]) -> None:
        """Say what the rows are made with; or, of rows that are there already, see that it is the same."""
        path = self._beside
        if path is None:
            return
        if self._appends and path.exists() and not self._resumes:
            _check_sidecar(path, {key: fields[key] for key in ("schema", "model_sha256")})
        else:
            write_atomically(path, json_line(fields, indent=2) + "\n")

    def _measurement(self, event: Measurement) -> dict[str, Any]:
        cells: dict[str, Any] = {
            "trigger": event.trigger,
            "state": event.state,
            "utterance": event.utterance,
            "label": event.label,
            "label_raw": event.label_raw,
            "confidence": _number(event.confidence, 4),
            "arousal": _number(event.arousal, 4),
            "valence": _number(event.valence, 4),
            "level_dbfs": _number(event.level_dbfs, 1),
            "snr_db": _number(event.snr_db, 1),
            "clipped": event.clipped,
            "latency_ms": _number(event.latency_ms, 2),
            "wall_time": event.wall_time,
        }
        for prefix, scores in (("p", event.scores), ("s", event.scores_smooth)):
            cells |= {f"{prefix}_{label}": _number(value, 4) for label, value in scores.items()}
        return cells

    def _row(self, event: Event, cells: dict[str, Any]) -> None:
        cells |= {
            "file": self._file_name,
            "start": _number(event.start_s, 3),
            "end": _number(event.end_s, 3),
            "event": event.type,
            "channel": event.channel,
        }
        cells |= {name: _text(str(cells[name])) for name in _TEXTS if cells.get(name) is not None}
        self._file.write(_line(cells.get(name, "") for name in self._columns))


def _header(labels: Sequence[str]) -> str:
    return _line(map(_text, columns(labels)))


def _line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def renumbered_rows(piece: Path, file: str, utterances: int) -> str:
    """The rows of a timeline of a piece of `file`, which so many utterances come before; without the last line end."""
    with piece.open(encoding="utf-8", newline="") as timeline:
        timeline.readline()
        rows = timeline.read().removesuffix("\n")
    # Before the seventh comma behind its name nothing but numbers and words of ours stands in a row.
    numbered = re.compile(f"^({re.escape(_line([file_cell(file), '']))}(?:[^,\n]*,){{5}})([0-9]+)", re.MULTILINE)
    return numbered.sub(lambda row: f"{row[1]}{int(row[2]) + utterances}", rows) if utterances else rows


def sidecar_path(path: Path) -> Path:
    """What stands beside a timeline and says what it was made with."""
    return path.with_name(path.name + ".json")


def _check_header(path: Path, header: str) -> None:
    found = first_line(path)
    # A writer may have been killed within the header: that is cut off and written anew.
    # Behind another line end, as of an old Mac, no row of ours could be told from the next.
    if found is None or not (found in (f"{header}\n", f"{header}\r\n") or header.startswith(found)):
        raise SinkError(f"{path}: is no timeline with these labels", "append to a timeline of the same model")


def check_made_with(sidecar: Path, **made_with: Any) -> None:
    """Raises SinkError unless a timeline's sidecar has these fields, and our schema."""
    _check_sidecar(sidecar, {"schema": SCHEMA, **json.loads(json.dumps(made_with))})


def _check_sidecar(path: Path, fields: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        others = [key for key, value in fields.items() if key not in found or found[key] != value]
    except (OSError, ValueError, TypeError):
        raise SinkError(f"{path}: does not tell what the timeline was made with", "begin another") from None
    if others:
        raise SinkError(f"{path}: tells of another {' and '.join(others)}", "go on with what began the timeline")


def keep_whole_files(path: Path, labels: Sequence[str], **made_with: Any) -> list[str]:
    """Cut off the rows of the last file, which its writer may not have finished; get the names before it, in order.

    Names are as `file_cell` writes them. Raises SinkError before anything is cut off from what is no timeline with
    these labels, or was made with something else than these fields of its sidecar.
    """
    _check_header(path, _header(labels))
    if sidecar_path(path).exists():
        check_made_with(sidecar_path(path), **made_with)
    names: list[str] = []
    whole = 0
    """Where the rows of the last file begin."""
    try:
        drop_unfinished_line(path)
        with path.open("rb+") as file:
            position = len(file.readline())
            cell = b""
            for line in file:
                if line.strip() and not (names and line.startswith(cell)):
                    names.append(next(csv.reader([line.decode("utf-8", "replace")]))[0])
                    cell = _line([names[-1], ""]).encode("utf-8", "replace")
                    whole = position
                position += len(line)
            if names:
                file.truncate(whole)
    except csv.Error as error:
        raise SinkError(f"{path}: has a row that is none ({error})", "begin another") from None
    except OSError as error:
        raise SinkError(f"{path}: cannot be resumed ({error.strerror})", "check the rights to it") from None
    return names[:-1]
