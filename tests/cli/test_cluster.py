"""`analyze` on real clusters: Dask's scheduler and workers as processes of their own, and an S3 server, on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray

from tests.cli.program import one_line, program, timeless

Demo = tuple[NDArray[np.int16], int]
NAMES = [f"{i}.flac" for i in range(6)]

pytestmark = pytest.mark.slow


class Cluster:
    """A scheduler and two workers with a thread each."""

    def __init__(self, log: Path, *, failures: int = 3, nanny: str = "--no-nanny") -> None:
        self._environment = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(failures),
            "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "false",
        }
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        (self.address,) = self._logged(r"Scheduler at:\s+(tcp://[\d.:]+)", 1)
        self.workers = [
            self._start("dask_worker", self.address, nanny, "--nthreads", "1", "--no-dashboard") for _ in range(2)
        ]
        self._logged(r"(Registered to:)", 2)

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", f"distributed.cli.{name}", *arguments]
            process = subprocess.Popen(command, env=self._environment, cwd=self._log.parent, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def _logged(self, pattern: str, times: int) -> list[str]:
        deadline = time.monotonic() + 60
        while len(found := re.findall(pattern, self._log.read_text())) < times:
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        return found

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(30)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path / "cluster.log")
    yield running
    running.stop()


@pytest.fixture
def recordings(tmp_path: Path, demo: Demo) -> Path:
    """Six of half a minute, each another part of the demo first."""
    samples, rate_hz = demo
    folder = tmp_path / "in"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        soundfile.write(folder / name, np.tile(np.roll(samples[: 14 * rate_hz], -i * rate_hz), 2), rate_hz)
    return folder


def expected(recordings: Path, tmp_path: Path) -> Path:
    """What one process makes of them."""
    out = tmp_path / "expected"
    program("analyze", recordings, "--out", out)
    return out


def same(out: Path, other: Path) -> None:
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in other.iterdir())
    for name in NAMES:
        assert timeless(out / f"{name}.csv") == timeless(other / f"{name}.csv")


def test_a_cluster_gives_what_one_process_gives_though_a_worker_is_killed(
    cluster: Cluster, tmp_path: Path, recordings: Path
) -> None:
    out = tmp_path / "out"

    def kill_one() -> None:
        while not list(out.glob("*.part")):
            time.sleep(0.02)
        cluster.workers[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = program("analyze", recordings, "--out", out, "--scheduler", cluster.address)
    killer.join()
    assert cluster.workers[0].wait() == -signal.SIGKILL
    assert done.returncode == 0, done.stderr
    assert "6 of 6 recordings analysed" in done.stderr
    same(out, expected(recordings, tmp_path))


def test_what_kills_its_workers_fails_alone_and_can_be_resumed(tmp_path: Path, recordings: Path) -> None:
    cluster = Cluster(tmp_path / "cluster.log", failures=1, nanny="--nanny")
    out = tmp_path / "out"
    poisonous = out / "1.flac.csv.part"
    over = threading.Event()

    def kill_whoever_has_it() -> None:
        while not over.wait(0.01):
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if str(poisonous) in (file.path for file in process.open_files()):
                        process.kill()

    killer = threading.Thread(target=kill_whoever_has_it)
    killer.start()
    try:
        done = program("analyze", recordings, "--out", out, "--scheduler", cluster.address)
        over.set()
        killer.join()
        one_line(done, 1, "1.flac: every worker that tried it died")
        assert "5 of 6 recordings analysed" in done.stderr
        done = program("analyze", recordings, "--out", out, "--scheduler", cluster.address, "--resume")
    finally:
        over.set()
        cluster.stop()
    assert "1 of 1 recordings analysed" in done.stderr
    same(out, expected(recordings, tmp_path))


def test_a_local_cluster_and_a_bad_file(tmp_path: Path, recordings: Path) -> None:
    (recordings / "bad.wav").write_bytes(b"not audio")
    out = tmp_path / "out"
    done = program("analyze", recordings, "--out", out, "--scheduler", "local", "--jobs", "2")
    one_line(done, 1, "bad.wav: cannot be read as audio")
    assert "6 of 7 recordings analysed" in done.stderr
    (recordings / "bad.wav").unlink()
    same(out, expected(recordings, tmp_path))


def test_a_scheduler_that_dies_is_told_in_one_line(cluster: Cluster, tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "out"

    def kill_it() -> None:
        while not list(out.glob("*.part")):
            time.sleep(0.02)
        cluster.scheduler.kill()

    killer = threading.Thread(target=kill_it)
    killer.start()
    done = program("analyze", recordings, "--out", out, "--scheduler", cluster.address)
    killer.join()
    one_line(done, 1, "scheduler is gone: --resume goes on")
    program("analyze", recordings, "--out", out, "--resume")
    same(out, expected(recordings, tmp_path))


def test_nobody_at_the_address(tmp_path: Path, recordings: Path) -> None:
    one_line(program("analyze", recordings, "--scheduler", "tcp://127.0.0.1:9"), 2, "no Dask scheduler answers")
    one_line(program("analyze", recordings, "--scheduler", "nonsense://"), 2, "no Dask scheduler answers")
    one_line(program("analyze", recordings, "--scheduler", "local", "--csv", tmp_path / "t.csv"), 2, "needs --out")


def test_recordings_and_timelines_in_s3(tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("botocore.session")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        s3 = boto3.get_session().create_client("s3")
        s3.create_bucket(Bucket="calls")
        for name in NAMES:
            s3.put_object(Bucket="calls", Key=f"today/{name}", Body=(recordings / name).read_bytes())
        cluster = Cluster(tmp_path / "cluster.log")
        try:
            arguments = ("analyze", "s3://calls/today", "--out", "s3://calls/timelines", "--scheduler", cluster.address)
            done = program(*arguments)
            assert "6 of 6 recordings analysed" in done.stderr, done.stderr
            s3.delete_object(Bucket="calls", Key=f"timelines/{NAMES[2]}.csv")
            assert "1 of 1 recordings analysed" in program(*arguments, "--resume").stderr
        finally:
            cluster.stop()
        one_line(program("analyze", "s3://nobodys/x.wav"), 1, "s3://nobodys/x.wav")
        other = expected(recordings, tmp_path)
        for name in NAMES:
            body = s3.get_object(Bucket="calls", Key=f"timelines/{name}.csv")["Body"].read()
            (tmp_path / name).write_bytes(body)
            found = timeless(tmp_path / name)
            assert found == [row | {"file": f"s3://calls/today/{name}"} for row in timeless(other / f"{name}.csv")]
        sidecar = json.loads(s3.get_object(Bucket="calls", Key="timelines/0.flac.csv.json")["Body"].read())
        assert sidecar["source"] == "s3://calls/today/0.flac"
    finally:
        server.stop()
