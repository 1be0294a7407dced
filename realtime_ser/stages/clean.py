"""Before the gate: no DC, no rumble, and on request less noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.settings import RATE_HZ, CleanSettings

PIECE_SAMPLES = RATE_HZ // 100
"""10 ms: what WebRTC's suppressor takes at once."""
CUTOFF_HZ = 40.0
"""Below any voice and above most handling noise; the models' lowest mel band begins at 50 Hz."""

FULL_SCALE = 0.999
"""From here on a sample counts as clipped."""
_SUPPRESSION = 1
"""WebRTC's levels are 0 to 3: 6, 12, 18 and 21 dB."""


class HighPass:
    """A Butterworth high-pass of second order, in pieces of 10 ms from its impulse response and two states.

    One matrix product for each piece is a hundred times faster than a loop over samples, and needs no SciPy, whose
    import alone would take longer than all else at the start. Equal to `scipy.signal.sosfilt`
    (tests/stages/test_clean.py).
    """

    def __init__(self) -> None:
        # Bilinear transform with prewarping; see Zölzer, DAFX (2011), table 2.2.
        k = np.tan(np.pi * CUTOFF_HZ / RATE_HZ)
        scale = 1 / (1 + np.sqrt(2) * k + k * k)
        b = scale * np.array([1.0, -2.0, 1.0])
        a1, a2 = 2 * (k * k - 1) * scale, (1 - np.sqrt(2) * k + k * k) * scale
        # y = b0 x + s, transition and input of the two states of the transposed direct form II.
        step = np.array([[-a1, 1.0], [-a2, 0.0]])
        feed = np.array([b[1] - a1 * b[0], b[2] - a2 * b[0]])
        powers = [np.eye(2)]
        for _ in range(PIECE_SAMPLES):
            powers.append(step @ powers[-1])
        response = np.array([b[0], *(float((p @ feed)[0]) for p in powers[: PIECE_SAMPLES - 1])])
        lag = np.subtract.outer(np.arange(PIECE_SAMPLES), np.arange(PIECE_SAMPLES))
        outputs = np.where(lag >= 0, response[np.maximum(lag, 0)], 0.0), np.array([p[0] for p in powers[:-1]])
        states = np.array([p @ feed for p in powers[-2::-1]]).T, powers[-1]
        self._matrix = np.block([list(outputs), list(states)])
        """From a piece and the two states to the filtered piece and the next states."""
        self._values = np.zeros(PIECE_SAMPLES + 2)
        self.reset()

    def push(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give float32 of shape (160,); get as many."""
        self._values[:PIECE_SAMPLES] = piece
        result = self._matrix @ self._values
        self._values[PIECE_SAMPLES:] = result[PIECE_SAMPLES:]
        return result[:PIECE_SAMPLES].astype(np.float32)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._values[:] = 0


def _suppressor() -> Any:
    try:
        from pywebrtc_audio import NoiseSuppressor
    except ImportError:
        raise SettingsError(
            "noise suppression is not installed", "pip install 'realtime-ser[denoise]', or leave --denoise out"
        ) from None
    return NoiseSuppressor(sample_rate=RATE_HZ, num_channels=1, level=_SUPPRESSION)


@dataclass(frozen=True)
class Clipped:
    """`count` samples at full scale in the 10 ms before sample `at`, counted from the stage's first."""

    at: int
    count: int


class Cleaner:
    """Samples at 16 kHz → as many, less what is short of 10 ms: without DC and rumble, and on request with less noise.

    What was clipped is listed in `clipped`, which the caller empties: a filter hides it.

    Raises
    ------
    SettingsError
        If noise suppression is asked for and not installed.
    """

    _pending: NDArray[np.float32]

    def __init__(self, settings: CleanSettings | None = None) -> None:
        self._high_pass = HighPass()
        self._suppressor = _suppressor() if settings and settings.denoise else None
        self.reset()

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give float32 of shape (n,); get the whole pieces of 10 ms now ready. Exact zeros stay exact zeros."""
        pending = np.concatenate((self._pending, samples))
        n_pieces = len(pending) // PIECE_SAMPLES
        cut = n_pieces * PIECE_SAMPLES
        self._pending = pending[cut:].copy()
        pieces = [self._piece(piece) for piece in pending[:cut].reshape(n_pieces, PIECE_SAMPLES)]
        return np.concatenate(pieces) if pieces else np.empty(0, np.float32)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._pending = np.empty(0, np.float32)
        self._at = 0
        self.clipped: list[Clipped] = []
        self._high_pass.reset()
        if self._suppressor is not None:
            self._suppressor.reset()

    def _piece(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        self._at += PIECE_SAMPLES
        if piece[0] == 0 and not piece.any():
            # Not a filter's fading tail: digital silence is a fault that the monitor must see.
            self._high_pass.reset()
            return piece
        if clipped := int(np.count_nonzero(np.abs(piece) >= FULL_SCALE)):
            self.clipped.append(Clipped(self._at, clipped))
        clean = self._high_pass.push(piece)
        return clean if self._suppressor is None else self._suppressor.process(clean)
