"""All events as JSON Lines, as they are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TextIO

from realtime_ser.events import Event
from realtime_ser.sinks._file import LineFile, Mode


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is no number does not exist."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


class JsonLinesSink:
    """One compact object per event and line, flushed, to a file or to an open text stream.

    Raises
    ------
    SinkError
        As `LineFile`, for a path.
    """

    def __init__(self, target: Path | TextIO, mode: Mode = "new") -> None:
        self._stream = None if isinstance(target, Path) else target
        self._file = LineFile(target, mode) if isinstance(target, Path) else None

    def write(self, event: Event) -> None:
        """Write the event."""
        line = json.dumps(_finite(event.to_dict()), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        if self._file is not None:
            self._file.write(line)
        elif self._stream is not None:
            # As in a file: a stand-in for an undecodable byte is no text.
            self._stream.write(line.encode(errors="replace").decode() + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Close the file; a stream is its owner's to close."""
        if self._file is not None:
            self._file.close()
