"""What is done to recordings does what it says: levels, ratios, bands, lengths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pyroomacoustics", reason="rooms belong to the [train] extra")

from tools import degrade

RATE_HZ = 16_000


@pytest.fixture
def voice() -> NDArray[np.float32]:
    """A second and a half of a buzz that swells, float32 of odd length."""
    t = np.arange(24_001) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 50))
    return (0.1 * buzz * np.hanning(len(t))).astype(np.float32)


def power_db(samples: NDArray[np.float32]) -> float:
    return 10 * float(np.log10(np.mean(np.square(samples.astype(np.float64)))))


def band_power_db(samples: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    return 10 * float(np.log10(spectrum[(hz >= low_hz) & (hz < high_hz)].sum()))


@pytest.mark.parametrize("snr_db", [20.0, 0.0])
def test_noise_has_the_ratio_asked_for(voice: NDArray[np.float32], snr_db: float) -> None:
    noise = degrade.white_noise(5_000, np.random.default_rng(0))  # shorter than the voice: repeated
    added = degrade.add_noise(voice, noise, snr_db) - voice
    assert power_db(voice) - power_db(added) == pytest.approx(snr_db, abs=0.3)


@pytest.mark.parametrize("gain_db", [-12, 60])
def test_nothing_limits_a_gain(voice: NDArray[np.float32], gain_db: float) -> None:
    assert power_db(degrade.gain(voice, gain_db)) == pytest.approx(power_db(voice) + gain_db, abs=1e-3)


def test_what_is_turned_up_too_far_is_limited_at_full_scale(voice: NDArray[np.float32]) -> None:
    assert np.abs(degrade.overdrive(voice, 60)).max() == 1


def test_clipping_cuts_the_peaks_alone(voice: NDArray[np.float32]) -> None:
    clipped = degrade.clip_peaks(voice, 6)
    limit = np.abs(voice).max() / 2
    assert np.abs(clipped).max() == pytest.approx(limit, rel=0.01)
    quiet = np.abs(voice) < limit * 0.99
    np.testing.assert_array_equal(clipped[quiet], voice[quiet])


@pytest.mark.parametrize("line", [degrade.telephone, degrade.mobile])
def test_lines_carry_the_telephone_band(
    voice: NDArray[np.float32], line: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    heard = line(voice)
    assert band_power_db(heard, 400, 3000) == pytest.approx(band_power_db(voice, 400, 3000), abs=3)
    assert band_power_db(heard, 4200, 7900) < band_power_db(voice, 4200, 7900) - 20


def test_tilt_and_room_keep_the_power(voice: NDArray[np.float32]) -> None:
    tilted = degrade.tilt(voice, 3)
    assert power_db(tilted) == pytest.approx(power_db(voice), abs=0.5)
    slope_db = band_power_db(tilted, 1900, 2100) - band_power_db(tilted, 950, 1050)
    was_db = band_power_db(voice, 1900, 2100) - band_power_db(voice, 950, 1050)
    assert slope_db - was_db == pytest.approx(3, abs=0.3)
    room = degrade.impulse_response(np.random.default_rng(0))
    assert power_db(degrade.reverberate(voice, room)) == pytest.approx(power_db(voice), abs=0.5)


def test_all_that_keeps_time_keeps_the_length(voice: NDArray[np.float32]) -> None:
    room = degrade.impulse_response(np.random.default_rng(0))
    results = [
        degrade.telephone(voice), degrade.mobile(voice), degrade.voice_message(voice), degrade.tilt(voice, -3),
        degrade.filter_band(voice, high_hz=2000), degrade.clip_peaks(voice, 3), degrade.reverberate(voice, room),
    ]  # fmt: skip
    for result in results:
        assert result.dtype == np.float32
        assert len(result) == len(voice)
        assert np.isfinite(result).all()


def test_speed_moves_pitch_and_length(voice: NDArray[np.float32]) -> None:
    fast = degrade.change_speed(voice, 1.25)
    assert len(fast) == pytest.approx(len(voice) / 1.25, abs=2)
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast)), RATE_HZ))
    assert int(spectrum[60:300].argmax()) + 60 == pytest.approx(150, abs=2)


@pytest.mark.parametrize("line", [degrade.telephone, degrade.mobile, degrade.voice_message])
def test_a_line_limits_what_is_beyond_full_scale(
    voice: NDArray[np.float32], line: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    too_loud = voice / np.abs(voice).max() * 1e6  # once crashed the process
    assert np.abs(line(too_loud)).max() < 2


@pytest.mark.parametrize("number", range(6))
def test_a_cough_bursts_and_dies_away(number: int) -> None:
    cough = degrade.cough(np.random.default_rng(number))
    assert cough.shape == (RATE_HZ // 2,)
    assert np.abs(cough).max() == 1
    assert np.abs(cough).argmax() < 0.05 * RATE_HZ
    assert power_db(cough[-RATE_HZ // 20 :]) < power_db(cough[: RATE_HZ // 20]) - 20


def test_most_coughs_end_with_a_voice() -> None:
    """Whose spectrum has lines, as breath's has not."""
    voiced = 0
    for number in range(12):
        end = degrade.cough(np.random.default_rng(number))[RATE_HZ * 5 // 16 : RATE_HZ * 7 // 16].astype(np.float64)
        spectrum = np.abs(np.fft.rfft(end * np.hanning(len(end)), 8 * len(end)))
        voiced += spectrum.max() > 8 * np.median(spectrum[: len(spectrum) // 4])
    assert 4 <= voiced < 12
