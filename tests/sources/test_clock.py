"""A device's clock tells of samples that never came, and of nothing else; the machine's tells of its sleep."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_ser.sources import Lost
from realtime_ser.sources import clock as clocks
from realtime_ser.sources.clock import DeviceClock, SleepWatch, since_boot_s

RATE_HZ = 48_000
BLOCK = 480


def missing(stamps: np.ndarray, arrivals: np.ndarray | None = None, block: int = BLOCK) -> list[int]:
    clock = DeviceClock(RATE_HZ)
    arrivals = stamps + 0.05 if arrivals is None else arrivals
    pushed = (clock.push(*map(float, times), block, overflow=False) for times in zip(stamps, arrivals, strict=True))
    return [lost.samples if lost else 0 for lost in pushed]


@settings(max_examples=50)
@given(ppm=st.floats(-300, 300), jitter_ms=st.floats(0, 60), seed=st.integers(0, 9))
def test_drift_and_jitter_are_no_loss(ppm: float, jitter_ms: float, seed: int) -> None:
    late_s = np.random.default_rng(seed).uniform(0, jitter_ms / 1000, 20_000)
    assert sum(missing(1_000 + np.arange(20_000) * 0.01 * (1 + ppm * 1e-6) + late_s)) == 0


@settings(max_examples=50)
@given(lost_s=st.floats(0.2, 20), at=st.integers(100, 1_000), seed=st.integers(0, 9))
def test_a_loss_is_found_once_and_as_long_as_it_was(lost_s: float, at: int, seed: int) -> None:
    stamps = 1_000 + np.arange(2_000) * 0.01 + np.random.default_rng(seed).uniform(0, 0.02, 2_000)
    stamps[at:] += lost_s
    found = [(i, n) for i, n in enumerate(missing(stamps)) if n]
    assert len(found) == 1
    ((when, samples),) = found
    assert at <= when <= at + 110
    assert abs(samples / RATE_HZ - lost_s) < 0.03


def test_a_sound_server_may_change_its_latency_or_its_guess_of_it() -> None:
    right = 1_000 + np.arange(1_000) * 0.01
    for change_s in (-0.4, 0.4):
        jumped = right + change_s * (np.arange(1_000) >= 300)
        assert sum(missing(right, jumped)) == 0
        assert sum(missing(jumped, right)) == 0


@settings(max_examples=50)
@given(change_s=st.floats(-0.4, 0.4), lost_s=st.floats(0.2, 5), of_arrivals=st.booleans())
def test_a_loss_is_found_after_such_a_change_too(change_s: float, lost_s: float, of_arrivals: bool) -> None:
    lost = 1_000 + np.arange(1_500) * 0.01 + lost_s * (np.arange(1_500) >= 1_000)
    changed = lost + change_s * (np.arange(1_500) >= 300)
    found = sum(missing(lost, changed) if of_arrivals else missing(changed, lost)) / RATE_HZ
    assert abs(found - lost_s) < 0.03


def test_a_host_without_time_stamps_is_believed() -> None:
    assert sum(missing(np.zeros(1_000))) == 0
    clock = DeviceClock(RATE_HZ)
    clock.push(0.0, 0.0, BLOCK, overflow=False)
    lost = clock.push(0.0, 0.0, BLOCK, overflow=True)
    assert lost == Lost(1, "overflow: the machine was too busy")


@settings(max_examples=50)
@given(early=st.sets(st.integers(1, 399)), at_once=st.sets(st.integers(1, 399)), block_s=st.floats(0.01, 0.5))
def test_two_blocks_at_once_are_no_loss(early: set[int], at_once: set[int], block_s: float) -> None:
    # As PulseAudio does through ALSA: what comes with the block before it has its time stamp, or hardly a later one.
    recorded = 1_000 + np.arange(400) * block_s
    stamps, arrivals = recorded.copy(), recorded + 2 * block_s
    for i in sorted(early | at_once):
        arrivals[i] = arrivals[i - 1]
        stamps[i] = stamps[i - 1] if i in early else stamps[i]
    clock = DeviceClock(RATE_HZ)
    blocks = zip(stamps.tolist(), arrivals.tolist(), strict=True)
    assert not any(clock.push(*both, round(block_s * RATE_HZ), overflow=False) for both in blocks)


@settings(max_examples=200)
@given(
    runs=st.lists(st.integers(1, 12), max_size=40),
    corrected_s=st.floats(0, 0.4),
    steps=st.integers(1, 3),
    lost_s=st.just(0.0) | st.floats(0.5, 5),
)
def test_a_server_that_keeps_a_block_for_a_while_loses_nothing(
    runs: list[int], corrected_s: float, steps: int, lost_s: float
) -> None:
    # As PulseAudio does through ALSA, seen in one start of three: at first it corrects its guess of its own latency,
    # and then it keeps a block until the next one, now and then for seconds.
    waits = np.concatenate([np.full(n, i % 2 == 1) for i, n in enumerate((4, *runs, 20))])
    recorded = 1_000 + np.arange(len(waits)) * 0.25
    recorded[-20:] += lost_s
    arrivals = recorded + 0.25 * waits
    stamps = recorded + corrected_s * np.minimum(np.arange(len(waits)) / steps, 1)
    found_s = sum(missing(stamps, arrivals, RATE_HZ // 4)) / RATE_HZ
    assert lost_s - 0.26 < found_s < lost_s + 0.01 if lost_s else found_s == 0


def test_a_clock_on_the_wall_that_is_set_is_no_loss() -> None:
    right = 1_000 + np.arange(1_000) * 0.01
    for change_s in (-3_600, 3_600):
        assert sum(missing(right + change_s * (np.arange(1_000) >= 300), right)) == 0


def test_a_machine_that_is_awake_did_not_sleep() -> None:
    watch = SleepWatch()
    begun = since_boot_s()
    time.sleep(0.05)
    assert 0.05 <= since_boot_s() - begun < 5
    assert watch.push() == 0


def test_a_sleep_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = SleepWatch()
    monkeypatch.setattr(clocks, "since_boot_s", lambda: since_boot_s() + 3_600)  # no test may send a machine to sleep
    assert watch.push() == pytest.approx(3_600, abs=1)
    assert watch.push() == 0


@settings(max_examples=50)
@given(kept_s=st.floats(0, 5), lost_s=st.floats(0, 10), corrected_s=st.floats(-0.3, 0.3), overflow=st.booleans())
def test_what_a_server_kept_while_we_were_away_is_not_missing(
    kept_s: float, lost_s: float, corrected_s: float, overflow: bool
) -> None:
    # Its guess of its own latency was corrected before; then nothing comes for a while, then what it kept, at once.
    kept = round(kept_s / 0.01)
    n = np.arange(2_000)
    recorded = 1_000 + n * 0.01 + lost_s * (n >= 500 + kept)
    stamps = recorded + corrected_s * (n >= 30)
    arrivals = np.where((n >= 500) & (n < 500 + kept), 1_000 + lost_s + (500 + kept) * 0.01, recorded)
    clock = DeviceClock(RATE_HZ)
    times = zip(stamps.tolist(), arrivals.tolist(), strict=True)
    found = [clock.push(*both, BLOCK, overflow and i == 500) for i, both in enumerate(times)]
    missing_s = sum(lost.samples for lost in found if lost) / RATE_HZ
    # Less than what counts as a jump, of which an overflow has told one sample, may stay unknown, but what was not lost
    # is never missing.
    assert (lost_s if lost_s > 0.1 + 1 / RATE_HZ else 0) - 0.02 < missing_s < lost_s + 0.02
