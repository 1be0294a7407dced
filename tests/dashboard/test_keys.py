"""The real program on a real terminal: keys, Ctrl-Z, the background, a window that is closed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from realtime_ser.dashboard.keys import Keys

pty = pytest.importorskip("pty", reason="POSIX terminals")


class Terminal:
    """A terminal, the program that it controls, and what it shows."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid, self.fd = pid, fd
        self.shown = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):
            while more := os.read(self.fd, 1 << 16):
                self.shown += more

    def until(self, seen: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not seen():
            assert time.monotonic() < deadline, self.shown[-2000:].decode(errors="replace")
            time.sleep(0.05)

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self) -> int:
        """Wait for the program; its exit code, or minus the signal that ended it."""
        ended, status = 0, 0

        def over() -> bool:
            nonlocal ended, status
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            return bool(ended)

        self.until(over)
        return os.waitstatus_to_exitcode(status)


@contextmanager
def on_terminal(*command: object) -> Iterator[Terminal]:
    pid, fd = pty.fork()
    if not pid:
        os.environ["TERM"] = "xterm"
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
        os.execv(str(command[0]), [*map(str, command)])
    terminal = Terminal(pid, fd)
    try:
        yield terminal
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def events_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def replay(log: Path) -> list[object]:
    return [sys.executable, "-m", "realtime_ser", "replay", "demo", "--jsonl", log]


@pytest.mark.slow
def test_arrows_and_function_keys_neither_quit_nor_mark(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    with on_terminal(*replay(log)) as terminal:
        terminal.until(lambda: len(events_in(log)) > 3)
        terminal.type(b"\x1bOQ\x1b[C\x1b[1;5M\x1bm")  # F2, right, Ctrl-something, Alt-m
        heard = len(events_in(log))
        terminal.until(lambda: len(events_in(log)) > heard + 3)
        terminal.type(b"m")
        terminal.until(lambda: events_in(log)[-1]["type"] != "marker" and b"marker" in log.read_bytes())
        terminal.type(b"q")
        assert terminal.end() == 0
    assert sum(event["type"] == "marker" for event in events_in(log)) == 1
    assert events_in(log)[-1]["reason"] == "stopped by the user"


def test_a_terminal_that_is_closed_ends_the_session_properly(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    with on_terminal(*replay(log)) as terminal:
        terminal.until(lambda: len(events_in(log)) > 3)
        os.close(terminal.fd)
        terminal.end()
    assert events_in(log)[-1]["type"] == "session.closed"
    assert events_in(log)[-1]["reason"] == "interrupted"


@pytest.mark.slow
def test_who_ignores_that_goes_on_without_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    with on_terminal("/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *replay(log), "--duration", 8) as terminal:
        terminal.until(lambda: len(events_in(log)) > 3)
        os.close(terminal.fd)
        terminal.end()
    assert events_in(log)[-1]["reason"] == "duration reached"


@pytest.mark.slow
def test_in_the_background_it_goes_on_and_leaves_the_screen_alone(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    with on_terminal("/bin/sh", "-mc", '"$@" & wait $!', "sh", *replay(log), "--duration", 4) as terminal:
        assert terminal.end() == 0
        assert b"neutral" in terminal.shown
        assert b"\x1b[?1049h" not in terminal.shown  # the other screen
    assert events_in(log)[-1]["reason"] == "duration reached"


@pytest.mark.slow
@pytest.mark.parametrize("on", ["", "bg; sleep 1;"])
def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(tmp_path: Path, on: str) -> None:
    log = tmp_path / "t.jsonl"
    script = f'"$@"; stty -a; echo "the shell has it"; sleep 1; {on} fg'
    with on_terminal("/bin/sh", "-mc", script, "sh", *replay(log)) as terminal:
        terminal.until(lambda: len(events_in(log)) > 3)
        assert terminal.shown.count(b"\x1b[?1049h") == 1  # the other screen
        terminal.type(b"\x1a")
        terminal.until(lambda: b"the shell has it" in terminal.shown)
        shell = terminal.shown.rpartition(b"\x1b[?1049l")[2]
        assert b"\x1b[?25h" in terminal.shown  # the cursor
        assert b" icanon" in shell
        assert b" echo " in shell
        terminal.until(lambda: terminal.shown.count(b"\x1b[?1049h") == 2)
        terminal.type(b"m")
        terminal.until(lambda: b"marker" in log.read_bytes())
        terminal.type(b"q")
        assert terminal.end() == 0
    assert events_in(log)[-1]["reason"] == "stopped by the user"


@pytest.mark.slow
def test_keys_are_heard_while_audio_comes_from_a_pipe(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    command = [*replay(log)[:-3], "-", "--jsonl", log]
    with on_terminal("/bin/sh", "-c", 'cat /dev/zero | "$@"', "sh", *command) as terminal:
        terminal.until(lambda: len(events_in(log)) > 3 and b"quit" in terminal.shown)
        terminal.type(b"m")
        terminal.until(lambda: b"marker" in log.read_bytes())
        terminal.type(b"q")
        assert terminal.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_on_a_terminal_that_cannot_be_drawn_on_there_are_lines(tmp_path: Path, kind: str) -> None:
    log = tmp_path / "t.jsonl"
    with on_terminal("/usr/bin/env", f"TERM={kind}", *replay(log), "--duration", 3) as terminal:
        assert terminal.end() == 0
        assert b"speech\r\n" in terminal.shown
        assert b"\x1b" not in terminal.shown


@pytest.mark.slow
def test_what_else_is_written_on_the_terminal_is_drawn_over_within_seconds() -> None:
    with on_terminal(sys.executable, "-c", UNCHANGED) as terminal:
        terminal.until(lambda: terminal.shown.count(b"No audio is stored") == 3)


UNCHANGED = """
import time
from realtime_ser.dashboard import Dashboard
with Dashboard():
    time.sleep(20)
"""
"""A dashboard of a session in which nothing happens."""


def test_a_windows_console_gives_special_keys_in_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = list("\xe0Ma\x00QM")  # right, a, F-something, M
    console = SimpleNamespace(kbhit=lambda: bool(typed), getwch=lambda: typed.pop(0))
    monkeypatch.setitem(sys.modules, "msvcrt", console)  # type: ignore[arg-type]
    assert Keys()._from_console() == ["a", "m"]
