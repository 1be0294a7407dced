"""The command line: one file per command, and the one place where errors become a line on stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import typer

from realtime_ser.cli.analyze import analyze
from realtime_ser.cli.bench import bench
from realtime_ser.cli.calibrate import calibrate
from realtime_ser.cli.compare import compare
from realtime_ser.cli.devices import devices
from realtime_ser.cli.doctor import doctor
from realtime_ser.cli.export import export
from realtime_ser.cli.live import live
from realtime_ser.cli.models import models
from realtime_ser.cli.replay import replay
from realtime_ser.cli.report import report
from realtime_ser.errors import RealtimeSerError
from realtime_ser.printable import never_fail_on_characters, say
from realtime_ser.signals import ended_by_ctrl_c

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Live speech emotion analysis: a microphone, recordings, CSV timelines.",
)
for command in (live, replay, analyze, report, export, compare, devices, doctor, bench, calibrate, models):
    app.command()(command)


def main() -> None:
    """All there is: exit codes 0 done, 1 failed, 2 wrong usage, 130 and 143 interrupted."""
    _open_what_is_closed()
    never_fail_on_characters()
    try:
        with ended_by_ctrl_c():
            app(prog_name="realtime-ser")
    except RealtimeSerError as error:
        say(f"realtime-ser: {error}", sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # of stdout or stderr: files have errors of their own
        with suppress(OSError):
            say(f"realtime-ser: {error}: the output cannot be written", sys.stderr)
        sys.exit(1)


def _open_what_is_closed() -> None:
    """Python has no stdout or stderr where the shell closed it, and everything here writes to both."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the program runs
