"""Keys from the terminal, without waiting for them: the one place that knows POSIX's terminals from Windows' consoles.

Windows has no `select` for a console (https://docs.python.org/3/library/select.html), but `msvcrt.kbhit`.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from types import TracebackType

_ESCAPED = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What a terminal sends for arrows, function keys and Alt with a key (ECMA-48, xterm): F2 is ESC O Q."""
_SPECIAL = ("\x00", "\xe0")
"""What `msvcrt.getwch` gives before the code of an arrow or function key: the right arrow is \\xe0 M."""


def in_foreground(terminal: int) -> bool:
    """Whether it is ours at the moment: what reads or sets a terminal in the background is stopped by its system."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it controls no processes, ours neither
        return True


class Keys:
    """While entered, `pressed` gives the keys typed since last asked; nothing without a terminal of ours.

    May be entered again. Stdin may be a pipe of audio: a terminal that controls us is asked for by its own name.
    """

    def __init__(self) -> None:
        self._terminal: int | None = None
        if sys.stdin is not None and sys.stdin.isatty():
            self._terminal = sys.stdin.fileno()
        elif sys.platform != "win32":
            with suppress(OSError):
                self._terminal = os.open("/dev/tty", os.O_RDONLY)
        self._restore: object = None
        self._special = False
        """That what comes next is the code of a special key."""

    def __enter__(self) -> Keys:
        if sys.platform != "win32" and self._terminal is not None and in_foreground(self._terminal):
            import termios
            import tty

            with suppress(termios.error):  # it was closed
                self._restore = termios.tcgetattr(self._terminal)
                tty.setcbreak(self._terminal)  # Ctrl-C still works
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.platform != "win32" and self._terminal is not None and self._restore is not None:
            import termios

            if in_foreground(self._terminal):
                with suppress(termios.error):  # it was closed meanwhile
                    termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._restore)  # type: ignore[arg-type]
            self._restore = None

    def pressed(self) -> list[str]:
        """Keys in the order typed, lower case; arrows, function keys and the like are left out."""
        if sys.platform == "win32":
            return self._from_console()
        return [] if self._terminal is None else self._from_terminal(self._terminal)

    def _from_terminal(self, terminal: int) -> list[str]:
        import select

        typed = b""
        while self._restore is not None and in_foreground(terminal) and select.select([terminal], [], [], 0)[0]:
            try:
                more = os.read(terminal, 64)  # past Python's own buffer, which select cannot see into
            except OSError:
                more = b""
            if not more:
                self._restore = None  # it was closed, and nothing will come any more
            typed += more
        return list(_ESCAPED.sub("", typed.decode(errors="ignore")).lower())

    def _from_console(self) -> list[str]:
        import msvcrt

        keys: list[str] = []
        while msvcrt.kbhit():  # type: ignore[attr-defined,unused-ignore]
            key: str = msvcrt.getwch()  # type: ignore[attr-defined,unused-ignore]
            if self._special:
                self._special = False
            elif key in _SPECIAL:
                self._special = True
            else:
                keys.append(key.lower())
        return keys
