"""The recording behind a timeline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = "from realtime_ser._librosa import load_librosa; load_librosa()"


@pytest.mark.slow
def test_first_reports_at_the_same_time_leave_librosa_usable(tmp_path: Path) -> None:
    # Without the lock the third crashes in every other run of this test.
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", LOADED], env=environment) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    subprocess.run([sys.executable, "-c", LOADED], env=environment, check=True)
