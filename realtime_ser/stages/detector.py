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
_DROWNED_DB = 45.0
"""What lies this far under the loudest frame of the last 2 s counts for nothing: the network learned from rooms that
are about so noisy, and over digital silence took dogs for speech and shouts for dogs (docs/model.md)."""


def detector_path() -> Path:
    """Where the network lies (made by `tools/train_gate.py`)."""
    return Path(__file__).parent.parent / "data" / "gate.onnx"


def _db(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return 10 * np.log10(np.maximum(power, POWER_FLOOR))


@cache
def _session() -> onnxruntime.InferenceSession:
    return open_session(detector_path(), ours=True)[0]


@cache
def _taper_and_filters() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of shape (640,) and (321, 32), and what white noise of power 1 has in each band; the same for all streams."""
    taper = np.hanning(2 * FRAME_SAMPLES + 1)[:-1]
    filters = mel_filterbank(RATE_HZ, 2 * FRAME_SAMPLES, BANDS, 60, 7600).astype(np.float64)
    filters = np.ascontiguousarray(filters.T) / taper.sum()
    return taper, filters, np.square(taper).sum() * filters.sum(axis=0)


class SpectrumContext:
    """20 ms frames → what the network hears: the last 25 mel spectra above the level's and above each band's floor.

    White noise 45 dB under the loudest frame of the last 2 s is added to spectra and floors. All are differences in dB,
    so a gain changes nothing as long as the room is above -75 dBFS and each band of it above -100 dB. Whatever number
    of frames is pushed at once, each goes through the same arithmetic: products are stacked, as one of another shape
    would round differently.
    """

    _last: NDArray[np.float32]
    _rows: NDArray[np.float32]
    _energies: NDArray[np.float64]
    """Of the frames of the last 2 s but the newest."""
    _blocks: NDArray[np.float64]
    """The bands' powers in each of the last 2 s."""
    _floor: NDArray[np.float64]
    """Theirs, a power as well."""
    _begun: NDArray[np.float64]
    """Powers of the frames of the block that is not complete."""

    def __init__(self) -> None:
        self._taper, self._filters, self._white = _taper_and_filters()
        self.reset()

    def push(self, frames: NDArray[np.float32], floors_dbfs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Give frames, float32 of shape (n, 320), and the noise floor of the level at each; get contexts (n, 1600)."""
        if not len(frames):
            return np.empty((0, CONTEXT_FRAMES * 2 * BANDS), np.float32)
        samples = np.concatenate((self._last, frames.reshape(-1)))
        self._last = samples[-FRAME_SAMPLES:]
        spectrum = np.fft.rfft(overlapping(samples, 2 * FRAME_SAMPLES, FRAME_SAMPLES) * self._taper)
        power = ((np.square(spectrum.real) + np.square(spectrum.imag))[:, None, :] @ self._filters)[:, 0]
        drowned = self._drowned(frames)
        white = drowned * self._white
        mel_db = _db(power + white)
        above_level = mel_db - _db(10 ** (floors_dbfs[:, None] / 10) + drowned)
        above_band = mel_db - np.minimum(_db(self._band_floors(power) + white), mel_db)
        new = np.concatenate((above_level, above_band), axis=1, dtype=np.float32)
        rows = np.concatenate((self._rows, new))
        self._rows = rows[len(new) :]
        return overlapping(rows.reshape(-1), CONTEXT_FRAMES * 2 * BANDS, 2 * BANDS)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._last = np.zeros(FRAME_SAMPLES, np.float32)
        self._energies = np.zeros(_FLOOR_BLOCKS * _BLOCK_FRAMES - 1)
        self._blocks = np.full((_FLOOR_BLOCKS, BANDS), np.inf)
        self._floor = np.full(BANDS, np.inf)
        self._begun = np.empty((0, BANDS))
        self._rows = np.zeros((CONTEXT_FRAMES - 1, 2 * BANDS), np.float32)

    def _drowned(self, frames: NDArray[np.float32]) -> NDArray[np.float64]:
        """The power of a frame that counts for nothing, at each of them: shape (n, 1)."""
        energies = np.concatenate((self._energies, np.add.reduce(np.square(frames, dtype=np.float64), axis=1)))
        self._energies = energies[len(frames) :]
        loudest = overlapping(energies, len(self._energies) + 1, 1).max(axis=1, keepdims=True)
        return loudest * (10 ** (-_DROWNED_DB / 10) / FRAME_SAMPLES)

    def _band_floors(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each band's floor at each frame, or at all of them: its quietest block of the last 2 s."""
        rows = np.concatenate((self._begun, power))
        n_blocks = len(rows) // _BLOCK_FRAMES
        if not n_blocks:
            self._begun = rows
            return self._floor
        blocks = rows[: n_blocks * _BLOCK_FRAMES].reshape(n_blocks, _BLOCK_FRAMES, BANDS)
        means = sum(blocks.swapaxes(0, 1)) / _BLOCK_FRAMES
        quiet = np.concatenate((self._blocks, means))
        # The floor before the first of these blocks was complete, and after each.
        last = [np.minimum.reduce(quiet[k : k + _FLOOR_BLOCKS]) for k in range(1, n_blocks + 1)]
        floors = np.stack((self._floor, *last))
        complete = (np.arange(len(self._begun), len(rows)) + 1) // _BLOCK_FRAMES
        self._begun = rows[n_blocks * _BLOCK_FRAMES :]
        self._blocks, self._floor = quiet[n_blocks:], floors[-1]
        return floors[complete]


def speech_steps(contexts: NDArray[np.float32]) -> Steps[NDArray[np.float32]]:
    """Probability of speech in each frame, shape (n,), from what `SpectrumContext.push` gives; asks for the run."""
    (probability,) = yield Call(_session(), ("speech",), {"context": contexts})
    return probability[:, 0]
