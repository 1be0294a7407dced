"""The screen: what rich draws of a session, and its plain form for no terminal."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from realtime_ser.dashboard.keys import Keys, in_foreground
from realtime_ser.dashboard.plain import PlainLines
from realtime_ser.dashboard.render import render
from realtime_ser.dashboard.state import DashboardState, Snapshot
from realtime_ser.events import Event

__all__ = ["Dashboard", "DashboardState", "PlainLines", "Screen", "Snapshot", "render"]

REDRAWS_HZ = 12
"""At most: nothing is drawn that has not changed, as drawing costs more than all analysis."""
_REDRAWN_S = 1.0
"""Save after so long: something else may have written on the terminal."""


class Screen:
    """Snapshots, one for each channel, that rich can draw, at the size it is given."""

    def __init__(self, *lanes: Snapshot) -> None:
        self._lanes = lanes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield render(self._lanes, options.max_width, options.height or console.height, options.ascii_only)


class Dashboard:
    """A lane for each channel, drawn in a thread of its own, from snapshots: analysis takes a lock for a moment.

    The terminal is as it was once the context is left, whatever happens, and while Ctrl-Z has stopped the program.
    """

    def __init__(
        self,
        channels: Sequence[int | None] = (None,),
        csv_path: Path | None = None,
        recording: Path | None = None,
        console: Console | None = None,
    ) -> None:
        self._lanes = {channel: DashboardState(csv_path, recording, channel) for channel in channels}
        self._keys = Keys()
        self._live = Live(
            console=console, auto_refresh=False, screen=True, redirect_stdout=False, redirect_stderr=False
        )
        self._terminal = ExitStack()
        """Empty while the screen is left to somebody else."""
        self._shown = False
        self._drawing = threading.Lock()
        """Held by who draws, and by who enters and leaves the screen."""
        self._changed = threading.Event()
        self._changed.set()
        self._done = threading.Event()
        self._artist = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> Dashboard:
        self._show()
        if hasattr(signal, "SIGTSTP") and signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)
        self._artist.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if hasattr(signal, "SIGTSTP") and signal.getsignal(signal.SIGTSTP) == self._suspend:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            self._done.set()
            self._changed.set()
            self._artist.join()
        finally:
            self._leave()

    def write(self, event: Event) -> None:
        """Show what the event tells."""
        self._lanes[event.channel].update(event)
        self._changed.set()

    def progress(self, audio_s: float, lag_s: float, real_time_factor: float, lost_s: float, trouble: str = "") -> None:
        """Show how far analysis is, what it costs, and what is wrong with the outputs."""
        for lane in self._lanes.values():
            lane.progress(audio_s, lag_s, real_time_factor, lost_s, trouble)
        self._changed.set()

    def pressed(self) -> list[str]:
        """Keys typed since last asked."""
        return self._keys.pressed()

    def close(self) -> None:
        """Nothing to close: the context restores the terminal."""

    def _show(self) -> None:
        self._shown = True
        self._terminal.enter_context(self._keys)
        self._terminal.enter_context(self._live)

    def _leave(self) -> None:
        self._shown = False
        with suppress(OSError):  # the terminal was closed
            self._terminal.close()

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: stop with the terminal as it was. Who draws enters it again once it is ours; after `bg` it is not."""
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # another would wait for this one's lock, within it
        with self._drawing:
            self._leave()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # returns when we go on
            signal.signal(signal.SIGTSTP, self._suspend)

    def _draw(self) -> None:
        with suppress(OSError):  # a terminal that was closed ends the picture, not the session
            self._draw_changes()

    def _draw_changes(self) -> None:
        drawn: tuple[Snapshot, ...] = ()
        drawn_s = 0.0
        while not self._done.wait(1 / REDRAWS_HZ):
            self._changed.wait(_REDRAWN_S)
            self._changed.clear()
            # Before the lock: a snapshot waits for who writes an event, whom Ctrl-Z makes wait for the lock.
            lanes = tuple(lane.snapshot() for lane in self._lanes.values())
            with self._drawing:
                if not self._shown and in_foreground(sys.stdout.fileno()):
                    self._show()
                if self._shown and (lanes != drawn or time.monotonic() - drawn_s >= _REDRAWN_S):
                    self._live.update(Screen(*lanes), refresh=True)
                    drawn, drawn_s = lanes, time.monotonic()
