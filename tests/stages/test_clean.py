"""What is below a voice goes, a voice stays, and silence stays digital."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from realtime_ser.settings import RATE_HZ, CleanSettings
from realtime_ser.stages.clean import CUTOFF_HZ, Cleaner

NOISE = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)


def level_db(samples: np.ndarray) -> float:
    return 20 * float(np.log10(samples.std()))


def test_the_high_pass_is_scipys() -> None:
    expected = sosfilt(butter(2, CUTOFF_HZ, "high", fs=RATE_HZ, output="sos"), NOISE + 0.3)
    np.testing.assert_allclose(Cleaner().push(NOISE + np.float32(0.3)), expected, atol=1e-6)


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, len(NOISE)), max_size=20), denoise=st.booleans())
def test_blocks_do_not_change_a_bit(cuts: list[int], denoise: bool) -> None:
    if denoise:
        pytest.importorskip("pywebrtc_audio")
    cleaner, whole = Cleaner(CleanSettings(denoise)), Cleaner(CleanSettings(denoise))
    parts = [cleaner.push(part) for part in np.split(NOISE, sorted(cuts))]
    assert np.concatenate(parts).tobytes() == whole.push(NOISE).tobytes()


def test_a_bias_and_rumble_go_and_a_low_voice_stays() -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    heard = {hz: Cleaner().push(np.sin(2 * np.pi * hz * t).astype(np.float32))[RATE_HZ:] for hz in (10, 85)}
    assert level_db(heard[10]) < -23
    assert level_db(heard[85]) > -3.5
    bias = Cleaner().push(np.full(RATE_HZ, 0.5, np.float32))
    assert np.abs(bias[RATE_HZ // 2 :]).max() < 1e-6


def test_zeros_stay_zeros() -> None:
    clean = Cleaner().push(np.concatenate((NOISE, np.zeros(RATE_HZ, np.float32))))
    assert not clean[RATE_HZ:].any()


def test_noise_is_suppressed_on_request() -> None:
    pytest.importorskip("pywebrtc_audio")
    noise = np.tile(NOISE, 5)
    clean = Cleaner(CleanSettings(denoise=True)).push(noise)
    assert level_db(clean[-RATE_HZ:]) < level_db(noise) - 6
