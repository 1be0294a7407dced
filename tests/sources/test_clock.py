"""A device's clock tells of samples that never came, and of nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_ser.sources.clock import DeviceClock

RATE_HZ = 48_000
BLOCK = 480


def missing(stamps: np.ndarray) -> list[int]:
    clock = DeviceClock(RATE_HZ)
    return [clock.push(float(stamp), BLOCK, overflow=False) for stamp in stamps]


@settings(max_examples=50, deadline=None)
@given(ppm=st.floats(-300, 300), jitter_ms=st.floats(0, 60), seed=st.integers(0, 9))
def test_drift_and_jitter_are_no_loss(ppm: float, jitter_ms: float, seed: int) -> None:
    late_s = np.random.default_rng(seed).uniform(0, jitter_ms / 1000, 20_000)
    assert sum(missing(1_000 + np.arange(20_000) * 0.01 * (1 + ppm * 1e-6) + late_s)) == 0


@settings(max_examples=50, deadline=None)
@given(lost_s=st.floats(0.2, 20), at=st.integers(100, 1_000), seed=st.integers(0, 9))
def test_a_loss_is_found_once_and_as_long_as_it_was(lost_s: float, at: int, seed: int) -> None:
    stamps = 1_000 + np.arange(2_000) * 0.01 + np.random.default_rng(seed).uniform(0, 0.02, 2_000)
    stamps[at:] += lost_s
    found = [(i, n) for i, n in enumerate(missing(stamps)) if n]
    assert len(found) == 1
    ((when, samples),) = found
    assert at <= when <= at + 110
    assert abs(samples / RATE_HZ - lost_s) < 0.03


def test_a_host_without_time_stamps_is_believed() -> None:
    assert sum(missing(np.zeros(1_000))) == 0
    clock = DeviceClock(RATE_HZ)
    clock.push(0.0, BLOCK, overflow=False)
    assert clock.push(0.0, BLOCK, overflow=True) == 1
