"""Log-mel frames from the samples of a speech segment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.settings import RATE_HZ

POWER_FLOOR = 1e-10
"""Mel power below this counts as this: -100 dB (librosa's `power_to_db` default)."""


@dataclass(frozen=True)
class FeatureSettings:
    """How frames are made. Part of a model's contract: a model only fits the frames it was trained on."""

    frame_samples: int = 512
    """32 ms; also the FFT length."""
    hop_samples: int = 250
    """15.6 ms: 16 to a hop of 0.25 s."""
    n_mels: int = 64
    fmin_hz: float = 50.0
    fmax_hz: float = 7600.0


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear (200/3 Hz per mel) up to 1 kHz, then 27 log steps per factor of 6.4."""
    linear = hz * 3 / 200
    with np.errstate(divide="ignore"):
        logarithmic = 15 + np.log(hz / 1000) * 27 / np.log(6.4)
    return np.where(hz < 1000, linear, logarithmic)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_filterbank(rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float) -> NDArray[np.float32]:
    """Triangular mel filters, Slaney's scale, each of unit area.

    Returns
    -------
    ndarray of float32, shape (n_mels, 1 + n_fft // 2)
        Multiply a power spectrum by its transpose to get mel energies.

    Raises
    ------
    SettingsError
        If a filter would be empty: too many bands for this `n_fft`.

    Source: Slaney, Auditory Toolbox (1998); equal to `librosa.filters.mel` (tests/stages/test_features.py).
    """
    bins_hz = np.fft.rfftfreq(n_fft, 1 / rate_hz)
    low, high = _hz_to_mel(np.array([fmin_hz, fmax_hz]))
    edges_hz = _mel_to_hz(np.linspace(low, high, n_mels + 2))
    ramps = (bins_hz[None, :] - edges_hz[:, None]) / np.diff(edges_hz, append=np.inf)[:, None]
    weights = np.maximum(0, np.minimum(ramps[:-2], 1 - ramps[1:-1]))
    weights *= (2 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    empty = np.flatnonzero(weights.max(axis=1) == 0)
    if empty.size:
        raise SettingsError(f"mel band {empty[0]} of {n_mels} is empty", f"use fewer bands or an n_fft above {n_fft}")
    return weights.astype(np.float32)


def overlapping(values: NDArray[Any], length: int, hop: int) -> NDArray[Any]:
    """All whole stretches of `length` that begin every `hop` in a contiguous 1-D array, as a view, (n, length).

    As NumPy's sliding_window_view, whose checks take longer than the FFT of one frame does.
    """
    n = (len(values) - length) // hop + 1
    return np.ndarray((n, length), values.dtype, values, 0, (hop * values.itemsize, values.itemsize))


@cache
def _hann(n: int) -> NDArray[np.float64]:
    """Periodic, as `scipy.signal.get_window("hann", n)`; the same for all streams."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


class FeatureExtractor:
    """Samples of the open segment → log-mel frames in dB, one every hop.

    Frames are computed in blocks of `block_frames` counted from the segment's first sample, so the caller's block
    sizes cannot change even the last bit of a result. The spectrum is computed in float64, as librosa does: a band
    100 dB below its neighbour is beyond float32.

    Parameters
    ----------
    settings
        Frame length, hop and bands.
    filterbank
        float32, shape (n_mels, 1 + frame_samples // 2); by default made from the settings.
    block_frames
        `push` gives whole blocks of so many frames.
    """

    _pending: list[NDArray[np.float32]]
    _pending_samples: int

    def __init__(
        self,
        settings: FeatureSettings | None = None,
        filterbank: NDArray[np.float32] | None = None,
        block_frames: int = 16,
    ) -> None:
        self._settings = s = settings or FeatureSettings()
        if filterbank is None:
            filterbank = mel_filterbank(RATE_HZ, s.frame_samples, s.n_mels, s.fmin_hz, s.fmax_hz)
        self._filters = np.ascontiguousarray(filterbank.T)
        self._taper = _hann(s.frame_samples)
        self._block_frames = block_frames
        self.block_samples = block_frames * s.hop_samples
        """`push` gives a block more for so many samples more."""
        self._none = np.empty((0, s.n_mels), np.float32)
        self._span_samples = s.frame_samples + (block_frames - 1) * s.hop_samples
        self.reset()

    @property
    def missing_samples(self) -> int:
        """With so many more, `push` gives a block."""
        return self._span_samples - self._pending_samples

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give float32 samples of shape (n,); get the whole blocks now ready, shape (k * block_frames, n_mels)."""
        self._pending.append(samples)
        self._pending_samples += len(samples)
        if self._pending_samples < self._span_samples:
            return self._none
        pending = np.concatenate(self._pending)
        n_blocks = 1 + (len(pending) - self._span_samples) // self.block_samples
        start = n_blocks * self.block_samples
        self._pending = [pending[start:].copy()]
        self._pending_samples -= start
        return self._frames(pending[: start - self.block_samples + self._span_samples])

    def flush(self) -> NDArray[np.float32]:
        """End of the segment: the frames that still fit, shape (fewer than block_frames, n_mels)."""
        pending = np.concatenate((np.empty(0, np.float32), *self._pending))
        self.reset()
        return self._frames(pending) if len(pending) >= self._settings.frame_samples else self._none

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._pending = []
        self._pending_samples = 0

    def _frames(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        s = self._settings
        framed = overlapping(samples, s.frame_samples, s.hop_samples)
        spectrum = np.fft.rfft(framed * self._taper, axis=1).astype(np.complex64)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        # Block by block: a product of more rows may add in another order.
        blocks = [power[i : i + self._block_frames] @ self._filters for i in range(0, len(power), self._block_frames)]
        mel = np.concatenate(blocks)
        return (10.0 * np.log10(np.maximum(mel, POWER_FLOOR))).astype(np.float32)
