"""What a result file says when it cannot be opened or written, and what is left of it: real disks, real pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime_ser.errors import SinkError
from realtime_ser.sinks._file import LineFile, LineStream, drop_unfinished_line, write_atomically

full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full: a device that is always full")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 16 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux":
        pytest.skip("a small tmpfs is Linux's")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount a small tmpfs here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_and_every_line_before_it_is_whole(small_disk: Path) -> None:
    path = small_disk / "t"
    file = LineFile(path, "new")
    line = "x" * 999
    error = None
    written = 0
    while error is None:
        try:
            file.write(line)
            written += 1
        except SinkError as raised:
            error = raised
    assert "the disk is full" in str(error)
    assert written >= 4
    assert path.read_text() == (line + "\n") * written
    file.write("short")  # what fits goes on where the last whole line ended
    file.close()
    assert path.read_text() == (line + "\n") * written + "short\n"


def test_a_full_disk_leaves_the_old_sidecar_and_no_litter(small_disk: Path) -> None:
    path = small_disk / "t.json"
    write_atomically(path, "old")
    with pytest.raises(SinkError, match="disk is full"):
        write_atomically(path, "x" * 30_000)
    assert path.read_text() == "old"
    assert os.listdir(small_disk) == ["t.json"]


@full_device
def test_a_full_device_is_told_at_the_first_line() -> None:
    file = LineFile(Path("/dev/full"), "new")
    with pytest.raises(SinkError, match=r"^/dev/full: cannot be written \(the disk is full\)"):
        file.write("x")
    file.close()


@full_device
def test_a_full_standard_output_fails_once_and_not_again_at_exit() -> None:
    code = (
        "import sys\n"
        "from realtime_ser.sinks._file import LineStream, SinkError\n"
        "try: LineStream(sys.stdout).write('x')\n"
        "except SinkError as error: sys.exit(str(error))\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "stdout: cannot be written any more (the disk is full)\n")


def test_a_reader_that_went_away_is_told() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, pytest.raises(SinkError, match="cannot be written any more"):
        LineStream(stream).write("x")


@pytest.mark.parametrize("mode", ["new", "overwrite", "append"])
def test_what_is_no_place_for_a_file_is_named(tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").write_text("x\n")
    for path in (tmp_path, tmp_path / "none" / "t", tmp_path / "file" / "t"):
        with pytest.raises(SinkError) as raised:
            LineFile(path, mode)  # type: ignore[arg-type]
        assert str(path) in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.touch(mode=0o400)
    with pytest.raises(SinkError, match="permission denied"):
        LineFile(path, "overwrite")


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"a", b""), (b"a\n" + b"b" * 10_000, b"a\n"), (b"\n", b"\n")],
)
def test_only_what_stands_behind_the_last_line_end_is_cut_off(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(before)
    drop_unfinished_line(path)
    assert path.read_bytes() == after
