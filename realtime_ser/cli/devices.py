"""`realtime-ser devices`: the inputs PortAudio sees."""

from __future__ import annotations

from realtime_ser.cli import options
from realtime_ser.printable import plain_console, printable, say_json


def devices(as_json: options.Json = False) -> None:
    """List microphones and other inputs, the default one marked."""
    from dataclasses import asdict

    from realtime_ser.sources.portaudio import list_inputs, no_microphone

    inputs = list_inputs()
    if as_json:
        say_json([asdict(found) for found in inputs])
        return
    if not inputs:
        raise no_microphone()
    from rich.table import Table

    table = Table(box=None)
    for column in ("", "id", "name", "host", "channels", "rate", "latency"):
        table.add_column(column, justify="left" if column in {"", "name", "host"} else "right")
    for found in inputs:
        table.add_row(
            "*" if found.default else "",
            str(found.index),
            printable(found.name),
            printable(found.host_api),
            str(found.channels),
            f"{found.rate_hz:.0f} Hz",
            f"{1000 * found.latency_s:.0f} ms",
        )
    plain_console().print(table)
