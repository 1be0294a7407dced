"""The microphone path on a real audio server: PulseAudio's null sink, its monitor as the microphone, PortAudio."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

Demo = tuple[NDArray[np.int16], int]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("pulseaudio", "pactl", "paplay"))),
        reason="needs pulseaudio, pulseaudio-utils, libasound2-plugins and libportaudio2",
    ),
]


class Server:
    """A private PulseAudio; `environment` leads to it."""

    def __init__(self, home: Path) -> None:
        (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        (home / "pulse").mkdir(mode=0o700)
        self.environment = os.environ | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PULSE_RUNTIME_PATH": str(home / "pulse"),
            # Without it Pulse hands over two seconds at a time.
            "PULSE_LATENCY_MSEC": "30",
        }
        self.start()

    def start(self) -> None:
        """Start it, with a null sink whose monitor is the microphone."""
        modules = ("module-native-protocol-unix", "module-null-sink sink_name=out rate=48000")
        self._process = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *(f"--load={m}" for m in modules)],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        command = ["pactl", "set-default-source", "out.monitor"]
        for _ in range(100):
            ready = subprocess.run(command, env=self.environment, capture_output=True)
            if ready.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(ready.stderr)

    def kill(self) -> None:
        """As a crash would."""
        self._process.kill()
        self._process.wait(10)

    def play(self, path: Path) -> None:
        """Say it into the microphone."""
        subprocess.run(["paplay", "--device=out", str(path)], env=self.environment, check=True, timeout=60)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Server]:
    """The server, started."""
    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(running: Server) -> dict[str, str]:
    """The environment that leads to a running server."""
    return running.environment


def spoken(path: Path) -> list[dict[str, Any]]:
    """The last three utterances."""
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [event for event in events if event["type"] == "speech.ended"][-3:]


@pytest.fixture
def speech(tmp_path: Path, demo: Demo) -> Path:
    """Three utterances of the demo, after enough of its background for the gate to know it from digital silence."""
    samples, rate_hz = demo
    path = tmp_path / "speech.wav"
    background = np.tile(samples[:rate_hz], 6)
    soundfile.write(path, np.concatenate((background, samples[rate_hz : 14 * rate_hz])), rate_hz)
    return path


def test_live_hears_what_replay_hears(server: dict[str, str], tmp_path: Path, speech: Path) -> None:
    program = [sys.executable, "-m", "realtime_ser"]
    out = tmp_path / "live.jsonl"
    live = subprocess.Popen(
        [*program, "live", "--plain", "--jsonl", str(out)],
        env=server,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not (out.exists() and "measurement" in out.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    subprocess.run(["paplay", "--device=out", str(speech)], env=server, check=True, timeout=60)
    time.sleep(1)
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate(timeout=20)
    assert live.returncode == 130, errors
    assert "Traceback" not in errors
    replayed = tmp_path / "file.jsonl"
    subprocess.run([*program, "replay", str(speech), "--speed", "max", "--jsonl", str(replayed)], check=True)
    heard, expected = spoken(out), spoken(replayed)
    assert len(heard) == len(expected) == 3
    shift_s = heard[0]["start_s"] - expected[0]["start_s"]
    for mine, its in zip(heard, expected, strict=True):
        assert mine["start_s"] - shift_s == pytest.approx(its["start_s"], abs=0.1)
        assert mine["duration_s"] == pytest.approx(its["duration_s"], abs=0.2)
        # The server resamples twice, and chunks fall elsewhere: the same to the ear, not to the bit.
        assert mine["measurement"]["scores"] == pytest.approx(its["measurement"]["scores"], abs=0.25)


def wait_for(text: str, path: Path, limit_s: float = 30) -> None:
    """Until the timeline holds it."""
    deadline = time.monotonic() + limit_s
    while not (path.exists() and text in path.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, f"no {text} within {limit_s} s"
        time.sleep(0.1)


def start_live(server: Server, out: Path) -> subprocess.Popen[str]:
    live = subprocess.Popen(
        [sys.executable, "-m", "realtime_ser", "live", "--plain", "--jsonl", str(out)],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for("measurement", out)
    return live


def test_a_killed_server_is_a_gap_and_the_timeline_goes_on_after_it(
    running: Server, tmp_path: Path, speech: Path
) -> None:
    out = tmp_path / "live.jsonl"
    live = start_live(running, out)
    running.kill()
    wait_for("device_lost", out)  # before it is back: nobody has to wait for the gap to learn of it
    running.start()
    wait_for("the device was away", out)
    running.play(speech)
    time.sleep(1)
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate(timeout=20)
    assert live.returncode == 130, errors
    assert "Traceback" not in errors
    events = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    (lost,) = (e for e in events if e["type"] == "warning" and e["code"] == "device_lost")
    (gap,) = (e for e in events if e["type"] == "gap" and e["cause"] == "the device was away")
    assert 3 <= gap["end_s"] - gap["start_s"] < 30
    assert lost["start_s"] <= gap["start_s"] + 0.1
    after = [e for e in events if e["type"] == "speech.ended" and e["start_s"] > gap["end_s"]]
    assert len(after) == 3
    assert events[-1]["lost_s"] == pytest.approx(gap["end_s"] - gap["start_s"], abs=0.01)


def test_interrupted_while_the_device_is_away_it_ends_at_once(running: Server, tmp_path: Path) -> None:
    out = tmp_path / "live.jsonl"
    live = start_live(running, out)
    running.kill()
    wait_for("device_lost", out)
    time.sleep(2)
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate(timeout=10)
    assert live.returncode == 130, errors
    assert "Traceback" not in errors
    assert json.loads(out.read_text(encoding="utf-8").splitlines()[-1])["type"] == "session.closed"


def test_an_analysis_that_stood_still_goes_on_with_a_gap_and_without_delay(
    running: Server, tmp_path: Path, speech: Path
) -> None:
    out = tmp_path / "live.jsonl"
    live = start_live(running, out)
    live.send_signal(signal.SIGSTOP)
    time.sleep(10)
    live.send_signal(signal.SIGCONT)
    time.sleep(2)
    running.play(speech)
    time.sleep(1)
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate(timeout=20)
    assert live.returncode == 130, errors
    events = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert "Traceback" not in errors
    # The server keeps some of it for us, the rest is a gap: the clock of the timeline is that of the wall again.
    measured = [e for e in events if e["type"] == "measurement" and e["trigger"] == "hop"]
    first, last = ((datetime.fromisoformat(e["wall_time"].replace("Z", "+00:00")), e["end_s"]) for e in
                   (measured[0], measured[-1]))  # fmt: skip
    assert last[1] - first[1] == pytest.approx((last[0] - first[0]).total_seconds(), abs=1)
    gaps = [e for e in events if e["type"] == "gap"]
    assert gaps, "ten seconds cannot all have been kept"
    after = [e for e in events if e["type"] == "speech.ended" and e["start_s"] > gaps[-1]["end_s"]]
    assert len(after) == 3


def test_devices_lists_the_servers_source(server: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "realtime_ser", "devices"], env=server, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert "default" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "realtime_ser", "live", "-d", "no such thing"],
        env=server,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 1
    assert "no input device 'no such thing'" in wrong.stderr
    assert "default" in wrong.stderr
