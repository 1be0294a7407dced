"""A result file that is written line by line: how it is opened, and what happens when the disk says no."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

from realtime_ser.errors import SinkError

Mode = Literal["new", "overwrite", "append"]
_LONGEST_FIRST_LINE = 1 << 20


class LineFile:
    """Whole lines, flushed one by one; after a failed write the file ends with its last whole line.

    Raises
    ------
    SinkError
        When opened, written or closed: the path cannot be written, exists already, or the disk is full.
    """

    def __init__(self, path: Path, mode: Mode) -> None:
        self.path = path
        try:
            if path.is_dir():
                raise SinkError(f"{path}: is a folder", "name a file")
            if mode == "append" and path.exists() and path.is_file():
                drop_unfinished_line(path)
            flags = {"new": "xb", "overwrite": "wb", "append": "ab"}[mode]
            # A pipe or device cannot be created anew, nor can it hold an older result.
            special = path.exists() and not path.is_file()
            self._file = open(path, "wb" if special else flags, buffering=0)  # noqa: SIM115 - closed by close()
        except FileExistsError:
            raise SinkError(f"{path}: exists already", "give --overwrite to replace it or --append to go on") from None
        except OSError as error:
            raise SinkError(f"{path}: cannot be written ({_reason(error)})", "choose another path") from None
        self._good_bytes = os.fstat(self._file.fileno()).st_size

    @property
    def empty(self) -> bool:
        """Nothing was ever written to it."""
        return self._good_bytes == 0

    def write(self, line: str) -> None:
        """Write a line; its line end is added."""
        try:
            self._good_bytes += _write_line(self._file, line)
        except OSError as error:
            self._undo()
            raise SinkError(
                f"{self.path}: cannot be written any more ({_reason(error)})", "what is in it so far is intact"
            ) from None

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            raise SinkError(f"{self.path}: could not be closed ({_reason(error)})", "check the last rows") from None

    def _undo(self) -> None:
        if self._file.seekable():
            try:
                self._file.truncate(self._good_bytes)
                self._file.seek(self._good_bytes)
            except OSError:
                return  # then the last line stays unfinished, as after a power cut


class LineStream:
    """Whole lines as UTF-8, whatever the stream's own encoding, into a text stream that somebody else owns.

    Raises
    ------
    SinkError
        When written: its reader is gone, or the disk behind it is full.
    """

    def __init__(self, stream: TextIO) -> None:
        self._name = str(getattr(stream, "name", "stream")).strip("<>")
        stream.flush()
        # Unbuffered: of a line that failed nothing may wait, to fail once more when the interpreter ends.
        self._raw = cast(RawIOBase, getattr(stream.buffer, "raw", stream.buffer))

    def write(self, line: str) -> None:
        """Write a line; its line end is added."""
        try:
            _write_line(self._raw, line)
        except OSError as error:
            raise SinkError(f"{self._name}: cannot be written any more ({_reason(error)})") from None

    def close(self) -> None:
        """Nothing: the stream is its owner's to close."""


def _write_line(raw: RawIOBase | IO[Any], line: str) -> int:
    content = memoryview(f"{line}\n".encode(errors="replace"))
    written = 0
    while written < len(content):  # an unbuffered write may take only a part before the disk is full
        written += raw.write(content[written:]) or 0
    return written


def first_line(path: Path) -> str | None:
    """Its first line with the line end, if it has come to that; '' for an empty file, None for what is no text."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.readline(_LONGEST_FIRST_LINE)
    except (OSError, UnicodeDecodeError):
        return None


def drop_unfinished_line(path: Path) -> None:
    """Cut off what stands behind the last line end: a writer was killed in the middle of a line."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position:
            step = min(4096, position)
            position = file.seek(position - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                position += found + 1
                break
        if position < end:
            file.truncate(position)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file beside its place, then move it there; raises SinkError."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(text, encoding="utf-8", errors="replace")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise SinkError(f"{path}: cannot be written ({_reason(error)})", "choose another path") from None


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return (error.strerror or str(error)).lower()
