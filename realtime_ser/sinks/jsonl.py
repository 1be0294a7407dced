"""All events as JSON Lines, as they are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TextIO

from realtime_ser.errors import SinkError
from realtime_ser.events import Event
from realtime_ser.sinks._file import LineFile, LineStream, Mode, first_line

_BEGINNING = '{"type":"session.created"'


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is no number does not exist."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


class JsonLinesSink:
    """One compact object per event and line, flushed, to a file or to an open text stream, which stays open.

    Raises
    ------
    SinkError
        If the file exists, holds something else, or it cannot be written.
    """

    def __init__(self, target: Path | TextIO, mode: Mode = "new") -> None:
        if isinstance(target, Path) and mode == "append" and target.is_file():
            _check_beginning(target)
        self._lines = LineFile(target, mode) if isinstance(target, Path) else LineStream(target)

    def write(self, event: Event) -> None:
        """Write the event."""
        self._lines.write(
            json.dumps(_finite(event.to_dict()), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        )

    def close(self) -> None:
        """Close the file; a stream is its owner's to close."""
        self._lines.close()


def _check_beginning(path: Path) -> None:
    """Appending cuts off an unfinished last line: never that of a file that is not ours."""
    found = first_line(path)
    if found is None or not (found.startswith(_BEGINNING) or _BEGINNING.startswith(found)):
        raise SinkError(f"{path}: holds no events", "append to a file that --jsonl began")
