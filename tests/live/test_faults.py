"""What happens to `live` on a real audio server: it dies, hangs or comes back, the machine sleeps, a disk fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.live.program import events_of, needs_pulseaudio, start_live, stop, wait_for
from tests.live.server import Server

Demo = tuple[NDArray[np.int16], int]

pytestmark = needs_pulseaudio


def test_a_killed_server_is_a_gap_and_the_timeline_goes_on_after_it(
    running: Server, tmp_path: Path, speech: Path
) -> None:
    out = tmp_path / "live.jsonl"
    live = start_live(running, out)
    killed = time.monotonic()
    running.kill()
    wait_for("device_lost", out)  # before it is back: nobody has to wait for the gap to learn of it
    running.start()
    wait_for("the device was away", out)
    away_s = time.monotonic() - killed
    running.play(speech)
    time.sleep(1)
    live.send_signal(signal.SIGINT)
    _, errors = live.communicate(timeout=20)
    assert live.returncode == 130, errors
    assert "Traceback" not in errors
    events = events_of(out)
    (lost,) = (e for e in events if e["type"] == "warning" and e["code"] == "device_lost")
    (gap,) = (e for e in events if e["type"] == "gap" and e["cause"] == "the device was away")
    assert gap["end_s"] - gap["start_s"] == pytest.approx(away_s, abs=1)
    assert lost["start_s"] <= gap["start_s"] + 0.1
    after = [e for e in events if e["type"] == "speech.ended" and e["start_s"] > gap["end_s"]]
    assert len(after) == 3
    # A busy machine may lose something besides.
    gaps_s = sum(e["end_s"] - e["start_s"] for e in events if e["type"] == "gap")
    assert events[-1]["lost_s"] == pytest.approx(gaps_s, abs=0.01)


def test_what_is_being_said_when_the_server_dies_is_told_before_its_loss(
    running: Server, tmp_path: Path, speech: Path
) -> None:
    out = tmp_path / "live.jsonl"
    live = start_live(running, out)
    playing = subprocess.Popen(["paplay", "--device=out", str(speech)], env=running.environment)
    wait_for("speech.started", out)
    running.kill()
    playing.wait(10)
    wait_for("device_lost", out)
    told = out.read_text(encoding="utf-8")
    assert "speech.ended" in told[told.index("speech.started") : told.index("device_lost")]
    stop(live)


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


def test_what_sound_libraries_say_of_a_lost_device_is_not_told_but_our_last_line_is(
    running: Server, tmp_path: Path
) -> None:
    live = start_live(running, tmp_path / "live.jsonl")
    running.kill()
    wait_for("device_lost", tmp_path / "live.jsonl")
    time.sleep(3)  # it tries to open it again
    (told,) = stop(live).splitlines()
    assert "s of audio" in told


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
    events = events_of(out)
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


def play_noise(server: Server, path: Path, seed: int) -> float:
    """Noise of its own into the microphone; returns when, by the clock on the wall."""
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 22_050), 44_100)
    begun_s = time.time()
    server.play(path)
    return begun_s


def begin_of(noise: Path, recording: NDArray[np.float64]) -> float:
    """Where in a recording the noise is, in seconds."""
    sound, rate_hz = soundfile.read(noise)
    n = 1 << (len(recording) + len(sound)).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(recording, n) * np.conj(np.fft.rfft(sound, n)), n)
    return float(np.argmax(likeness[: len(recording)])) / rate_hz


def test_however_often_a_source_is_removed_and_returns_the_clock_is_the_one_on_the_wall(
    running: Server, tmp_path: Path, speech: Path
) -> None:
    out, flac = tmp_path / "live.jsonl", tmp_path / "live.flac"
    live = start_live(running, out, "--record", str(flac))
    noises = [tmp_path / f"{n}.wav" for n in range(4)]
    played_s = [play_noise(running, noises[0], 0)]
    for n in range(1, 4):
        running.unplug()
        wait_for("device_lost", out, times=n)
        running.plug_in()
        wait_for("device_back", out, times=n)
        time.sleep(1)
        played_s.append(play_noise(running, noises[n], n))
    running.play(speech)
    time.sleep(1)
    stop(live)
    events = events_of(out)
    gaps = [e for e in events if e["type"] == "gap" and e["cause"] == "the device was away"]
    assert len(gaps) == 3
    assert len([e for e in events if e["type"] == "speech.ended" and e["start_s"] > gaps[-1]["end_s"] + 2]) == 3
    samples, rate_hz = soundfile.read(flac, always_2d=True)
    assert rate_hz == 44_100
    begins_s = [begin_of(noise, samples[:, 0]) for noise in noises]
    # The server may keep a block for a while when it starts, but that does not add up.
    assert np.diff(begins_s) == pytest.approx(np.diff(played_s), abs=0.3)
    assert begins_s[-1] - begins_s[0] == pytest.approx(played_s[-1] - played_s[0], abs=0.3)
    assert len(samples) / rate_hz == pytest.approx(events[-1]["audio_s"], abs=0.01)


def test_a_source_that_opens_and_delivers_nothing_is_not_back(running: Server, tmp_path: Path) -> None:
    out = tmp_path / "live.jsonl"
    live = start_live(running, out)
    suspended = time.monotonic()
    running.control("suspend-sink", "out", "1")
    wait_for("device_lost", out)
    time.sleep(10)
    running.control("suspend-sink", "out", "0")
    away_s = time.monotonic() - suspended
    wait_for("device_back", out)
    time.sleep(1)
    stop(live)
    told = [e for e in events_of(out) if e.get("code", e["type"]) in ("device_lost", "gap", "device_back")]
    assert [e.get("code", e["type"]) for e in told] == ["device_lost", "gap", "device_back"]
    assert away_s - 0.5 < told[1]["end_s"] - told[1]["start_s"] < away_s + 4  # when the suspended stream is given up


@pytest.mark.parametrize("duration", [None, "12"])
def test_what_ends_while_the_device_is_away_is_as_long_as_it_took(
    running: Server, tmp_path: Path, duration: str | None
) -> None:
    out, flac = tmp_path / "live.jsonl", tmp_path / "live.flac"
    live = start_live(running, out, "--record", str(flac), *(["--duration", duration] if duration else []))
    heard_s = events_of(out)[-1]["end_s"]
    begun = time.monotonic()
    running.unplug()
    wait_for("device_lost", out)
    if duration:
        _, errors = live.communicate(timeout=20)
        assert live.returncode == 0, errors
    else:
        time.sleep(4)
        errors = stop(live)
    took_s = heard_s + time.monotonic() - begun
    events = events_of(out)
    assert (events[-2]["type"], events[-1]["type"]) == ("gap", "session.closed")
    closed_s = events[-1]["audio_s"]
    assert closed_s == pytest.approx(float(duration or took_s), abs=1)
    assert events[-1]["lost_s"] == pytest.approx(closed_s - heard_s, abs=1)
    assert "s lost" in errors
    assert soundfile.info(flac).duration == pytest.approx(closed_s, abs=0.01)


def test_the_doctor_and_calibrate_say_that_the_device_vanished(running: Server) -> None:
    for command in (["doctor"], ["calibrate", "me"]):
        program = [sys.executable, "-m", "realtime_ser", *command]
        asked = subprocess.Popen(
            program, env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while not running.control("list", "short", "source-outputs"):
            time.sleep(0.1)
        time.sleep(1)
        running.unplug()
        told, _ = asked.communicate(timeout=30)
        assert asked.returncode == 1, told
        assert told.count("default delivers no more audio") == 1
        assert "default: " not in told
        assert "pa_linux_alsa" not in told  # PortAudio's own lines, of which there may be millions
        assert "All is well" not in told
        running.plug_in()


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


def fill(disk: Path) -> None:
    """Until nothing fits: a system may refuse a large piece where megabytes of small ones still do."""
    with (disk / "hog").open("ab", buffering=0) as hog:
        for size in (1 << 20, 1 << 10):
            with suppress(OSError):
                while True:
                    hog.write(bytes(size))


def test_a_full_disk_ends_the_recording_and_not_the_session(running: Server, disk: Path, tmp_path: Path) -> None:
    outputs = [disk / name for name in ("t.jsonl", "t.csv", "r.flac")]
    live = start_live(running, outputs[0], "--csv", str(outputs[1]), "--record", str(outputs[2]))
    noise = tmp_path / "noise.wav"
    soundfile.write(noise, np.random.default_rng(0).uniform(-0.3, 0.3, 48_000 * 15), 48_000)
    fill(disk)
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


REFUSED = """
import subprocess, sys
from realtime_ser.cli import main
from realtime_ser.sources import microphone
found = microphone.find_input
def unplugged(wanted):
    device = found(wanted)
    subprocess.run(["pactl", "unload-module", "module-null-sink"], check=True)
    return device
microphone.find_input = unplugged
main()
"""
"""The program, whose device is gone between being found and being opened."""


def test_a_device_that_refuses_costs_one_line_and_no_result_that_was_there(running: Server, tmp_path: Path) -> None:
    csv, flac = tmp_path / "yesterday.csv", tmp_path / "yesterday.flac"
    csv.write_text("hours of work")
    flac.write_bytes(b"more of it")
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, "live", "--csv", str(csv), "--record", str(flac), "--overwrite"],
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert "cannot be opened" in told
    assert csv.read_text() == "hours of work"
    assert flac.read_bytes() == b"more of it"
    assert not csv.with_name("yesterday.csv.json").exists()
