"""Standard output and error that are full, closed, or read late or by nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.cli.program import program, rows


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full: a device that is always full")
def test_full_stdout_is_told_in_one_line(speech_wav: Path) -> None:
    for output in ("--plain", "--jsonl=-"):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "realtime_ser", "replay", str(speech_wav), "--speed", "max", output]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert sum(line.startswith("realtime-ser:") for line in done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="POSIX shell")
@pytest.mark.parametrize("closed", ["1", "2"])
@pytest.mark.parametrize("output", ["--plain", "--jsonl=-"])
def test_a_closed_stdout_or_stderr_is_as_good_as_none(
    tmp_path: Path, speech_wav: Path, closed: str, output: str
) -> None:
    out = tmp_path / "t.csv"
    command = [sys.executable, "-m", "realtime_ser", "replay", speech_wav, "--speed", "max", output, "--csv", out]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}>&-', "sh", *map(str, command)], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(rows(out)) > 10
    if closed == "2":
        assert len(done.stdout.splitlines()) > 2


class UnreadPipe:
    """A pipe that is full already, so that the program's first write into it waits."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.filled = 0
        os.set_blocking(self.writer, False)
        with suppress(BlockingIOError):
            while True:
                self.filled += os.write(self.writer, b"\n" * 256)
        os.set_blocking(self.writer, True)

    def start(self, *arguments: object, stderr_too: bool = False) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "realtime_ser", "replay", *map(str, arguments)]
        stderr = self.writer if stderr_too else subprocess.PIPE
        process = subprocess.Popen(command, stdout=self.writer, stderr=stderr, text=True)
        os.close(self.writer)
        return process

    def rest(self) -> list[str]:
        """What the program wrote into it, to the end."""
        with os.fdopen(self.reader, "rb") as reader:
            return reader.read()[self.filled :].decode().splitlines()


def grown(path: Path, size: int) -> bool:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size > size) and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.exists() and path.stat().st_size > size


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("stderr_too", [False, True])
def test_lines_that_nobody_reads_stop_nothing_and_a_signal_ends_it(tmp_path: Path, stderr_too: bool) -> None:
    out, unread = tmp_path / "t.csv", UnreadPipe()
    with unread.start("demo", "--speed", "1", "--plain", "--csv", out, stderr_too=stderr_too) as process:
        try:
            assert grown(out, 2_000)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            os.close(unread.reader)
    assert process.returncode == 143, errors
    assert stderr_too or "stdout: hangs, lines not written" in errors
    assert out.read_text().endswith("\n")
    assert (tmp_path / "t.csv.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
@pytest.mark.parametrize("late_s", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_lines_that_are_read_late_are_all_there(tmp_path: Path, speech_wav: Path, late_s: float) -> None:
    expected = program("replay", speech_wav, "--speed", "max", "--plain").stdout.splitlines()
    out, unread = tmp_path / "t.csv", UnreadPipe()
    process = unread.start(speech_wav, "--speed", "max", "--plain", "--csv", out)
    assert grown(out, 1_000)
    time.sleep(late_s)  # in the longer case for more than an output that hangs is waited for
    assert unread.rest() == expected
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
@pytest.mark.parametrize("interrupt", [False, True])
def test_a_slow_reader_of_events_slows_a_replay_down_and_a_signal_ends_it(
    tmp_path: Path, demo: tuple[NDArray[np.int16], int], interrupt: bool
) -> None:
    samples, rate_hz = demo
    long, out, unread = tmp_path / "long.wav", tmp_path / "t.csv", UnreadPipe()
    soundfile.write(long, np.tile(samples, 20), rate_hz)
    with unread.start(long, "--speed", "max", "--jsonl", "-", "--csv", out) as process:
        try:
            assert grown(out, 2_000)
            time.sleep(3)
            waits_at = out.stat().st_size
            time.sleep(1)
            assert out.stat().st_size == waits_at
            if interrupt:
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=30)
                assert "events not written" in errors
                assert process.returncode != 0
                assert out.read_text().endswith("\n")
            else:
                events = [json.loads(line) for line in unread.rest()]
                _, errors = process.communicate(timeout=30)
                assert process.returncode == 0, errors
                assert [e["seq"] for e in events] == list(range(len(events)))
                assert events[-1]["type"] == "session.closed"
        finally:
            process.kill()
    if interrupt:
        os.close(unread.reader)
