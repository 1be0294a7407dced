"""Streaming equals one-shot; strange samples become silence."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from realtime_ser.errors import SettingsError
from realtime_ser.stages.resample import Resampler, to_float32

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("block", [1_000, 44_101])
def test_streaming_equals_one_shot_soxr(rate_hz: int, block: int) -> None:
    samples = RNG.uniform(-0.5, 0.5, rate_hz).astype(np.float32)
    resampler = Resampler(rate_hz, 1)
    pieces = [resampler.push(samples[i : i + block, None]) for i in range(0, len(samples), block)]
    streamed = np.concatenate([*pieces, resampler.flush()])
    whole = soxr.resample(samples, rate_hz, 16_000)
    assert abs(len(streamed) - 16_000) <= 1
    n = min(len(streamed), len(whole))
    np.testing.assert_allclose(streamed[:n], whole[:n], atol=1e-5)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_results_do_not_depend_on_blocks_to_the_last_bit(rate_hz: int) -> None:
    samples = RNG.uniform(-1, 1, (rate_hz // 2, 2)).astype(np.float32)
    outputs = []
    for block in (1, 37, 5_000, 10**6):
        resampler = Resampler(rate_hz, 2)
        pieces = [resampler.push(samples[i : i + block]) for i in range(0, len(samples), block)]
        outputs.append(np.concatenate([*pieces, resampler.flush()]))
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_channels_are_averaged(channels: int) -> None:
    block = RNG.uniform(-1, 1, (1_600, channels)).astype(np.float32)
    resampler = Resampler(16_000, channels)
    out = np.concatenate((resampler.push(block), resampler.flush()))
    np.testing.assert_allclose(out, block.mean(axis=1), atol=1e-6)


def test_nan_and_infinity_become_silence_and_are_counted() -> None:
    block = np.full((1_600, 1), 0.5, np.float32)
    block[[3, 700, 1_599]] = np.array([[np.nan], [np.inf], [-np.inf]], np.float32)
    resampler = Resampler(16_000, 1)
    out = np.concatenate((resampler.push(block), resampler.flush()))
    assert np.isfinite(out).all()
    assert sum(bad.count for bad in resampler.bad) == 3
    np.testing.assert_array_equal(np.flatnonzero(out == 0), [3, 700, 1_599])


@pytest.mark.parametrize("size", [1, 500, 10**6])
def test_what_is_clipped_is_counted_before_channels_are_mixed(size: int) -> None:
    block = np.zeros((48_000, 2), np.float32)
    block[100:130, 0] = 1
    block[120:140, 1] = -1  # of which half at the same time
    block[2_000:2_003, 1] = np.inf
    resampler = Resampler(48_000, 2)
    for i in range(0, len(block), size):
        resampler.push(block[i : i + size])
    resampler.flush()
    assert [(noted.at, noted.count) for noted in resampler.clipped] == [(320, 40)]
    assert [(noted.at, noted.count) for noted in resampler.bad] == [(960, 3)]


def test_reset_forgets() -> None:
    samples = RNG.uniform(-1, 1, (4_800, 1)).astype(np.float32)
    resampler = Resampler(48_000, 1)
    first = resampler.push(samples)
    resampler.reset()
    np.testing.assert_array_equal(resampler.push(samples), first)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float64), [-1, 0, 0.5]),
    ],
)
def test_every_width_has_the_same_full_scale(block: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_array_equal(to_float32(block)[:, 0], np.array(expected, np.float32))


@pytest.mark.parametrize("block", [np.zeros(3, complex), np.zeros((2, 2, 2)), np.zeros((4, 0)), np.array(["a"])])
def test_what_is_no_audio_is_refused(block: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="audio"):
        to_float32(block)


@pytest.mark.parametrize("rate_hz", [0, -1, 3_999, 10**7])
def test_impossible_rates_are_refused(rate_hz: int) -> None:
    with pytest.raises(SettingsError, match="rate"):
        Resampler(rate_hz, 1)
