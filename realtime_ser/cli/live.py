"""`realtime-ser live`: the microphone."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from realtime_ser.cli import options
from realtime_ser.printable import quieten_libraries

_MOST_BLOCKS = 1000
"""Of audio that wait for the disk: four minutes."""


def live(
    device: options.Device = None,
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
    record: Annotated[Path | None, typer.Option("--record", help="Record the audio to this FLAC file.")] = None,
    duration: options.Duration = None,
    plain: options.Plain = False,
) -> None:
    """Analyse the microphone. No audio is sent, and none stored without --record."""
    options.tell_loading()
    quieten_libraries()
    from realtime_ser.cli.stream import (
        Pace,
        close_later,
        open_outputs,
        open_session,
        open_sinks,
        open_view,
        print_late,
        stream,
    )
    from realtime_ser.signals import StopSignals
    from realtime_ser.sinks.background import Background
    from realtime_ser.sinks.recording import FlacRecording
    from realtime_ser.sources.microphone import Microphone
    from realtime_ser.stages.monitor import Notice

    mode = options.mode_of(overwrite, append)
    options.check_results(csv, jsonl, mode, record)
    settings = options.settings_of(window, hop, smooth, min_confidence, denoise)
    microphone = Microphone(options.device_of(device), int(channel) if channel.isdecimal() else None)
    channels = options.channels_of(channel, microphone.channels)
    session = open_session(model, settings, microphone.name, channels, options.profile_of(profile), on or ())
    microphone.speaking = lambda: session.speaking
    problems: deque[Notice] = deque(maxlen=100)
    with StopSignals() as signals, ExitStack() as stack:
        with signals.waiting():
            microphone.open()  # before the files: one that refuses leaves them as they were
        stack.callback(microphone.close)
        stack.callback(print_late, problems)
        sinks = open_outputs(stack, session, microphone.name, on, run, webhook, osc, lsl, problems.append)
        sinks += open_sinks(stack, session, csv, jsonl, mode, microphone.name, True, problems.append, signals)
        view = open_view(plain, jsonl == "-", csv, channels, record)
        pace = Pace(float("inf"), lambda: microphone.backlog_s)
        recording = None
        if record is not None:
            with signals.waiting():
                flac = FlacRecording(record, microphone.rate_hz, microphone.channels, overwrite)
            recording = Background(flac, str(record), problems.append, items="blocks", most_waiting=_MOST_BLOCKS)
            close_later(stack, recording)
        code = stream(microphone, session, sinks, view, pace, signals, duration, recording, problems)
    raise typer.Exit(code)
