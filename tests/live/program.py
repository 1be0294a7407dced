"""`realtime-ser live` as a process of its own, and what it writes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.live.server import Server

needs_pulseaudio = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("pulseaudio", "pactl", "paplay"))),
        reason="needs pulseaudio, pulseaudio-utils, libasound2-plugins and libportaudio2",
    ),
]
"""Marks of a test that uses the server."""

PROGRAM = (sys.executable, "-m", "realtime_ser")


def events_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def spoken(path: Path) -> list[dict[str, Any]]:
    """The last three utterances."""
    return [event for event in events_of(path) if event["type"] == "speech.ended"][-3:]


def wait_for(text: str, path: Path, limit_s: float = 30, times: int = 1) -> None:
    """Until the timeline holds it."""
    deadline = time.monotonic() + limit_s
    while not (path.exists() and path.read_text(encoding="utf-8").count(text) >= times):
        assert time.monotonic() < deadline, f"no {text} within {limit_s} s"
        time.sleep(0.1)


def start_live(server: Server, out: Path, *options: str, program: Sequence[str] = PROGRAM) -> subprocess.Popen[str]:
    live = subprocess.Popen(
        [*program, "live", "--plain", "--jsonl", str(out), *options],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for("measurement", out)
    return live


def stop(live: subprocess.Popen[str]) -> str:
    """As Ctrl-C would; returns what it wrote to stderr."""
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate(timeout=20)
    assert live.returncode == 130, errors
    assert "Traceback" not in errors
    return errors
