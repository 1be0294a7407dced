"""A result file that is written line by line: how it is opened, and what happens when the disk says no."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Literal, TextIO, cast

from realtime_ser.errors import SinkError, WriteError
from realtime_ser.stages.monitor import Notice

Mode = Literal["new", "overwrite", "append"]
_LONGEST_FIRST_LINE = 1 << 20
_FULL_PIPE_S = 0.02
"""Until what takes nothing, and says so instead of waiting, is asked again."""


class LineFile:
    """Whole lines, flushed one by one; after a failed write the file ends with its last whole line.

    What is at the path is looked at before each line, as it may have been rotated: a file that was moved or deleted is
    followed by a new one, one that was emptied begins anew, both with the header. After a failed write the file is
    opened again. What is there then is gone on with as by mode "append".

    Parameters
    ----------
    path
        Its folder must exist.
    mode
        What to do if the file exists.
    header
        The first line or lines of a file that is empty; may be set later, for the files to come.
    tell
        Told when the file is no longer the one that was opened; called in the thread that writes.

    Raises
    ------
    SinkError
        When opened: the path cannot be written, or exists already.
    WriteError
        When written: the disk is full, away or read-only. The line is not in the file; a later one may be.
    """

    def __init__(
        self, path: Path, mode: Mode, header: str = "", tell: Callable[[Notice], None] = lambda notice: None
    ) -> None:
        self.path = path
        self.header = header
        self._tell = tell
        check_place(path, mode)
        try:
            # A pipe or device cannot be created anew, hold an older result, or be rotated.
            self._regular = not path.exists() or path.is_file()
            self._file = self._open(mode if self._regular else "overwrite")
        except OSError as error:
            raise SinkError(f"{path}: cannot be written ({reason_of(error)})", "choose another path") from None
        self._bytes = os.fstat(self._file.fileno()).st_size
        if header and not self._bytes:
            try:
                self.write(header)
            except SinkError:
                self.close()
                raise

    def write(self, line: str) -> None:
        """Write a line; its line end is added."""
        try:
            self._follow()
            self._write(line)
        except OSError as error:
            raise WriteError(
                f"{self.path}: cannot be written ({reason_of(error)})", "what is in it is intact"
            ) from None

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            raise SinkError(f"{self.path}: could not be closed ({reason_of(error)})", "check the last rows") from None

    def _open(self, mode: Mode) -> FileIO:
        if mode == "append" and self.path.exists():
            drop_unfinished_line(self.path)
        flags = os.O_APPEND  # or what is written after another program emptied the file would begin with a hole
        return FileIO(
            self.path,
            {"new": "x", "overwrite": "w", "append": "a"}[mode],
            opener=lambda path, more: os.open(path, flags | more, 0o666),
        )

    def _write(self, line: str) -> None:
        before = self._bytes
        if self._regular and not before and self.header != line:
            line = f"{self.header}\n{line}" if self.header else line
        try:
            self._bytes = before + _write_line(self._file, line)
        except OSError:
            if self._regular:
                with suppress(OSError):  # then the last line stays unfinished, as after a power cut
                    self._file.truncate(before)
                # A disk that was repaired, or plugged in again, needs a new descriptor.
                with suppress(OSError):
                    self._file.close()
            raise

    def _follow(self) -> None:
        """See to it that the file is the one at the path, and know how long it is."""
        if not self._regular:
            return
        if self._file.closed:
            self._file = self._open("append")
        mine = os.fstat(self._file.fileno())
        try:
            same = os.path.samestat(mine, os.stat(self.path))
        except OSError:
            same = False
        if not same:
            try:
                new = self._open("append")
            except OSError:
                if not mine.st_nlink:
                    raise
                # Its folder was moved: it is better to go on there than nowhere.
            else:
                self._file.close()
                self._file = new
                self._told("was moved" if mine.st_nlink else "was deleted", "a new one is begun")
        elif mine.st_size < self._bytes:
            drop_unfinished_line(self.path)
            self._told("was emptied by another program", "it is begun anew")
        self._bytes = os.fstat(self._file.fileno()).st_size

    def _told(self, what: str, consequence: str) -> None:
        self._tell(Notice("output_rotated", f"{self.path}: {what}", consequence))


class LineStream:
    """Whole lines into a text stream that somebody else owns, by default as UTF-8, whatever the stream's own encoding.

    Raises
    ------
    SinkError
        When written: its reader is gone, or the disk behind it is full.
    """

    def __init__(self, stream: TextIO, encoding: str = "utf-8") -> None:
        self.name = str(getattr(stream, "name", "stream")).strip("<>")
        self._encoding = encoding
        stream.flush()
        # Unbuffered: of a line that failed nothing may wait, to fail once more when the interpreter ends.
        self._raw = cast(RawIOBase, getattr(stream.buffer, "raw", stream.buffer))

    def write(self, line: str) -> None:
        """Write a line; its line end is added."""
        try:
            _write_line(self._raw, line, self._encoding)
        except OSError as error:
            raise SinkError(f"{self.name}: cannot be written any more ({reason_of(error)})") from None

    def close(self) -> None:
        """Nothing: the stream is its owner's to close."""


def _write_line(raw: RawIOBase, line: str, encoding: str = "utf-8") -> int:
    content = memoryview(f"{line}\n".encode(encoding, errors="replace"))
    written = 0
    while written < len(content):  # an unbuffered write may take only a part before the disk is full
        taken = raw.write(content[written:])
        if taken is None:  # a full pipe that another program made non-blocking
            time.sleep(_FULL_PIPE_S)
        written += taken or 0
    return written


def check_place(path: Path, mode: Mode, remedy: str = "give --overwrite to replace it or --append to go on") -> None:
    """Raises SinkError where no result can be written, as far as that is seen without opening it."""
    try:
        if path.is_dir():
            raise SinkError(f"{path}: is a folder", "name a file")
        if mode == "new" and path.is_file():
            raise SinkError(f"{path}: exists already", remedy)
        if path.is_file():
            path.open("rb+").close()
        elif not path.exists():
            tempfile.TemporaryFile(dir=path.parent).close()  # the system says why not, and nothing stays
        elif not os.access(path, os.W_OK):  # a pipe or device, which cannot be tried
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({reason_of(error)})", "choose another path") from None


def first_line(path: Path) -> str | None:
    """Its first line with the line end, if it has come to that; '' for an empty file, None for what is no text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # a spreadsheet's UTF-8 has a byte order mark
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
        raise WriteError(f"{path}: cannot be written ({reason_of(error)})", "choose another path") from None


_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file may not be larger here",
}


def reason_of(error: OSError) -> str:
    """Why the disk says no, for a person."""
    return _FULL.get(error.errno or 0) or (error.strerror or str(error)).lower()
