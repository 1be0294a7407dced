"""`realtime-ser devices`: the inputs PortAudio sees."""

from __future__ import annotations


def devices() -> None:
    """List microphones and other inputs."""
    from rich.console import Console
    from rich.table import Table

    from realtime_ser.sources.microphone import list_inputs

    table = Table(box=None)
    for column in ("", "id", "name", "host", "channels", "rate"):
        table.add_column(column, justify="right" if column in {"id", "channels", "rate"} else "left")
    for found in list_inputs():
        mark = "*" if found.default else ""
        table.add_row(
            mark, str(found.index), found.name, found.host_api, str(found.channels), f"{found.rate_hz:.0f} Hz"
        )
    Console().print(table)
