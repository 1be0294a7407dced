"""The doctor names each fault with its remedy. What it hears of a real server is tested in tests/live."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from realtime_ser.cli.doctor import Heard, judge

N = 150
QUIET = Heard(np.full(N, -60.0), np.zeros(N, bool), zeros=False, clipped_share=0.0, lost_s=0.0)
SPEECH = Heard(np.full(N, -25.0), np.ones(N, bool), zeros=False, clipped_share=0.0, lost_s=0.0)


def test_a_good_microphone_is_called_good() -> None:
    checks = list(judge(QUIET, SPEECH))
    assert {check.verdict for check in checks} == {"good"}
    assert [check.name for check in checks] == ["gaps", "noise floor", "clipping", "speech", "signal to noise"]
    assert not any(check.remedy for check in checks)


@pytest.mark.parametrize(
    ("quiet", "speech", "name", "verdict"),
    [
        (replace(QUIET, zeros=True), replace(SPEECH, zeros=True), "sound", "faulty"),
        (replace(QUIET, levels_dbfs=np.empty(0)), SPEECH, "sound", "faulty"),
        (QUIET, replace(SPEECH, lost_s=0.5), "gaps", "doubtful"),
        (replace(QUIET, levels_dbfs=np.full(N, -40.0)), SPEECH, "noise floor", "doubtful"),
        (QUIET, replace(SPEECH, clipped_share=0.02), "clipping", "doubtful"),
        (QUIET, replace(SPEECH, speech=np.zeros(N, bool)), "speech", "faulty"),
        (QUIET, replace(SPEECH, levels_dbfs=np.full(N, -48.0)), "speech", "doubtful"),
        (QUIET, replace(SPEECH, levels_dbfs=np.full(N, -48.0)), "signal to noise", "doubtful"),
        (replace(QUIET, levels_dbfs=np.full(N, -28.0)), SPEECH, "signal to noise", "faulty"),
    ],
)
def test_each_fault_is_told_with_a_remedy(quiet: Heard, speech: Heard, name: str, verdict: str) -> None:
    (check,) = (check for check in judge(quiet, speech) if check.name == name)
    assert check.verdict == verdict
    assert check.remedy


def test_without_a_microphone_it_says_so_in_both_forms() -> None:
    command = [sys.executable, "-m", "realtime_ser", "doctor", "-d", "no such thing", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["verdict"] == "faulty"
    assert {"model", "CPU", "microphone"} <= {check["name"] for check in told["checks"]}
    plain = subprocess.run(command[:-1], capture_output=True, text=True, timeout=60)
    assert plain.returncode == 1
    assert "It cannot work like this" in plain.stdout
