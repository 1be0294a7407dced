"""`realtime-ser report`: timelines to look at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from realtime_ser.cli import options
from realtime_ser.cli.places import AUDIO_SUFFIXES
from realtime_ser.printable import say


def report(
    paths: Annotated[list[Path], typer.Argument(help="Timelines, and the recording of the first if you like.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="By default beside the first timeline.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="A still picture of the first timeline, too.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="The same as SVG.")] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Timelines as one HTML page that needs no network: zoom, hover, and hear it if the recording is given."""
    from realtime_ser.errors import SinkError, UsageError
    from realtime_ser.sinks._file import write_atomically
    from realtime_ser.timeline.read import read_timeline
    from realtime_ser.timeline.report import report as draw
    from realtime_ser.timeline.sound import listen
    from realtime_ser.timeline.still import draw_still

    recordings = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    timelines = [read_timeline(path) for path in paths if path not in recordings]
    if not timelines or len(recordings) > 1:
        raise UsageError("give timelines and at most one recording", "realtime-ser report TIMELINE… [AUDIO]")
    for timeline in timelines:
        for problem in timeline.problems:
            say(f"realtime-ser: {timeline.path}: {problem}", sys.stderr)
    path = out or timelines[0].path.with_suffix(".html")
    stills = [still for still in (png, svg) if still is not None]
    options.keep_inputs([path, *stills], paths)
    for wanted in (path, *stills):
        if wanted.exists() and not overwrite:
            raise SinkError(f"{wanted}: exists already", "give --overwrite, or another path")
    for still, suffix in ((png, ".png"), (svg, ".svg")):
        if still is not None and still.suffix.lower() != suffix:
            raise UsageError(f"--{suffix[1:]} {still}", f"give a name that ends in {suffix}")
    sound = listen(recordings[0], timelines[0]) if recordings else None
    write_atomically(path, draw(timelines, sound))
    say(str(path))
    for still in stills:
        draw_still(timelines[0], still, sound)
        say(str(still))
