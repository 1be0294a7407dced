"""Where a session begins anew is told by the samples around it alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime_ser.settings import RestSettings
from realtime_ser.stages.rest import RestFinder

RATE_HZ = 8_000
SETTINGS = RestSettings(every_s=4)


def sound(loud: list[bool], rng: np.random.Generator, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """A quarter of a second each: steady noise, or noise that comes and goes as speech does. Shape (n, 1)."""
    quarter = rate_hz // 4
    swell = 1 + 20 * np.abs(np.sin(np.arange(quarter) / rate_hz * 2 * np.pi * 3))
    parts = [rng.standard_normal(quarter) * 0.01 * (swell if each else 1) for each in loud]
    return np.concatenate(parts).astype(np.float32)[:, None]


def rests(
    samples: NDArray[np.float32], cuts: Sequence[int] = (), begun_s: float = 0.0, rested: bool = False
) -> list[float]:
    """In seconds, however the samples are cut into blocks."""
    finder = RestFinder(SETTINGS, RATE_HZ, begun_s, rested)
    first = round(begun_s * RATE_HZ)
    at, found = first, []
    for start, end in pairwise([first, *sorted(cut for cut in cuts if cut > first), len(samples)]):
        block = samples[start:end]
        while len(block):
            before = finder.push(block)
            at += len(block[:before])
            block = block[len(block[:before]) :]
            if before is not None:
                found.append(at / RATE_HZ)
    return found


def test_the_first_pause_of_each_period_but_the_first() -> None:
    loud = [True] * 64
    for quarter in (4, 5, 6, 7, 20, 21, 22, 23, 24, 25, 28, 29, 30, 31, 50, 51, 52, 53):
        loud[quarter] = False  # pauses at 1, 5 to 6.5, 7 and 12.5 s
    assert rests(sound(loud, np.random.default_rng(0))) == [6.0, 13.5]


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.1])
def test_silence_and_steady_noise_are_pauses(level: float) -> None:
    noise = np.random.default_rng(0).standard_normal((8 * RATE_HZ, 1)).astype(np.float32)
    assert rests(noise * np.float32(level)) == [5.0]


def test_no_pause_no_rest_and_no_number_is_none() -> None:
    assert not rests(sound([True] * 48, np.random.default_rng(0)))
    assert not rests(np.full((8 * RATE_HZ, 1), np.nan, np.float32))


@given(st.lists(st.booleans(), min_size=20, max_size=90), st.lists(st.integers(0, 90 * RATE_HZ // 4), max_size=20))
def test_blocks_change_nothing(loud: list[bool], cuts: list[int]) -> None:
    samples = sound(loud, np.random.default_rng(0))
    assert rests(samples, [cut for cut in cuts if cut < len(samples)]) == rests(samples)


@given(st.lists(st.booleans(), min_size=40, max_size=90), st.integers(1, 4))
def test_who_begins_at_a_period_or_at_a_rest_finds_the_same_rests(loud: list[bool], period: int) -> None:
    samples = sound(loud, np.random.default_rng(0))
    found = rests(samples)
    start = float(SETTINGS.every_s * period)
    if start < len(samples) / RATE_HZ:
        # A rest at the very start of a period belongs to the one before.
        assert rests(samples, begun_s=start) == [at for at in found if at > start]
    for at in found:
        assert rests(samples, begun_s=at, rested=True) == [other for other in found if other > at]


def test_a_rate_without_quarters_rests_at_whole_seconds() -> None:
    finder = RestFinder(SETTINGS, 11_025)
    assert finder.push(np.zeros((20 * 11_025, 1), np.float32)) == 5 * 11_025
