"""The recording behind a timeline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from realtime_ser.errors import SettingsError
from realtime_ser.sources.demo import demo_path
from realtime_ser.timeline.read import Timeline
from realtime_ser.timeline.sound import listen
from realtime_ser.timeline.still import draw_still

LOADED = "from realtime_ser._librosa import load_librosa; load_librosa()"


@pytest.mark.slow
def test_first_reports_at_the_same_time_leave_librosa_usable(tmp_path: Path) -> None:
    # Without the lock the third crashes in every other run of this test.
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", LOADED], env=environment) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    subprocess.run([sys.executable, "-c", LOADED], env=environment, check=True)


def test_without_matplotlib_one_line_says_what_to_install(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (lambda: listen(demo_path(), timeline), lambda: draw_still(timeline, tmp_path / "still.png", None)):
        with pytest.raises(SettingsError, match=r"matplotlib is not installed: pip install 'realtime-ser\[report\]'"):
            draw()
