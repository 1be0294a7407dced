"""Single keys from the terminal, without waiting for them: the one place that knows POSIX from Windows here."""

from __future__ import annotations

import sys
from types import TracebackType


class Keys:
    """While entered, `pressed` gives the keys typed since last asked; nothing if stdin is no terminal."""

    def __init__(self) -> None:
        self._restore: object = None
        self._terminal = sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> Keys:
        if self._terminal and sys.platform != "win32":
            import termios
            import tty

            self._restore = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)  # Ctrl-C still works
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._restore is not None and sys.platform != "win32":
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._restore)  # type: ignore[arg-type]

    def pressed(self) -> list[str]:
        """Keys in the order typed, lower case."""
        keys: list[str] = []
        if not self._terminal:
            return keys
        if sys.platform == "win32":
            import msvcrt

            while msvcrt.kbhit():
                keys.append(msvcrt.getwch().lower())
        else:
            import os
            import select

            while select.select([sys.stdin], [], [], 0)[0]:
                # Past Python's own buffer, which select cannot see into.
                typed = os.read(sys.stdin.fileno(), 64)
                if not typed:
                    break
                keys += typed.decode(errors="ignore").lower()
        return keys
