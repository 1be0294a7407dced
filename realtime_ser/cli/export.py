"""`realtime-ser export`: a timeline for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from realtime_ser.cli import options
from realtime_ser.printable import say


def export(
    timeline: Annotated[Path, typer.Argument(help="What --csv or --jsonl wrote.")],
    to: Annotated[
        str,
        typer.Option(help="audacity, textgrid, webvtt, srt, elan, audformat, emotionml, rttm or parquet."),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The file; by default beside the timeline.")] = None,
    recording: Annotated[
        str | None, typer.Option(help="Of a timeline of several recordings, the one in this `file`.")
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a timeline in another program's format."""
    from realtime_ser.errors import UsageError
    from realtime_ser.timeline.export import FORMATS, of_recording
    from realtime_ser.timeline.export import export as write
    from realtime_ser.timeline.read import read_timeline

    if to not in FORMATS:
        raise UsageError(f"--to {to}", f"give one of {', '.join(FORMATS)}")
    found = read_timeline(timeline)
    for problem in found.problems:
        say(f"realtime-ser: {timeline}: {problem}", sys.stderr)
    if recording is not None:
        found = of_recording(found, recording)
    path = out or timeline.with_suffix(FORMATS[to].suffix)
    write(found, to, path, overwrite)
    say(str(path))
