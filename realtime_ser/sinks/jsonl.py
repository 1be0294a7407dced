"""All events as JSON Lines, as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from realtime_ser.errors import SinkError
from realtime_ser.events import Event
from realtime_ser.printable import json_line
from realtime_ser.sinks._file import LineFile, LineStream, Mode, first_line

_BEGINNING = '{"type":"session.created"'


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
        self._lines.write(json_line(event.to_dict()))

    def close(self) -> None:
        """Close the file; a stream is its owner's to close."""
        self._lines.close()


def _check_beginning(path: Path) -> None:
    """Appending cuts off an unfinished last line: never that of a file that is not ours."""
    found = first_line(path)
    if found is None or not (found.startswith(_BEGINNING) or _BEGINNING.startswith(found)):
        raise SinkError(f"{path}: holds no events", "append to a file that --jsonl began")
