"""Each fault of the input is told once it is sure, and not again and again."""

from __future__ import annotations

import numpy as np
import pytest

from realtime_ser.events import Warning
from realtime_ser.session import Session
from realtime_ser.stages.gate import SILENCE_DBFS
from realtime_ser.stages.model import Model
from realtime_ser.stages.monitor import InputMonitor, doubt

SECOND = 50
"""Frames."""


def codes(levels_dbfs: list[float], clipped: float = 0) -> list[str]:
    """What is told of these frames, and the same when they come one by one."""
    told = InputMonitor().push(levels_dbfs, [clipped] * len(levels_dbfs))
    monitor = InputMonitor()
    singly = [(i, n) for i, level in enumerate(levels_dbfs) for _, n in monitor.push([level], [clipped])]
    assert singly == told
    return [notice.code for _, notice in told]


def test_two_seconds_of_zeros_are_told_once_and_again_after_a_minute() -> None:
    zeros, voice = SILENCE_DBFS, -20.0
    assert codes([zeros] * (2 * SECOND - 1)) == []
    assert codes([zeros] * (30 * SECOND)) == ["silent_zeros"]
    spells = ([zeros] * (3 * SECOND) + [voice] * SECOND) * 20  # 80 s
    assert codes(spells) == ["silent_zeros"] * 2


def test_clipping_counts_by_the_second() -> None:
    assert codes([-1.0] * SECOND, clipped=0.1) == ["clipped"]
    assert codes([-1.0] * (5 * SECOND), clipped=0.005) == []


@pytest.mark.parametrize(("level_dbfs", "snr_db", "code"), [(-55.0, 20.0, "too_quiet"), (-20.0, 5.0, "too_noisy")])
def test_quiet_or_noisy_speech_is_told_after_five_seconds(level_dbfs: float, snr_db: float, code: str) -> None:
    monitor = InputMonitor()
    told = [[n.code for n in monitor.speech(level_dbfs, snr_db)] for _ in range(100)]
    assert told.index([code]) == 19
    assert sum(map(len, told)) == 1


def test_speech_about_the_bound_is_no_flood() -> None:
    monitor = InputMonitor()
    told = [n for k in range(1_000) for n in monitor.speech(-51.0 if k % 50 else -49.0, 20.0)]
    assert len(told) == 1


def test_a_session_tells_of_quiet_speech(model: Model, demo: tuple[np.ndarray, int]) -> None:
    samples, rate_hz = demo
    session = Session(model)
    quiet = samples.astype(np.float32) / 32768 * 0.01
    events = session.push(quiet, rate_hz) + session.flush()
    assert [e.code for e in events if isinstance(e, Warning)] == ["too_quiet"]
    session = Session(model)
    events = session.push(samples, rate_hz) + session.flush()
    assert not [e for e in events if isinstance(e, Warning)]


def test_a_long_session_of_one_emotion_is_doubted_but_not_of_neutral() -> None:
    told = doubt({"neutral": 0.02, "angry": 0.95}, 700)
    assert told is not None
    assert told.message == "angry in 95% of all speech so far"
    assert doubt({"neutral": 0.95, "angry": 0.02}, 700) is None
    assert doubt({"neutral": 0.02, "angry": 0.95}, 500) is None
    assert doubt({"neutral": 0.2, "angry": 0.8}, 700) is None
