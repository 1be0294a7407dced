"""All events as JSON Lines, as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from realtime_ser.errors import SinkError
from realtime_ser.events import Event, SessionCreated
from realtime_ser.printable import json_line
from realtime_ser.sinks._file import LineFile, LineStream, Mode, first_line
from realtime_ser.stages.monitor import Notice

_BEGINNING = '{"type":"session.created"'


class JsonLinesSink:
    """One compact object per event and line, flushed, to a file or to an open text stream, which stays open.

    Parameters
    ----------
    target
        The file, whose folder must exist, or the stream.
    mode
        What to do if the file exists.
    tell
        Told when the file was rotated, in the thread that writes. The next file begins with `session.created` too.

    Raises
    ------
    SinkError
        If the file exists, holds something else, or it cannot be written; `WriteError` if later events may be.
    """

    def __init__(
        self, target: Path | TextIO, mode: Mode = "new", tell: Callable[[Notice], None] = lambda notice: None
    ) -> None:
        if isinstance(target, Path) and mode == "append" and target.is_file():
            _check_beginning(target)
        self._lines = LineFile(target, mode, tell=tell) if isinstance(target, Path) else LineStream(target)
        self._created: list[str] = []
        """A line for each channel's session."""

    def write(self, event: Event) -> None:
        """Write the event."""
        line = json_line(event.to_dict())
        try:
            self._lines.write(line)
        finally:
            if isinstance(event, SessionCreated) and isinstance(self._lines, LineFile):
                self._created.append(line)
                self._lines.header = "\n".join(self._created)

    def close(self) -> None:
        """Close the file; a stream is its owner's to close."""
        self._lines.close()


def _check_beginning(path: Path) -> None:
    """Appending cuts off an unfinished last line: never that of a file that is not ours."""
    found = first_line(path)
    if found is None or not (found.startswith(_BEGINNING) or _BEGINNING.startswith(found)):
        raise SinkError(f"{path}: holds no events", "append to a file that --jsonl began")
