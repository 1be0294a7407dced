"""`realtime-ser bench`: what the analysis costs on this machine."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from realtime_ser.cli import options
from realtime_ser.errors import UsageError
from realtime_ser.printable import plain_console, say, say_json


def bench(
    seconds: Annotated[
        float,
        typer.Option(help="Seconds of the demo to analyse, again and again.", min=5, max=3600, callback=options.finite),
    ] = 120.0,
    model: options.Model = None,
    as_json: options.Json = False,
) -> None:
    """Measure speed, latency and memory on this machine, with the demo."""
    from realtime_ser.bench import measure
    from realtime_ser.stages.model import Model, find_model, is_bundled, load_model

    loaded = load_model(model)
    found = find_model(model)
    if not isinstance(loaded, Model) or not is_bundled(found.resolve()):
        raise UsageError(f"{found}: is not bundled, so it runs in a process of its own", "give a bundled model")
    figures = measure(loaded, found, seconds, lambda what: say(what, sys.stderr))
    if as_json:
        say_json(figures)
    else:
        _tell(figures)


def _tell(figures: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("stage", "calls", "p50 ms", "p95 ms", "p99 ms")
    for name, row in {**figures["stages"], "an update": figures["update"]}.items():
        table.add_row(name, str(row["calls"]), *(f"{v:.3f}" for k, v in row.items() if k != "calls"))
    plain_console().print(table)
    rtf, streams, memory_mb = (figures[k] for k in ("real_time_factor", "streams_per_core", "peak_memory_mb"))
    memory = "" if memory_mb is None else f" Peak memory {memory_mb:.0f} MB."
    say(f"{figures['model']} on {figures['processor']}: real-time factor {rtf:.4f} in blocks as live.{memory}")
    say(f"Many streams: a SessionPool hears up to {streams} on a core.")
    speeds = figures["multiply_adds"]
    for name in ("encoder", "head"):
        part = speeds[name]
        say(
            f"{name}: {part['per_call'] / 1e6:.1f} million multiply-adds a call, {part['billions_per_s']:.1f} billion "
            f"a second, {part['share_of_product']:.0%} of a matrix product's "
            f"{speeds['matrix_product_billions_per_s']:.1f}"
        )
