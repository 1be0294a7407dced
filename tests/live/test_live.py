"""The microphone path on a real audio server: PulseAudio's null sink, its monitor as the microphone, PortAudio."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.live.server import Server

Demo = tuple[NDArray[np.int16], int]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("pulseaudio", "pactl", "paplay"))),
        reason="needs pulseaudio, pulseaudio-utils, libasound2-plugins and libportaudio2",
    ),
]


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


PROGRAM = (sys.executable, "-m", "realtime_ser")


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
    # A busy machine may lose something besides.
    gaps_s = sum(e["end_s"] - e["start_s"] for e in events if e["type"] == "gap")
    assert events[-1]["lost_s"] == pytest.approx(gaps_s, abs=0.01)


SLEEPY = """
import sys
from pathlib import Path
from realtime_ser.cli import main
from realtime_ser.sources import clock
slept, real = Path(sys.argv.pop(1)), clock.since_boot_s
clock.since_boot_s = lambda: real() + float(slept.read_text())
main()
"""
"""The program on a machine whose clock tells of the sleep that a file says: none may be sent to sleep by a test."""


def test_a_machine_that_slept_is_a_gap_of_that_length(running: Server, tmp_path: Path, speech: Path) -> None:
    out, slept = tmp_path / "live.jsonl", tmp_path / "slept"
    slept.write_text("0")
    live = start_live(running, out, program=[sys.executable, "-c", SLEEPY, str(slept)])
    (tmp_path / "soon").write_text("3600")
    (tmp_path / "soon").replace(slept)  # at once: the callback may read it at any time
    wait_for("the machine slept", out)
    running.play(speech)
    time.sleep(1)
    stop(live)
    events = events_of(out)
    (gap,) = (e for e in events if e["type"] == "gap")
    assert gap["end_s"] - gap["start_s"] == pytest.approx(3_600, abs=1)
    assert len([e for e in events if e["type"] == "speech.ended" and e["start_s"] > gap["end_s"]]) == 3


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
    time.sleep(2)
    live.send_signal(signal.SIGSTOP)
    stopped = datetime.now(timezone.utc)
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
    before, after = [], []
    for event in events:
        if event["type"] == "measurement" and event["trigger"] == "hop":
            told = datetime.fromisoformat(event["wall_time"].replace("Z", "+00:00"))
            # A hop may be told late, not early: the least delay is the offset of the two clocks.
            (before if told < stopped else after).append(told.timestamp() - event["end_s"])
    # PulseAudio keeps back up to two of our blocks, now more, now less.
    assert min(after) == pytest.approx(min(before), abs=0.5)
    gaps = [e for e in events if e["type"] == "gap"]
    assert gaps, "ten seconds cannot all have been kept"
    heard = [e for e in events if e["type"] == "speech.ended" and e["start_s"] > gaps[-1]["end_s"]]
    assert len(heard) == 3


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


def events_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def stop(live: subprocess.Popen[str]) -> str:
    """As Ctrl-C would; returns what it wrote to stderr."""
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate(timeout=20)
    assert live.returncode == 130, errors
    assert "Traceback" not in errors
    return errors


def test_a_source_that_is_removed_and_returns_is_a_gap(running: Server, tmp_path: Path, speech: Path) -> None:
    out = tmp_path / "live.jsonl"
    running.control("set-default-source", "out.monitor")
    live = start_live(running, out)
    sink = next(line.split()[0] for line in running.control("list", "short", "modules").splitlines() if "null" in line)
    running.control("unload-module", sink)
    wait_for("device_lost", out)
    running.control("load-module", "module-null-sink", "sink_name=out", "rate=48000")
    running.control("set-default-source", "out.monitor")
    wait_for("the device was away", out)
    running.play(speech)
    time.sleep(1)
    stop(live)
    events = events_of(out)
    (gap,) = (e for e in events if e["type"] == "gap" and e["cause"] == "the device was away")
    after = [e for e in events if e["type"] == "speech.ended" and e["start_s"] > gap["end_s"]]
    assert len(after) == 3


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


def test_a_server_that_hangs_hangs_neither_the_start_nor_the_end(running: Server, tmp_path: Path) -> None:
    out = tmp_path / "live.jsonl"
    live = start_live(running, out)
    running.signal(signal.SIGSTOP)
    try:
        wait_for("device_lost", out)
        begun = time.monotonic()
        stop(live)
        assert time.monotonic() - begun < 8
        program = [sys.executable, "-m", "realtime_ser", "live", "--plain"]
        late = subprocess.run(program, env=running.environment, capture_output=True, text=True, timeout=40)
        assert late.returncode == 1
        assert "Traceback" not in late.stderr
        assert len(late.stderr.splitlines()) == 1
    finally:
        running.signal(signal.SIGCONT)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own that can be frozen."""
    folder, image = tmp_path / "disk", tmp_path / "disk.img"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode:
        pytest.skip("may not mount a disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_hangs_for_half_a_minute_costs_no_sample_and_no_event(
    running: Server, disk: Path, speech: Path
) -> None:
    out, table, flac = disk / "t.jsonl", disk / "t.csv", disk / "r.flac"
    live = start_live(running, out, "--csv", str(table), "--record", str(flac))
    subprocess.run(["fsfreeze", "-f", disk], check=True)
    try:
        running.play(speech)
        time.sleep(30 - soundfile.info(speech).duration)
    finally:
        subprocess.run(["fsfreeze", "-u", disk], check=True)
    wait_for("output_back", out)
    time.sleep(1)  # the other two outputs may be told a block later
    stop(live)  # exit code 130: nothing is lost
    events = events_of(out)
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert not [event for event in events if event["type"] == "gap"]
    assert len([event for event in events if event["type"] == "speech.ended"]) == 3
    codes = [event["code"] for event in events if event["type"] == "warning"]
    assert (codes.count("output_failing"), codes.count("output_back")) == (3, 3)
    assert soundfile.info(flac).duration == pytest.approx(events[-1]["audio_s"], abs=0.01)
    assert table.read_text(encoding="utf-8").count(",measurement,") == sum(e["type"] == "measurement" for e in events)


def test_a_full_disk_ends_the_recording_and_not_the_session(running: Server, disk: Path, tmp_path: Path) -> None:
    outputs = [disk / name for name in ("t.jsonl", "t.csv", "r.flac")]
    live = start_live(running, outputs[0], "--csv", str(outputs[1]), "--record", str(outputs[2]))
    noise = tmp_path / "noise.wav"
    soundfile.write(noise, np.random.default_rng(0).uniform(-0.3, 0.3, 48_000 * 15), 48_000)
    with pytest.raises(OSError, match="space"):
        (disk / "hog").write_bytes(bytes(16 << 20))
    running.play(noise)
    assert live.poll() is None
    live.send_signal(signal.SIGINT)
    told, errors = live.communicate(timeout=20)  # it ends, though no output could be closed well
    assert live.returncode == 1
    assert "Traceback" not in errors
    assert "the recording ends here" in told
    for output in outputs:
        (line,) = (line for line in errors.splitlines() if line.startswith(f"realtime-ser: {output}: "))
        assert "the disk is full" in line
    assert "s of audio" in errors
