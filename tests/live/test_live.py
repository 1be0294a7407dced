"""The microphone path on a real audio server: PulseAudio's null sink, its monitor as the microphone, PortAudio."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.live.program import events_of, needs_pulseaudio, spoken, start_live, stop, wait_for
from tests.live.server import Server

Demo = tuple[NDArray[np.int16], int]

pytestmark = needs_pulseaudio


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


def test_silence_and_clipping_are_told_and_given_no_emotion(running: Server, tmp_path: Path, demo: Demo) -> None:
    out = tmp_path / "live.jsonl"
    samples, rate_hz = demo
    loud = tmp_path / "loud.wav"
    voice = samples[rate_hz : 8 * rate_hz].astype(np.float64) / 32768
    soundfile.write(loud, np.clip(voice * 30 / np.abs(voice).max(), -1, 1), rate_hz)
    live = start_live(running, out)
    wait_for("silent_zeros", out)  # a null sink's monitor is digital silence
    running.play(loud)
    wait_for('"clipped"', out)
    stop(live)
    events = events_of(out)
    before = next(i for i, e in enumerate(events) if e["type"] == "speech.started")
    assert all(e["state"] == "no_speech" and not e["scores"] for e in events[:before] if e["type"] == "measurement")
    told = [e["code"] for e in events if e["type"] == "warning"]
    assert told.count("silent_zeros") == told.count("clipped") == 1


def test_each_channel_of_a_call_has_its_own_timeline(running: Server, tmp_path: Path, demo: Demo) -> None:
    out, table = tmp_path / "live.jsonl", tmp_path / "call.csv"
    samples, rate_hz = demo
    speech = samples[: 8 * rate_hz]
    background = np.resize(samples[:rate_hz], len(speech))
    left = np.concatenate((speech, background))
    right = np.concatenate((background, speech))
    call = tmp_path / "call.wav"
    soundfile.write(call, np.stack((left, right), axis=1), rate_hz)
    live = start_live(running, out, "--channel", "each", "--csv", str(table))
    running.play(call)
    time.sleep(1)
    told = stop(live)
    assert "channel 1: " in told
    assert "channel 2: " in told
    started = [(e["channel"], e["start_s"]) for e in events_of(out) if e["type"] == "speech.started"]
    first, second = ([at for channel, at in started if channel == which] for which in (1, 2))
    assert first
    assert second
    assert max(first) < min(second)
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    column = header.split(",").index("channel")
    assert {row.split(",")[column] for row in rows} == {"1", "2"}


def test_what_is_recorded_is_what_was_said(running: Server, tmp_path: Path, speech: Path) -> None:
    out, flac = tmp_path / "live.jsonl", tmp_path / "call.flac"
    live = start_live(running, out, "--record", str(flac))
    running.play(speech)
    time.sleep(1)
    stop(live)
    replayed = tmp_path / "file.jsonl"
    program = [sys.executable, "-m", "realtime_ser", "replay", str(flac), "--speed", "max", "--jsonl", str(replayed)]
    subprocess.run(program, check=True, capture_output=True)
    heard, again = spoken(out), spoken(replayed)
    assert len(heard) == len(again) == 3
    for mine, its in zip(heard, again, strict=True):
        assert mine["start_s"] == pytest.approx(its["start_s"], abs=0.05)
        assert mine["measurement"]["scores"] == pytest.approx(its["measurement"]["scores"], abs=0.05)
    assert events_of(replayed)[-1]["audio_s"] == pytest.approx(events_of(out)[-1]["audio_s"], abs=0.2)


def test_the_doctor_hears_a_voice_and_misses_it_in_silence(running: Server, speech: Path) -> None:
    program = [sys.executable, "-m", "realtime_ser", "doctor", "--json"]
    silent = subprocess.run(program, env=running.environment, capture_output=True, text=True, timeout=60)
    told = {check["name"]: check for check in json.loads(silent.stdout)["checks"]}
    assert silent.returncode == 1
    assert told["microphone"]["verdict"] == "good"
    assert "exact zeros" in told["sound"]["found"]
    assert told["sound"]["remedy"]
    patient = subprocess.Popen(
        program, env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while patient.poll() is None:
        running.play(speech)
    assert patient.stdout is not None
    checks = json.loads(patient.stdout.read())["checks"]
    assert {check["name"] for check in checks} >= {"speech", "signal to noise", "clipping", "noise floor"}


def test_a_profile_is_made_of_what_is_read(running: Server, tmp_path: Path, speech: Path) -> None:
    program = [sys.executable, "-m", "realtime_ser", "calibrate", "me", "--seconds", "5"]
    environment = running.environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    reading = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while reading.poll() is None:
        running.play(speech)
    told, errors = reading.communicate()
    assert reading.returncode == 0, errors
    assert told.startswith("your neutral speech: ")
    assert (tmp_path / "config" / "realtime-ser" / "profiles" / "me.json").is_file()


def test_devices_can_be_read_by_programs(server: dict[str, str]) -> None:
    program = [sys.executable, "-m", "realtime_ser", "devices", "--json"]
    done = subprocess.run(program, env=server, capture_output=True, text=True, check=True, timeout=30)
    found = json.loads(done.stdout)
    assert sum(device["default"] for device in found) == 1
    assert {"index", "name", "host_api", "channels", "rate_hz", "latency_s", "default"} <= set(found[0])


@pytest.mark.parametrize("recording", ["there.flac", "none/r.flac"])
def test_a_recording_that_cannot_be_leaves_the_other_results_as_they_were(
    server: dict[str, str], tmp_path: Path, recording: str
) -> None:
    out, events = tmp_path / "t.csv", tmp_path / "old.jsonl"
    (tmp_path / "there.flac").write_text("yesterday")
    program = [sys.executable, "-m", "realtime_ser", "live", "--plain", "--csv", str(out)]
    done = subprocess.run(
        [*program, "--record", str(tmp_path / recording)], env=server, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert recording in done.stderr
    assert not out.exists()
    events.write_text('{"type":"session.created"}\n')
    done = subprocess.run(
        [*program, "--jsonl", str(events), "--record", str(tmp_path / "none" / "r.flac"), "--overwrite"],
        env=server, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert events.read_text() == '{"type":"session.created"}\n'
