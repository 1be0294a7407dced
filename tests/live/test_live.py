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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A private PulseAudio; gives the environment that leads to it."""
    (tmp_path / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    environment = os.environ | {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PULSE_RUNTIME_PATH": str(tmp_path / "pulse"),
        # Without it Pulse hands over two seconds at a time.
        "PULSE_LATENCY_MSEC": "30",
    }
    (tmp_path / "pulse").mkdir(mode=0o700)
    modules = ("module-native-protocol-unix", "module-null-sink sink_name=out rate=48000")
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"]
    process = subprocess.Popen(
        command + [f"--load={m}" for m in modules],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            ready = subprocess.run(["pactl", "set-default-source", "out.monitor"], env=environment, capture_output=True)
            if ready.returncode == 0:
                break
            time.sleep(0.1)
        assert ready.returncode == 0, ready.stderr
        yield environment
    finally:
        process.terminate()
        process.wait(10)


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
