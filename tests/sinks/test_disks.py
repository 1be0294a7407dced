"""Disks that fill up, hang, or change under a file that is open: the faults are real, root's where they must be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from realtime_ser.errors import SinkError, WriteError
from realtime_ser.sinks._file import LineFile
from realtime_ser.sinks.background import Background
from realtime_ser.sinks.recording import FlacRecording, Recorded
from realtime_ser.sources.file import FileSource
from realtime_ser.stages.monitor import Notice

pytestmark = pytest.mark.skipif(os.name != "posix", reason="an open file is not to be moved elsewhere")
NOISE = np.random.default_rng(0).uniform(-1, 1, (8_000, 1)).astype(np.float32)


@contextmanager
def mounted(folder: Path, *command: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", *command, folder], capture_output=True).returncode:
        pytest.skip("may not mount a disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    if sys.platform != "linux":
        pytest.skip("a small tmpfs is Linux's")
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        yield disk


def formatted(tmp_path: Path, program: str, megabytes: int) -> str:
    """An image of a disk with this file system."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run([program, "-q", image], check=True, capture_output=True)
    return str(image)


def until_it_fails(write: Callable[[], object]) -> tuple[int, SinkError]:
    for n in range(10_000):
        try:
            write()
        except SinkError as error:
            return n, error
    raise AssertionError("it never failed")


# Rotation


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_moved_file_is_followed_by_a_new_one_with_its_header(tmp_path: Path, made_anew: bool) -> None:
    told: list[Notice] = []
    path, old = tmp_path / "t.csv", tmp_path / "t.csv.1"
    file = LineFile(path, "new", "header", told.append)
    file.write("a")
    path.rename(old)
    if made_anew:
        path.touch()  # logrotate's `create`
    file.write("b")
    file.write("c")
    assert (old.read_text(), path.read_text()) == ("header\na\n", "header\nb\nc\n")
    assert [notice.message for notice in told] == [f"{path}: was moved"]


def test_a_deleted_file_is_begun_anew(tmp_path: Path) -> None:
    told: list[Notice] = []
    path = tmp_path / "t.csv"
    file = LineFile(path, "new", "header", told.append)
    path.unlink()
    file.write("a")
    assert path.read_text() == "header\na\n"
    assert [notice.message for notice in told] == [f"{path}: was deleted"]


def test_a_file_that_was_copied_and_emptied_has_no_hole(tmp_path: Path) -> None:
    told: list[Notice] = []
    path = tmp_path / "t.csv"
    file = LineFile(path, "new", "header", told.append)
    file.write("a" * 1_000)
    os.truncate(path, 0)  # logrotate's `copytruncate`
    file.write("b")
    assert path.read_bytes() == b"header\nb\n"
    os.truncate(path, 8)  # in the middle of a line
    file.write("c")
    assert path.read_bytes() == b"header\nc\n"
    assert "emptied by another program" in told[0].message


def test_a_folder_that_is_moved_takes_the_file_along_and_one_that_is_deleted_may_return(tmp_path: Path) -> None:
    folder, moved = tmp_path / "results", tmp_path / "moved"
    folder.mkdir()
    file = LineFile(folder / "t.csv", "new", "header")
    folder.rename(moved)
    file.write("a")
    assert (moved / "t.csv").read_text() == "header\na\n"
    shutil.rmtree(moved)
    with pytest.raises(WriteError, match="no such file"):
        file.write("b")
    folder.mkdir()
    file.write("c")
    assert (folder / "t.csv").read_text() == "header\nc\n"


# No room


def test_with_room_again_lines_are_written_again(small_disk: Path) -> None:
    path, hog = small_disk / "t.csv", small_disk / "hog"
    file = LineFile(path, "new", "header")
    with pytest.raises(OSError, match="space"):
        hog.write_bytes(bytes(100_000))
    line = "x" * 999
    kept, error = until_it_fails(lambda: file.write(line))
    assert isinstance(error, WriteError)
    assert "the disk is full" in str(error)
    hog.unlink()
    file.write("y")
    file.close()
    assert path.read_text() == "header\n" + f"{line}\n" * kept + "y\n"


def test_a_limit_on_the_size_of_files_is_told_and_the_next_file_goes_on(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from realtime_ser.sinks._file import LineFile, SinkError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))\n"
        "path = Path(sys.argv[1])\n"
        "file = LineFile(path, 'new', 'header')\n"
        "try:\n"
        "    while True: file.write('x' * 999)\n"
        "except SinkError as error: print(error)\n"
        "path.rename(str(path) + '.1')\n"
        "file.write('y')\n"
    )
    path = tmp_path / "t.csv"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a file may not be larger here" in done.stdout
    assert Path(f"{path}.1").read_text() == "header\n" + ("x" * 999 + "\n") * 2
    assert path.read_text() == "header\ny\n"


def test_a_quota_is_told_and_may_be_raised(tmp_path: Path) -> None:
    image = formatted(tmp_path, "mkfs.btrfs", 128)
    with mounted(tmp_path / "disk", "-o", "loop", image) as disk:
        for command in (["quota", "enable", disk], ["subvolume", "create", disk / "s"]):
            subprocess.run(["btrfs", *command], check=True, capture_output=True)
        limit = ["btrfs", "qgroup", "limit"]
        subprocess.run([*limit, "1M", disk / "s"], check=True, capture_output=True)
        path = disk / "s" / "t.csv"
        file = LineFile(path, "new", "header")
        line = "x" * 65_535
        kept, error = until_it_fails(lambda: file.write(line))
        assert "the quota is used up" in str(error)
        # btrfs lets nothing be cut off either while the quota is used up: part of a line may stay until there is room.
        assert path.read_text().splitlines()[: kept + 1] == ["header", *[line] * kept]
        subprocess.run([*limit, "none", disk / "s"], check=True, capture_output=True)
        file.write("y")
        file.close()
        assert path.read_text() == "header\n" + f"{line}\n" * kept + "y\n"


def test_a_disk_that_becomes_read_only_is_told_and_what_is_there_is_whole(tmp_path: Path) -> None:
    image = formatted(tmp_path, "mkfs.ext4", 8)
    with mounted(tmp_path / "disk", "-o", "loop,errors=remount-ro", image) as disk:
        found = subprocess.run(["findmnt", "-no", "SOURCE", disk], capture_output=True, text=True, check=True)
        trigger = Path("/sys/fs/ext4") / Path(found.stdout.strip()).name / "trigger_fs_error"
        if not trigger.exists():
            pytest.skip("this kernel's ext4 cannot be told to fail")
        file = LineFile(disk / "t.csv", "new", "header")
        file.write("a")
        trigger.write_text("1")
        for _ in range(2):
            with pytest.raises(WriteError, match="read-only file system"):
                file.write("b")
        with pytest.raises(SinkError, match="read-only file system"):
            LineFile(disk / "other.csv", "new")
        assert (disk / "t.csv").read_text() == "header\na\n"


# A recording


def test_a_recording_ends_on_a_full_disk_and_can_be_heard_up_to_there(small_disk: Path) -> None:
    path = small_disk / "r.flac"
    recording = FlacRecording(path, 8_000, 1, overwrite=False)
    kept, error = until_it_fails(lambda: recording.write(Recorded(8_000, NOISE)))
    recording.close()
    assert "the disk is full" in str(error)
    heard = np.concatenate(list(FileSource(path)))
    assert len(heard) > (kept - 1) * 8_000
    np.testing.assert_allclose(heard[: 8_000 * (kept - 1)], np.tile(NOISE, (kept - 1, 1)), atol=1e-4)


@pytest.mark.parametrize(("fault", "said"), [(os.unlink, "deleted"), (lambda p: os.truncate(p, 0), "emptied")])
def test_a_recording_that_is_deleted_or_emptied_is_told(
    tmp_path: Path, fault: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "r.flac"
    recording = FlacRecording(path, 8_000, 1, overwrite=False)
    for _ in range(3):
        recording.write(Recorded(8_000, NOISE))
    fault(path)
    with pytest.raises(SinkError, match=said):
        recording.write(Recorded(8_000, NOISE))
    recording.close()


# A disk that hangs: a pipe whose reader stands still


def test_a_hanging_disk_is_told_waited_for_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime_ser.sinks.background._SLOW_S", 0.2)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    told: list[Notice] = []
    sink: Background[str] = Background(LineFile(path, "new"), "t.csv", told.append, most_waiting=100)
    line = "x" * 9_999
    kept = 0
    for _ in range(150):  # a pipe holds 64 kB
        kept += sink.write(line)
        time.sleep(0.005)
    assert 100 <= kept < 120
    assert told[0].code == "output_failing"
    assert "the disk hangs" in told[0].message
    assert f"events lost: {150 - kept}" in sink.trouble
    heard: list[bytes] = []
    os.set_blocking(reader, True)
    reading = threading.Thread(target=lambda: heard.extend(iter(lambda: os.read(reader, 1 << 16), b"")))
    reading.start()
    time.sleep(0.5)
    kept += sink.write(line)
    assert (told[-1].code, told[-1].remedy) == ("output_back", f"events lost: {151 - kept}")
    assert sink.trouble == ""
    with pytest.raises(SinkError, match=f"events lost: {151 - kept}"):
        sink.close()
    reading.join()
    os.close(reader)
    assert b"".join(heard).decode() == f"{line}\n" * kept


def test_a_full_disk_in_the_background_loses_its_own_events_only(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime_ser.sinks.background._SLOW_S", 0.1)
    told: list[Notice] = []
    path = small_disk / "t.csv"
    sink: Background[str] = Background(LineFile(path, "new", "header"), str(path), told.append)
    hog = (small_disk / "hog").open("wb", buffering=0)
    while hog.write(bytes(65_536)) == 65_536:
        pass
    for _ in range(20):
        assert sink.write("x" * 999)
        time.sleep(0.005)
    assert "the disk is full" in sink.trouble
    (small_disk / "hog").unlink()
    hog.close()
    time.sleep(0.2)
    sink.write("y")
    assert [notice.code for notice in told] == ["output_failing", "output_back"]
    with pytest.raises(SinkError, match="events lost: "):
        sink.close()
    lines = path.read_text().splitlines()
    assert lines[-1] == "y"
    assert told[1].remedy == f"events lost: {20 - (len(lines) - 2)}"
