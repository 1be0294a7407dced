"""How surely is a frame speech? A small network on 0.5 s of spectrum, for what webrtcvad lets through."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.features import POWER_FLOOR, mel_filterbank, overlapping
from realtime_ser.stages.model import open_session

FRAME_SAMPLES = RATE_HZ // 50
"""20 ms: the longest frame but one that webrtcvad takes."""
BANDS = 32
CONTEXT_FRAMES = 25
_BLOCK_FRAMES = 5
_FLOOR_BLOCKS = 20


def detector_path() -> Path:
    """Where the network lies (made by `tools/train_gate.py`)."""
    return Path(__file__).parent.parent / "data" / "gate.onnx"


@lru_cache(maxsize=1)
def _session() -> onnxruntime.InferenceSession:
    return open_session(detector_path(), ours=True)[0]


class SpectrumContext:
    """20 ms frames → what the network hears: the last 25 mel spectra above the level's and above each band's floor.

    Both are differences in dB, so a gain changes nothing as long as the room is above -75 dBFS and each band of it
    above -100 dB. Whatever number of frames is pushed at once, each goes through the same arithmetic: products are
    stacked, as one of another shape would round differently.
    """

    _last: NDArray[np.float32]
    _rows: NDArray[np.float32]
    _floors: NDArray[np.float64]
    _floor_db: NDArray[np.float64]
    _block: NDArray[np.float64]
    _in_block: int
    _next: int

    def __init__(self) -> None:
        self._taper = np.hanning(2 * FRAME_SAMPLES + 1)[:-1]
        filters = mel_filterbank(RATE_HZ, 2 * FRAME_SAMPLES, BANDS, 60, 7600).astype(np.float64)
        self._filters = np.ascontiguousarray(filters.T) / self._taper.sum()
        self.reset()

    def push(self, frames: NDArray[np.float32], floors_dbfs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Give frames, float32 of shape (n, 320), and the noise floor of the level at each; get contexts (n, 1600)."""
        if not len(frames):
            return np.empty((0, CONTEXT_FRAMES * 2 * BANDS), np.float32)
        samples = np.concatenate((self._last, frames.reshape(-1)))
        self._last = samples[-FRAME_SAMPLES:]
        spectrum = np.fft.rfft(overlapping(samples, 2 * FRAME_SAMPLES, FRAME_SAMPLES) * self._taper)
        power = ((np.square(spectrum.real) + np.square(spectrum.imag))[:, None, :] @ self._filters)[:, 0]
        mel_db = 10 * np.log10(np.maximum(power, POWER_FLOOR))
        band_floors_db = np.empty_like(mel_db)
        for i, frame_power in enumerate(power):
            self._follow(frame_power)
            band_floors_db[i] = self._floor_db
        above_band = mel_db - np.minimum(band_floors_db, mel_db)
        new = np.concatenate((mel_db - floors_dbfs[:, None], above_band), axis=1, dtype=np.float32)
        rows = np.concatenate((self._rows, new))
        self._rows = rows[len(new) :]
        return overlapping(rows.reshape(-1), CONTEXT_FRAMES * 2 * BANDS, 2 * BANDS)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._last = np.zeros(FRAME_SAMPLES, np.float32)
        self._floors = np.full((_FLOOR_BLOCKS, BANDS), np.inf)
        self._floor_db = np.full(BANDS, np.inf)
        self._block = np.zeros(BANDS)
        self._in_block = self._next = 0
        self._rows = np.zeros((CONTEXT_FRAMES - 1, 2 * BANDS), np.float32)

    def _follow(self, power: NDArray[np.float64]) -> None:
        """Each band's floor is its quietest block of the last 2 s."""
        self._block += power
        self._in_block += 1
        if self._in_block == _BLOCK_FRAMES:
            self._floors[self._next] = 10 * np.log10(np.maximum(self._block / _BLOCK_FRAMES, POWER_FLOOR))
            self._next = (self._next + 1) % _FLOOR_BLOCKS
            self._floor_db = self._floors.min(axis=0)
            self._block[:] = 0
            self._in_block = 0


def speech_probability(contexts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each frame, shape (n,), from what `SpectrumContext.push` gives."""
    (probability,) = _session().run(("speech",), {"context": contexts})
    return probability[:, 0]  # type: ignore[no-any-return]
