"""`realtime-ser calibrate`: how this speaker sounds through this microphone when nothing is felt."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realtime_ser.cli import options
from realtime_ser.errors import SourceError, UsageError
from realtime_ser.printable import plain_console, printable, quieten_libraries, say

if TYPE_CHECKING:
    from realtime_ser.sources import Source

_PATIENCE = 4
"""So many times the speech asked for is waited for it."""
_LONGEST_LINE = 100
"""Of the text, in characters: longer ones are hard to read aloud."""
TEXT = """\
Most kitchens have a table, a sink and a window. The table stands near the wall, and there are four chairs around it. \
In the morning somebody opens the window, puts water on for tea and takes the bread out of its box. The post comes \
at about ten. On Mondays the bins are put out on the street, on Thursdays they come back. The shop on the corner sells \
milk, apples, newspapers and batteries. It opens at eight and closes at six, with a break of an hour at noon. The bus \
to the station goes every twenty minutes; the last one leaves at a quarter past eleven."""


def calibrate(
    name: Annotated[str, typer.Argument(help="Of the profile.")] = "default",
    device: options.Device = None,
    recording: Annotated[
        Path | None, typer.Option("--from", help="A recording of neutral speech instead of the microphone.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="How much speech to hear.", min=5, max=600, callback=options.finite)
    ] = 30.0,
    model: options.Model = None,
) -> None:
    """Read a text in your everyday voice; live --profile NAME is then relative to it."""
    import numpy as np
    from rich.progress import BarColumn, Progress, TextColumn

    from realtime_ser.events import Measurement, Warning
    from realtime_ser.profiles import path_of, save_profile
    from realtime_ser.session import Session
    from realtime_ser.signals import StopSignals
    from realtime_ser.sources import Lost
    from realtime_ser.sources.file import FileSource
    from realtime_ser.sources.microphone import Microphone
    from realtime_ser.stages.monitor import Notice
    from realtime_ser.stages.profile import make_profile

    path_of(name)  # a name that cannot be is told before anybody reads
    session = Session(model)
    if "neutral" not in session.labels:
        raise UsageError(f"{session.model.contract.model_id} has no label neutral", "use another --model")
    if not recording:
        quieten_libraries()
    source: Source = FileSource(recording, 0.1) if recording else Microphone(options.device_of(device))
    console = plain_console(stderr=True)
    if not recording:
        console.print("Read this aloud, as you would to yourself, until the bar is full:\n", style="bold")
        console.print(TEXT + "\n", width=min(_LONGEST_LINE, console.width))
    heard: list[list[float]] = []
    hop_s = 0.25
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s")
    begun = time.monotonic()
    with StopSignals() as signals, Progress(*columns, console=console) as progress:
        bar = progress.add_task("speech", total=seconds)
        for item in source:
            if signals.received:
                raise typer.Exit(signals.exit_code)
            if isinstance(item, Notice):
                raise SourceError(item.message, "nothing was stored; begin again")
            if not isinstance(item, Lost) and len(item):
                for event in session.push(item, source.rate_hz):
                    if isinstance(event, Measurement) and event.trigger == "hop" and event.scores:
                        heard.append(list(event.scores.values()))
                    elif isinstance(event, Warning):
                        progress.console.print(printable(f"warning: {event.message}: {event.remedy}"))
            progress.update(bar, completed=min(seconds, hop_s * len(heard)))
            if hop_s * len(heard) >= seconds or (not recording and time.monotonic() - begun > _PATIENCE * seconds):
                break
    speech_s = hop_s * len(heard)
    if speech_s < seconds:
        raise SourceError(f"{source.name}: {speech_s:.0f} s of speech were heard", f"{seconds:.0f} s are needed")
    contract = session.model.contract
    profile = make_profile(
        name, contract.model_id, session.model.sha256, session.labels, np.array(heard, np.float32), speech_s
    )
    path = save_profile(profile)
    shares = sorted(zip(profile.neutral, profile.labels, strict=True), reverse=True)
    say(f"your neutral speech: {', '.join(f'{label} {share:.0%}' for share, label in shares if share >= 0.05)}")
    say(f"stored as {path}; use it with --profile {name}", sys.stderr)
