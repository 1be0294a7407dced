"""Running the real program, and reading what it wrote."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def program(
    *arguments: object, stdin: bytes | None = None, under: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run it to the end, under another program if need be; fail on any traceback."""
    done = subprocess.run(
        [*under, sys.executable, "-m", "realtime_ser", *map(str, arguments)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=120,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in out + err, err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def obeying_rights() -> tuple[str, ...]:
    """What to run a program under that is to be denied what its own rights deny: root may read everything."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv here")
    return "setpriv", "--bounding-set=-dac_override,-dac_read_search"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def timeless(path: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in {"wall_time", "latency_ms"}} for row in rows(path)]


def one_line(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """It failed with this code and said so in one line that has these parts."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("realtime-ser:")]
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0]
