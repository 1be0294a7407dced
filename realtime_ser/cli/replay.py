"""`realtime-ser replay`: a recording, the demo or a pipe, as if it were live."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import ExitStack
from io import BufferedReader
from typing import Annotated, cast

import typer

from realtime_ser.cli import options
from realtime_ser.errors import SourceError, UsageError

_SLOWEST = 0.01
"""Times life: a block of 50 ms every five seconds."""


def replay(
    source: Annotated[str, typer.Argument(help="A recording, 'demo', or - for raw s16le PCM on stdin.")],
    speed: Annotated[str, typer.Option(help="1 as if live, N times as fast, or max.")] = "1",
    rate: Annotated[int, typer.Option(help="Sample rate of raw PCM on stdin, in Hz.")] = 16_000,
    n_channels: Annotated[int, typer.Option("--channels", help="Channels of raw PCM on stdin.", min=1, max=64)] = 1,
    model: options.Model = None,
    csv: options.Csv = None,
    jsonl: options.Jsonl = None,
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    window: options.Window = options.WINDOW_S,
    hop: options.Hop = options.HOP_S,
    smooth: options.Smooth = options.SMOOTH_S,
    min_confidence: options.MinConfidence = options.MIN_CONFIDENCE,
    channel: options.Channel = "mix",
    denoise: options.Denoise = False,
    profile: options.Profile = None,
    on: options.On = None,
    run: options.Run = None,
    webhook: options.Webhook = None,
    osc: options.Osc = None,
    lsl: options.Lsl = False,
    duration: options.Duration = None,
    plain: options.Plain = False,
) -> None:
    """Replay a recording as a live stream, with the dashboard."""
    options.tell_loading()
    from realtime_ser.cli.stream import Pace, open_outputs, open_session, open_sinks, open_view, print_late, stream
    from realtime_ser.signals import StopSignals
    from realtime_ser.sinks.csv import sidecar_path
    from realtime_ser.sources import Source
    from realtime_ser.sources.demo import demo_path
    from realtime_ser.sources.file import FileSource
    from realtime_ser.sources.pipe import PipeSource
    from realtime_ser.stages.monitor import Notice

    pace_speed = parse_speed(speed)
    mode = options.mode_of(overwrite, append)
    settings = options.settings_of(window, hop, smooth, min_confidence, denoise)
    audio: Source
    if source == "-":
        if sys.stdin is None:
            raise SourceError("-: stdin is closed", "pipe raw PCM into the command")
        audio = PipeSource(cast(BufferedReader, sys.stdin.buffer), rate, n_channels)
    else:
        # At a pace, small blocks as a microphone gives them; at full speed, large ones.
        block_s = 2.0 if pace_speed == float("inf") else 0.05
        path = demo_path() if source == "demo" else source
        options.keep_inputs([csv, csv and sidecar_path(csv), jsonl], [path])
        audio = FileSource(path, block_s)
    options.check_results(csv, jsonl, mode)
    channels = options.channels_of(channel, audio.channels)
    session = open_session(model, settings, audio.name, channels, options.profile_of(profile), on or ())
    problems: deque[Notice] = deque(maxlen=100)
    with StopSignals() as signals, ExitStack() as stack:
        stack.callback(print_late, problems)
        sinks = open_outputs(stack, session, audio.name, on, run, webhook, osc, lsl, problems.append)
        sinks += open_sinks(stack, session, csv, jsonl, mode, audio.name, pace_speed <= 1, problems.append, signals)
        view = open_view(plain, jsonl == "-", csv, channels)
        code = stream(audio, session, sinks, view, Pace(pace_speed), signals, duration, problems=problems)
    raise typer.Exit(code)


def parse_speed(text: str) -> float:
    """'max' or a number from `_SLOWEST`; raises UsageError."""
    if text == "max":
        return float("inf")
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not _SLOWEST <= speed < float("inf"):
        raise UsageError(f"--speed {text}", f"give a number from {_SLOWEST}, or max")
    return speed
