"""How surely is this frame speech? A small network on 0.5 s of spectrum, for what webrtcvad lets through."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.features import POWER_FLOOR, mel_filterbank
from realtime_ser.stages.model import open_session

FRAME_SAMPLES = RATE_HZ // 50
"""20 ms: the longest frame but one that webrtcvad takes."""
BANDS = 32
CONTEXT_FRAMES = 25
_BLOCK_FRAMES = 5
_FLOOR_BLOCKS = 20
_LOWEST_DB = -75.0
"""No room is quieter; a fade from digital silence must not make its noise stand out."""


def detector_path() -> Path:
    """Where the network lies (made by `tools/train_gate.py`)."""
    return Path(__file__).parent.parent / "data" / "gate.onnx"


@lru_cache(maxsize=1)
def _session() -> onnxruntime.InferenceSession:
    return open_session(detector_path())[0]


class SpectrumContext:
    """20 ms frames → what the network hears: the last 25 mel spectra above the level's and above each band's floor.

    Both are differences in dB, so a gain changes nothing down to the bounds below.
    """

    values: NDArray[np.float32]
    """Shape (25, 64), the latest frame last."""
    _samples: NDArray[np.float64]
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

    def push(self, frame: NDArray[np.float32], floor_dbfs: float) -> None:
        """Give the next frame, float32 of shape (320,), and the noise floor of its level."""
        self._samples[:FRAME_SAMPLES] = self._samples[FRAME_SAMPLES:]
        self._samples[FRAME_SAMPLES:] = frame
        spectrum = np.fft.rfft(self._samples * self._taper)
        power = (np.square(spectrum.real) + np.square(spectrum.imag)) @ self._filters
        mel_db = 10 * np.log10(np.maximum(power, POWER_FLOOR))
        self._block += power
        self._in_block += 1
        if self._in_block == _BLOCK_FRAMES:
            self._floors[self._next] = 10 * np.log10(np.maximum(self._block / _BLOCK_FRAMES, POWER_FLOOR))
            self._next = (self._next + 1) % _FLOOR_BLOCKS
            self._floor_db = np.maximum(self._floors.min(axis=0), _LOWEST_DB - 20)
            self._block[:] = 0
            self._in_block = 0
        self.values[:-1] = self.values[1:]
        self.values[-1, :BANDS] = mel_db - floor_dbfs
        self.values[-1, BANDS:] = mel_db - np.minimum(self._floor_db, mel_db)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._samples = np.zeros(2 * FRAME_SAMPLES)
        self._floors = np.full((_FLOOR_BLOCKS, BANDS), np.inf)
        self._floor_db = np.full(BANDS, np.inf)
        self._block = np.zeros(BANDS)
        self._in_block = self._next = 0
        self.values = np.zeros((CONTEXT_FRAMES, 2 * BANDS), np.float32)


def speech_probability(context: NDArray[np.float32]) -> float:
    """Of the latest frame, from `SpectrumContext.values`."""
    (probability,) = _session().run(("speech",), {"context": context.reshape(1, -1)})
    return float(probability[0, 0])
