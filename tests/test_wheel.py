"""What is built: the same wheel whoever builds it, wherever and whenever; what it and the source archive hold."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
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


@pytest.mark.slow
def test_the_models_licences_are_told_and_the_source_archive_holds_what_the_documents_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", tmp_path]
    subprocess.run(command, cwd=SOURCE, check=True, capture_output=True, timeout=120)
    (wheel,), (archive,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        about = Parser().parsestr(file.read(metadata).decode())
    models = sorted(path.name for path in (SOURCE / "models").iterdir())
    assert about["License-Expression"] == " AND ".join(["MIT", *(f"LicenseRef-{name}" for name in models)])
    assert about.get_all("License-File") == ["LICENSE", *(f"models/{name}/card.md" for name in models)]
    assert "realtime_ser/py.typed" in names
    with tarfile.open(archive) as file:
        held = {name.split("/", 1)[1] for name in file.getnames()}
    named = "CHANGELOG.md LICENSE Makefile README.md SECURITY.md noxfile.py pyproject.toml requirements-dev.txt .ci/run"
    assert held >= {*named.split(), "docs/events.md", "tests/test_wheel.py", "tools/train.py", "benchmarks/replay.py"}
