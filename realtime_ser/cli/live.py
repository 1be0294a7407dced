"""`realtime-ser live`: the microphone."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from realtime_ser.cli import options


def live(
    device: Annotated[
        str | None, typer.Option("-d", "--device", help="Input device: its number, or part of its name.")
    ] = None,
    model: options.Model = None,
    csv: options.Csv = None,
    jsonl: options.Jsonl = None,
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    window: options.Window = options.WINDOW_S,
    hop: options.Hop = options.HOP_S,
    smooth: options.Smooth = options.SMOOTH_S,
    duration: options.Duration = None,
    plain: options.Plain = False,
) -> None:
    """Analyse the microphone. No audio is stored or sent."""
    from realtime_ser.cli.signals import StopSignals
    from realtime_ser.cli.stream import Pace, open_sinks, open_view, stream
    from realtime_ser.session import Session
    from realtime_ser.sources.microphone import Microphone

    mode = options.mode_of(overwrite, append)
    settings = options.settings_of(window, hop, smooth)
    microphone = Microphone(int(device) if device is not None and device.isdigit() else device)
    session = Session(model, settings, source=microphone.name)
    with StopSignals() as signals, ExitStack() as stack:
        sinks = open_sinks(stack, session, csv, jsonl, mode, microphone.name, live=True)
        view = open_view(plain, jsonl == "-", csv)
        pace = Pace(float("inf"), lambda: microphone.backlog_s)
        code = stream(microphone, session, sinks, view, pace, signals, duration)
    raise typer.Exit(code)
