"""The screen: what rich draws of a session, and its plain form for no terminal."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from realtime_ser.dashboard.keys import Keys
from realtime_ser.dashboard.plain import PlainLines
from realtime_ser.dashboard.render import render
from realtime_ser.dashboard.state import DashboardState, Snapshot
from realtime_ser.events import Event

__all__ = ["Dashboard", "DashboardState", "PlainLines", "Screen", "Snapshot", "render"]

REDRAWS_HZ = 12
"""At most: nothing is drawn that has not changed, as drawing costs more than all analysis."""


class Screen:
    """Snapshots, one for each channel, that rich can draw, at the size it is given."""

    def __init__(self, *lanes: Snapshot) -> None:
        self._lanes = lanes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield render(self._lanes, options.max_width, options.height or console.height, options.ascii_only)


class Dashboard:
    """A lane for each channel, drawn in a thread of its own, from snapshots: analysis takes a lock for a moment.

    The terminal is as it was once the context is left, whatever happens.
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
        self._changed = threading.Event()
        self._changed.set()
        self._done = threading.Event()
        self._artist = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> Dashboard:
        self._keys.__enter__()
        self._live.__enter__()
        self._artist.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._done.set()
            self._changed.set()
            self._artist.join()
            with suppress(OSError):  # the terminal was closed
                self._live.__exit__(kind, error, trace)
        finally:
            self._keys.__exit__(kind, error, trace)

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

    def _draw(self) -> None:
        with suppress(OSError):  # a terminal that was closed ends the picture, not the session
            self._draw_changes()

    def _draw_changes(self) -> None:
        drawn: tuple[Snapshot, ...] = ()
        while not self._done.wait(1 / REDRAWS_HZ):
            self._changed.wait()
            self._changed.clear()
            lanes = tuple(lane.snapshot() for lane in self._lanes.values())
            if lanes != drawn:
                self._live.update(Screen(*lanes), refresh=True)
                drawn = lanes
