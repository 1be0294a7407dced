"""Options that several commands share."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from realtime_ser.errors import UsageError
from realtime_ser.printable import say
from realtime_ser.settings import CleanSettings, SessionSettings, TraceSettings, WindowSettings

if TYPE_CHECKING:
    from realtime_ser.stages.profile import Profile as StoredProfile

Mode = Literal["new", "overwrite", "append"]


def finite(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """A number that is one; raises UsageError, as no limit refuses 'nan'."""
    if value is not None and not math.isfinite(value):
        raise UsageError(f"--{parameter.name} {value}", "give a number of seconds")
    return value


Model = Annotated[
    str | None, typer.Option("--model", help="A bundled model's name, a model's folder, or a window model's file.")
]
Device = Annotated[
    str | None, typer.Option("-d", "--device", help="Input device: its number, part of its name, or a host API.")
]
Profile = Annotated[str | None, typer.Option("--profile", help="A speaker's own baseline, made by `calibrate`.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write the timeline to this CSV file.")]
Jsonl = Annotated[
    str | None, typer.Option("--jsonl", help="Write all events as JSON Lines to this file; - for stdout.")
]
On = Annotated[
    list[str] | None, typer.Option("--on", metavar="RULE", help="Alert when it comes true: 'arousal > 0.4 for 8s'.")
]
Run = Annotated[
    str | None,
    typer.Option("--run", metavar="COMMAND", help="Run this at each alert, without a shell; JSON on its stdin."),
]
Webhook = Annotated[str | None, typer.Option("--webhook", metavar="URL", help="POST each alert to this address.")]
Osc = Annotated[str | None, typer.Option("--osc", metavar="HOST:PORT", help="Send the trace as Open Sound Control.")]
Lsl = Annotated[bool, typer.Option("--lsl", help="Offer the trace as a Lab Streaming Layer outlet.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result file that exists.")]
Append = Annotated[bool, typer.Option("--append", help="Go on in a result file that exists.")]
Window = Annotated[float, typer.Option("--window", help="Seconds of speech behind each measurement, 0.5 to 10.")]
Hop = Annotated[
    float, typer.Option("--hop", help="Seconds from one measurement to the next, in steps of 0.25, up to 5.")
]
Smooth = Annotated[float, typer.Option("--smooth", help="Time constant of the smoothed trace in seconds.")]
MinConfidence = Annotated[
    float, typer.Option("--min-confidence", help="Unsure below this score: 0.8 names less, and is right more often.")
]
Plain = Annotated[bool, typer.Option("--plain", help="One line per change instead of the dashboard.")]
Channel = Annotated[str, typer.Option("--channel", help="mix, the number of one, or each: a session for each channel.")]
Denoise = Annotated[bool, typer.Option("--denoise", help="Suppress noise first; makes the scores worse.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Duration = Annotated[
    float | None, typer.Option("--duration", help="Stop after so many seconds of audio.", min=0.1, callback=finite)
]

WINDOW_S = WindowSettings.window_s
HOP_S = WindowSettings.hop_s
SMOOTH_S = TraceSettings.time_constant_s
MIN_CONFIDENCE = TraceSettings.abstain_below


def tell_loading() -> None:
    """A first line for a person, before what takes half a second to load."""
    if sys.stderr is not None and sys.stderr.isatty():
        say("realtime-ser: loading …", sys.stderr)


def mode_of(overwrite: bool, append: bool) -> Mode:
    """What to do with a result file that exists; raises UsageError if told both."""
    if overwrite and append:
        raise UsageError("--overwrite and --append exclude each other", "give one")
    return "overwrite" if overwrite else "append" if append else "new"


def check_results(csv: Path | None, jsonl: str | None, mode: Mode, record: Path | None = None) -> None:
    """What is known of the results before one of them is opened, and with that made or emptied.

    Raises
    ------
    UsageError
        Where --csv names no file, or two results would be written into one.
    SinkError
        Where one exists already, or cannot be written.
    """
    from realtime_ser.sinks._file import check_place
    from realtime_ser.sinks.csv import sidecar_path

    if csv is not None and str(csv) == "-":
        raise UsageError("--csv needs a file", "--jsonl - writes to stdout")
    places = [csv, csv and sidecar_path(csv), None if jsonl == "-" else jsonl, record]
    files = [os.path.realpath(place) for place in places if place is not None]
    files = [file for file in files if os.path.isfile(file) or not os.path.exists(file)]  # devices take anything
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise UsageError(
            f"{twice}: two results would be written to it", "name another file; --csv writes PATH.json too"
        )
    for place in (csv, None if jsonl == "-" else jsonl):
        if place is not None:
            check_place(Path(place), mode)
    if record is not None:
        replaces: Mode = "overwrite" if mode == "overwrite" else "new"  # FLAC cannot be gone on with
        check_place(record, replaces, "give --overwrite to replace it, or another --record")


def keep_inputs(results: Iterable[Path | str | None], inputs: Iterable[Path | str]) -> None:
    """Raises UsageError where a result would be written over what is read, as not even --overwrite means that."""
    files = {os.path.realpath(place) for place in inputs}
    for result in results:
        if result is not None and os.path.realpath(result) in files:
            raise UsageError(f"{result}: is what is to be read", "name another file; --csv writes PATH.json too")


def settings_of(
    window_s: float, hop_s: float, smooth_s: float, min_confidence: float, denoise: bool
) -> SessionSettings:
    """Session settings from the options; raises SettingsError."""
    window = WindowSettings(window_s=window_s, hop_s=hop_s)
    trace = TraceSettings(time_constant_s=smooth_s, abstain_below=min_confidence)
    return SessionSettings(clean=CleanSettings(denoise=denoise), window=window, trace=trace)


def device_of(text: str | None) -> int | str | None:
    """A number, part of a name, or None for the default device."""
    return int(text) if text is not None and text.isdecimal() else text


def profile_of(name: str | None) -> StoredProfile | None:
    """The profile of this name; raises ProfileError."""
    from realtime_ser.profiles import load_profile

    return None if name is None else load_profile(name)


def channels_of(text: str, available: int) -> list[int] | None:
    """The channels to hear one by one, counted from 1; None for their mix. Raises UsageError."""
    if text == "mix":
        return None
    if text == "each":
        if available < 2:
            raise UsageError("--channel each: there is one channel", "leave it out")
        return list(range(1, available + 1))
    if not text.isdecimal() or not 1 <= int(text) <= available:
        raise UsageError(f"--channel {text}", f"give mix, each, or a number from 1 to {available}")
    return [int(text)]
