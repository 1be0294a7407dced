"""Log-mel frames equal librosa's, whatever the block sizes."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime_ser._librosa import load_librosa
from realtime_ser.errors import SettingsError
from realtime_ser.stages.features import FeatureExtractor, FeatureSettings, mel_filterbank

RNG = np.random.default_rng(0)
Demo = tuple[NDArray[np.int16], int]


def impulse() -> NDArray[np.float32]:
    samples = np.zeros(16_000, np.float32)
    samples[8_000] = 1
    return samples


@pytest.fixture(scope="module")
def signals(demo: Demo) -> dict[str, NDArray[np.float32]]:
    samples, rate_hz = demo
    speech = soxr.resample(samples[2 * rate_hz : 6 * rate_hz] / 32768, rate_hz, 16_000)
    return {
        "speech": speech.astype(np.float32),
        "noise": RNG.uniform(-1, 1, 20_000).astype(np.float32),
        "silence": np.zeros(16_000, np.float32),
        "impulse": impulse(),
    }


def reference(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    s = FeatureSettings()
    librosa = load_librosa()
    power = librosa.feature.melspectrogram(
        y=samples, sr=16_000, n_fft=s.frame_samples, hop_length=s.hop_samples, center=False,
        n_mels=s.n_mels, fmin=s.fmin_hz, fmax=s.fmax_hz,
    )  # fmt: skip
    return librosa.power_to_db(power, top_db=None).T


def streamed(samples: NDArray[np.float32], cuts: list[int]) -> NDArray[np.float32]:
    extractor = FeatureExtractor()
    frames = [extractor.push(part) for part in np.split(samples, sorted(cuts))]
    return np.concatenate([*frames, extractor.flush()])


@pytest.mark.parametrize("name", ["speech", "noise", "silence", "impulse"])
def test_frames_equal_librosas(signals: dict[str, NDArray[np.float32]], name: str) -> None:
    samples = signals[name]
    np.testing.assert_allclose(streamed(samples, [777, 5_001]), reference(samples), rtol=0, atol=1e-4)


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=60))
def test_blocks_do_not_change_a_bit(cuts: list[int]) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 20_000).astype(np.float32)
    np.testing.assert_array_equal(streamed(samples, cuts), streamed(samples, []))


def test_push_gives_whole_blocks_and_flush_the_rest_and_forgets() -> None:
    extractor = FeatureExtractor(block_frames=16)
    assert len(extractor.push(np.zeros(4_261, np.float32))) == 0
    assert len(extractor.push(np.zeros(1, np.float32))) == 16
    assert len(extractor.push(np.zeros(1_000, np.float32))) == 0
    assert len(extractor.flush()) == 4
    assert len(extractor.flush()) == 0


@pytest.mark.parametrize(
    ("n_fft", "n_mels", "fmin", "fmax"), [(400, 64, 50, 7600), (512, 40, 0, 8000), (2048, 128, 20, 8000)]
)
def test_filterbank_equals_librosas(n_fft: int, n_mels: int, fmin: float, fmax: float) -> None:
    expected = load_librosa().filters.mel(sr=16_000, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    np.testing.assert_allclose(mel_filterbank(16_000, n_fft, n_mels, fmin, fmax), expected, atol=1e-7)


@pytest.mark.parametrize("hz", [300, 1_000, 3_000])
def test_a_tone_is_loudest_in_its_own_band(hz: int) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(8_000) / 16_000).astype(np.float32)
    filters = mel_filterbank(16_000, 400, 64, 50, 7600)
    loudest = int(FeatureExtractor().push(tone)[0].argmax())
    inside = np.flatnonzero(filters[loudest]) * 40
    assert inside.min() - 40 <= hz <= inside.max() + 40


def test_too_many_bands_are_refused() -> None:
    with pytest.raises(SettingsError, match="empty"):
        mel_filterbank(16_000, 256, 128, 0, 8_000)
