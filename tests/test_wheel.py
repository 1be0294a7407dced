"""The wheel: the same bytes whoever builds it, wherever and whenever."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="builds the wheel without network")

SOURCE = Path(__file__).resolve().parents[1]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "realtime_ser", "models")


def built(folder: Path, mtime_s: int, zone: str, seed: str) -> str:
    """The SHA-256 of the wheel that a copy of the source in this folder gives."""
    folder.mkdir(parents=True)
    for part in PARTS:
        if (SOURCE / part).is_dir():
            shutil.copytree(SOURCE / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(SOURCE / part, folder)
    for path in folder.rglob("*"):
        os.utime(path, (mtime_s, mtime_s))
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1577836800", "TZ": zone, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=120)
    (wheel,) = (folder / "out").glob("*.whl")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.slow
def test_two_builds_in_other_places_at_other_times_are_equal(tmp_path: Path) -> None:
    first = built(tmp_path / "a", 1_000_000_000, "UTC", "1")
    assert first == built(tmp_path / "elsewhere" / "b", 1_700_000_000, "Asia/Tokyo", "2")
