"""How surely is a frame speech? A small network on 0.5 s of spectrum, for what webrtcvad lets through."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.calls import Call, Steps
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


@cache
def _session() -> onnxruntime.InferenceSession:
    return open_session(detector_path(), ours=True)[0]


@cache
def _taper_and_filters() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of shape (640,) and (321, 32); the same for all streams."""
    taper = np.hanning(2 * FRAME_SAMPLES + 1)[:-1]
    filters = mel_filterbank(RATE_HZ, 2 * FRAME_SAMPLES, BANDS, 60, 7600).astype(np.float64)
    return taper, np.ascontiguousarray(filters.T) / taper.sum()


class SpectrumContext:
    """20 ms frames → what the network hears: the last 25 mel spectra above the level's and above each band's floor.

    Both are differences in dB, so a gain changes nothing as long as the room is above -75 dBFS and each band of it
    above -100 dB. Whatever number of frames is pushed at once, each goes through the same arithmetic: products are
    stacked, as one of another shape would round differently.
    """

    _last: NDArray[np.float32]
    _rows: NDArray[np.float32]
    _blocks_db: NDArray[np.float64]
    """The last of them."""
    _floor_db: NDArray[np.float64]
    _begun: NDArray[np.float64]
    """Powers of the frames of the block that is not complete."""

    def __init__(self) -> None:
        self._taper, self._filters = _taper_and_filters()
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
        above_band = mel_db - np.minimum(self._band_floors_db(power), mel_db)
        new = np.concatenate((mel_db - floors_dbfs[:, None], above_band), axis=1, dtype=np.float32)
        rows = np.concatenate((self._rows, new))
        self._rows = rows[len(new) :]
        return overlapping(rows.reshape(-1), CONTEXT_FRAMES * 2 * BANDS, 2 * BANDS)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._last = np.zeros(FRAME_SAMPLES, np.float32)
        self._blocks_db = np.full((_FLOOR_BLOCKS, BANDS), np.inf)
        self._floor_db = np.full(BANDS, np.inf)
        self._begun = np.empty((0, BANDS))
        self._rows = np.zeros((CONTEXT_FRAMES - 1, 2 * BANDS), np.float32)

    def _band_floors_db(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each band's floor at each frame, or at all of them: its quietest block of the last 2 s."""
        rows = np.concatenate((self._begun, power))
        n_blocks = len(rows) // _BLOCK_FRAMES
        if not n_blocks:
            self._begun = rows
            return self._floor_db
        blocks = rows[: n_blocks * _BLOCK_FRAMES].reshape(n_blocks, _BLOCK_FRAMES, BANDS)
        means = sum(blocks.swapaxes(0, 1)) / _BLOCK_FRAMES
        quiet_db = np.concatenate((self._blocks_db, 10 * np.log10(np.maximum(means, POWER_FLOOR))))
        # The floor before the first of these blocks was complete, and after each.
        last = [np.minimum.reduce(quiet_db[k : k + _FLOOR_BLOCKS]) for k in range(1, n_blocks + 1)]
        floors_db = np.stack((self._floor_db, *last))
        complete = (np.arange(len(self._begun), len(rows)) + 1) // _BLOCK_FRAMES
        self._begun = rows[n_blocks * _BLOCK_FRAMES :]
        self._blocks_db, self._floor_db = quiet_db[n_blocks:], floors_db[-1]
        return floors_db[complete]


def speech_steps(contexts: NDArray[np.float32]) -> Steps[NDArray[np.float32]]:
    """Probability of speech in each frame, shape (n,), from what `SpectrumContext.push` gives; asks for the run."""
    (probability,) = yield Call(_session(), ("speech",), {"context": contexts})
    return probability[:, 0]
