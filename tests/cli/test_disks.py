"""The program itself on disks that fail: it goes on, says so, and its exit code tells what the files lack."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from realtime_ser.sources.demo import demo_path
from tests.cli.program import one_line, program, rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux has them")


def mount(folder: Path, *command: str) -> None:
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", *command, folder], capture_output=True).returncode:
        pytest.skip("may not mount a disk here")


def start(*options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "realtime_ser", "replay", str(demo_path()), "--plain", *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def events_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_read_only_folder_is_told_before_anything_is_heard(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    mount(disk, "-t", "tmpfs", "-o", "ro", "tmpfs")
    try:
        for option in ("--csv", "--jsonl"):
            one_line(program("replay", "demo", option, disk / "t"), 1, "read-only file system")
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_a_disk_that_was_full_for_a_while(tmp_path: Path) -> None:
    disk, beside = tmp_path / "disk", tmp_path / "t.csv"
    mount(disk, "-t", "tmpfs", "-o", "size=64k", "tmpfs")

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 20
        while not (beside.exists() and text in beside.read_text()):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)

    try:
        running = start("--duration", 15, "--jsonl", disk / "t.jsonl", "--csv", beside)
        wait_for(",measurement,")
        with pytest.raises(OSError, match="space"):
            (disk / "hog").write_bytes(bytes(100_000))
        wait_for("output_failing")
        (disk / "hog").unlink()
        told, errors = running.communicate(timeout=30)
        assert running.returncode == 1
        assert "the disk is full" in told
        assert "is written again" in told
        kept = [event["seq"] for event in events_of(disk / "t.jsonl")]
        lost = kept[-1] + 1 - len(kept)
        assert lost > 0
        assert f"events lost: {lost}:" in errors
        assert [row["end"] for row in rows(beside)][-1] > "14.9"  # the session went on to its end
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_a_disk_that_hangs_for_half_a_minute_delays_and_loses_nothing(tmp_path: Path) -> None:
    disk, image, beside = tmp_path / "disk", tmp_path / "disk.img", tmp_path / "t.jsonl"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
    except FileNotFoundError:
        pytest.skip("needs mkfs.ext4")
    mount(disk, "-o", "loop", str(image))
    try:
        running = start("--duration", 45, "--csv", disk / "t.csv", "--jsonl", beside)
        time.sleep(5)
        assert os.path.ismount(disk)
        subprocess.run(["fsfreeze", "-f", disk], check=True)
        try:
            time.sleep(30)
            heard = events_of(beside)
        finally:
            subprocess.run(["fsfreeze", "-u", disk], check=True)
        told, errors = running.communicate(timeout=60)
        assert running.returncode == 0, errors
        # Meanwhile the other output went on, and the screen said why this one did not.
        assert heard[-1]["end_s"] > 25
        assert "the disk hangs" in told
        assert "is written again: events lost: 0" in told
        measured = [event for event in events_of(beside) if event["type"] in ("measurement", "warning", "gap")]
        assert [row["end"] for row in rows(disk / "t.csv")] == [f"{event['end_s']:.3f}" for event in measured]
        assert not [event for event in measured if event["type"] == "gap"]
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["nocreate", "create", "copytruncate"])
def test_logrotate_loses_no_row(tmp_path: Path, how: str) -> None:
    if shutil.which("logrotate") is None:
        pytest.skip("needs logrotate")
    tmp_path.chmod(0o755)  # it refuses a folder that others may write into
    table, beside, orders = tmp_path / "t.csv", tmp_path / "t.jsonl", tmp_path / "orders"
    orders.write_text(f"{table} {{\n rotate 9\n {how}\n}}\n")
    orders.chmod(0o644)
    running = start("--duration", 12, "--csv", table, "--jsonl", beside)
    for _ in range(3):
        time.sleep(2.5)
        subprocess.run(["logrotate", "-f", "-s", tmp_path / "state", orders], check=True)
    told, errors = running.communicate(timeout=30)
    assert running.returncode == 0, errors
    assert "is begun" in told
    measured = [f"{e['end_s']:.3f}" for e in events_of(beside) if e["type"] == "measurement"]
    kept = [row["end"] for path in (*sorted(tmp_path.glob("t.csv.?"), reverse=True), table) for row in rows(path)]
    assert [end for end in kept if end in measured] == measured
