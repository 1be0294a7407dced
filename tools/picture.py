"""A picture of the dashboard from real events: `python -m tools.picture -o docs/dashboard.svg [RECORDING]`."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from realtime_ser.dashboard import DashboardState, Screen
from realtime_ser.session import Session
from realtime_ser.sources.demo import demo_path
from realtime_ser.sources.file import FileSource

WIDTH, HEIGHT = 108, 32


def main(
    output: Annotated[Path, typer.Option("-o", help="The SVG.")],
    recording: Annotated[Path | None, typer.Argument(help="What is heard; the demo if not given.")] = None,
    model: Annotated[str | None, typer.Option(help="A bundled model's name.")] = None,
    at_s: Annotated[float, typer.Option("--at", help="At which second.")] = 57.0,
) -> None:
    """Draw the dashboard as it looks at a second of a recording."""
    source = FileSource(recording or demo_path(), block_s=0.05)
    session = Session(model, source=source.path.name)
    state = DashboardState()
    begun = time.perf_counter()
    for block in source:
        for event in session.push(block, source.rate_hz):
            state.update(event)
        state.progress(session.clock_s, 0, (time.perf_counter() - begun) / session.clock_s, 0)
        if session.clock_s >= at_s:
            break
    console = Console(width=WIDTH, height=HEIGHT, record=True, file=io.StringIO())
    console.print(Screen(state.snapshot()), end="")
    console.save_svg(str(output), title="realtime-ser")


if __name__ == "__main__":
    typer.run(main)
