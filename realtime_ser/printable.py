"""Text from outside (file names, markers, labels) made harmless for a terminal and for a line of text."""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BEYOND_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Of those, what `json.dumps` leaves as it is, but for half characters, which no file takes."""


def printable(text: str) -> str:
    """Without control characters, text-direction marks, line separators, and stand-ins for undecodable bytes."""
    return text if text.isprintable() else _UNPRINTABLE.sub("�", text)


def never_fail_on_characters() -> None:
    """What the encoding of stdout or stderr lacks becomes a question mark: Windows has others than UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # none without a console
            stream.reconfigure(errors="replace")


def quieten_libraries() -> None:
    """Lead what C libraries write to stderr nowhere, and our own lines past that.

    PortAudio and ALSA tell of each attempt to open a lost device in many lines, and of some losses without end; where
    we tell of it, it is one line.
    """
    if sys.platform == "win32":  # no such system there, and a console that takes no bytes
        return
    own = os.fdopen(os.dup(sys.stderr.fileno()), "wb", buffering=0)
    own.name = "<stderr>"
    sys.stderr = io.TextIOWrapper(own, sys.stderr.encoding, sys.stderr.errors, write_through=True)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line (by default to stdout), whatever is in it: the commands' only way to print."""
    print(printable(line), file=file, flush=True)


def say_json(value: Any) -> None:
    """Print a value as JSON for programs, every character beyond ASCII escaped."""
    print(json.dumps(value, indent=2), flush=True)  # noqa: T201


def json_line(value: Any, indent: int | None = None) -> str:
    """Compact JSON (or indented), in which nothing but printable characters stands unescaped and null is for NaN."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(_finite(value), ensure_ascii=False, indent=indent, separators=separators, allow_nan=False)
    return _BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is no number does not exist."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def plain_console(stderr: bool = False) -> Console:
    """A console that takes no text for markup. What it draws still has to be `printable`."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
