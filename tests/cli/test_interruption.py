"""The real program, told to stop at any moment, and kept waiting by who reads its result from a named pipe."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.program import program, rows, timeless


def interrupted(number: int, arguments: list[object], until: Callable[[], bool]) -> tuple[int, str]:
    with subprocess.Popen(
        [sys.executable, "-m", "realtime_ser", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run under nohup hand an ignored SIGHUP down, and the program would rightly ignore it too.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while not until() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(number)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()  # a test that fails leaves nothing running and no pipe open
    assert "Traceback" not in err
    return process.returncode, err


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("source", ["demo", "-"])
def test_interruption_flushes_everything(tmp_path: Path, name: str, code: int, source: str) -> None:
    out, log = tmp_path / "t.csv", tmp_path / "t.jsonl"

    def heard() -> bool:
        # With a silent pipe nothing is ever heard: the program waits for audio.
        return log.exists() and (source == "-" or log.stat().st_size > 5_000)

    returned, err = interrupted(getattr(signal, name), ["replay", source, "--csv", out, "--jsonl", log], heard)
    assert returned == code
    assert "s of audio" in err
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[-1]["type"] == "session.closed"
    assert events[-1]["reason"] == "interrupted"
    if source == "demo":
        assert rows(out)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("command", [("replay", "demo"), ("models", "ser-base")])
@pytest.mark.parametrize("imported", ["typer", "realtime_ser.cli", "numpy", "onnxruntime", "realtime_ser.session"])
def test_interrupted_while_it_loads_it_just_ends(command: tuple[str, ...], imported: str) -> None:
    for later_s in (0, 0.003, 0.02):
        with subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "realtime_ser", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Tests that run in the background hand an ignored SIGINT down, and the program would rightly ignore it too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stderr is not None
            any(line.rpartition("|")[2].strip().startswith(imported) for line in process.stderr)
            time.sleep(later_s)
            process.send_signal(signal.SIGINT)
            said = [line for line in process.stderr if not line.startswith("import time:")]
        assert process.returncode in (-signal.SIGINT, 130, 0)  # to a shell the first is 130 too; or it was done
        assert "Traceback" not in "".join(said)
        assert "rror" not in "".join(said)


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("command", ["replay", "analyze"])
def test_a_signal_ends_the_wait_for_who_reads_a_named_pipe(
    tmp_path: Path, speech_wav: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, command: str
) -> None:
    fifo, first, parts = tmp_path / "fifo", tmp_path / "first", tmp_path / "parts"
    os.mkfifo(fifo)
    os.mkfifo(first)
    reader = os.open(first, os.O_RDONLY | os.O_NONBLOCK)
    parts.mkdir()
    monkeypatch.setenv("TMPDIR", str(parts))
    results = ["--csv", first, "--jsonl", fifo] if command == "replay" else ["--csv", fifo]

    def opens() -> bool:
        return bool(select.select([reader], [], [], 0)[0]) or any(parts.iterdir())  # what is there just before

    assert interrupted(getattr(signal, name), [command, speech_wav, *results], opens) == (code, "")
    os.close(reader)
    assert not list(parts.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="named pipes")
@pytest.mark.parametrize(("csv", "jsonl"), [("old", "fifo"), ("fifo", "old")])
def test_whoever_gives_up_waiting_for_a_named_pipe_finds_the_other_result_as_it_was(
    tmp_path: Path, speech_wav: Path, csv: str, jsonl: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "old").write_text("rows of yesterday\n")
    command = ["replay", speech_wav, "--csv", tmp_path / csv, "--jsonl", tmp_path / jsonl, "--overwrite"]
    soon = time.monotonic() + 3
    assert interrupted(signal.SIGINT, command, lambda: time.monotonic() > soon) == (130, "")
    assert (tmp_path / "old").read_text() == "rows of yesterday\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="named pipes")
@pytest.mark.parametrize("command", [("replay", "--speed", "max"), ("analyze",)])
def test_a_named_pipe_is_a_result_file_once_somebody_reads_it(
    tmp_path: Path, speech_wav: Path, command: tuple[str, ...]
) -> None:
    fifo, out, read = tmp_path / "fifo", tmp_path / "t.csv", tmp_path / "read.csv"
    os.mkfifo(fifo)
    program(*command, speech_wav, "--csv", out)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(lambda: (time.sleep(1.5), read.write_bytes(fifo.read_bytes())))
        done = program(*command, speech_wav, "--csv", fifo)
        late.result(timeout=20)
    assert done.returncode == 0, done.stderr
    assert timeless(read) == timeless(out)
