"""Before the gate: no DC, no rumble, and on request less noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.settings import RATE_HZ, CleanSettings

PIECE_SAMPLES = RATE_HZ // 100
"""10 ms: what WebRTC's suppressor takes at once."""
CUTOFF_HZ = 40.0
"""Below any voice and above most handling noise; the models' lowest mel band begins at 50 Hz."""
_STEP_SAMPLES = 40
"""What the filter takes at once: a quarter of a piece keeps its matrix small enough for the nearest cache."""
_STEPS = PIECE_SAMPLES // _STEP_SAMPLES
_SUPPRESSION = 1
"""WebRTC's levels are 0 to 3: 6, 12, 18 and 21 dB."""


class _Matrices(NamedTuple):
    """The filter as products; the same for all streams."""

    from_samples: NDArray[np.float64]
    """From a step's samples to its output and to what it adds to the states."""
    from_states: NDArray[np.float64]
    """From the states before a step to its output."""
    from_steps: NDArray[np.float64]
    """From what a piece's steps add to the states to those before each and behind the last, begun with none."""
    from_begin: NDArray[np.float64]
    """From the states where a piece begins to those before each of its steps."""
    advance: list[list[float]]
    """Of the states, over a piece."""


@cache
def _matrices() -> _Matrices:
    # Bilinear transform with prewarping; see Zölzer, DAFX (2011), table 2.2.
    k = np.tan(np.pi * CUTOFF_HZ / RATE_HZ)
    scale = 1 / (1 + np.sqrt(2) * k + k * k)
    b = scale * np.array([1.0, -2.0, 1.0])
    a1, a2 = 2 * (k * k - 1) * scale, (1 - np.sqrt(2) * k + k * k) * scale
    # y = b0 x + s, transition and input of the two states of the transposed direct form II.
    step = np.array([[-a1, 1.0], [-a2, 0.0]])
    feed = np.array([b[1] - a1 * b[0], b[2] - a2 * b[0]])
    powers = [np.eye(2)]
    for _ in range(_STEP_SAMPLES):
        powers.append(step @ powers[-1])
    response = np.array([b[0], *(float((p @ feed)[0]) for p in powers[: _STEP_SAMPLES - 1])])
    lag = np.subtract.outer(np.arange(_STEP_SAMPLES), np.arange(_STEP_SAMPLES))
    direct = np.where(lag >= 0, response[np.maximum(lag, 0)], 0.0)
    left = np.array([p @ feed for p in powers[-2::-1]]).T
    advance = [np.linalg.matrix_power(powers[-1], k) for k in range(_STEPS + 1)]
    none = np.zeros((2, 2))
    return _Matrices(
        from_samples=np.ascontiguousarray(np.concatenate((direct, left)).T),
        from_states=np.array([p[0] for p in powers[:-1]]).T.copy(),
        from_steps=np.block(
            [[advance[k - 1 - j].T if j < k else none for k in range(_STEPS + 1)] for j in range(_STEPS)]
        ),
        from_begin=np.concatenate([each.T for each in advance[:-1]], axis=1),
        advance=advance[-1].tolist(),
    )


class HighPass:
    """A Butterworth high-pass of second order, all pieces at once: only its two states go from piece to piece.

    Matrix products are a hundred times faster than a loop over samples, and need no SciPy, whose import alone would
    take longer than all else at the start. Equal to `scipy.signal.sosfilt` (tests/stages/test_clean.py).
    """

    _states: tuple[float, float]

    def __init__(self) -> None:
        self._matrices = _matrices()
        self.reset()

    def push(self, pieces: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give float32 of shape (n, 160); get as many. A piece of exact zeros stays so and ends what was before it."""
        m = self._matrices
        steps = pieces.reshape(-1, _STEPS, _STEP_SAMPLES).astype(np.float64)
        # Stacked, so that each piece is a product of the same shape however many are pushed: not a bit may differ.
        direct = steps @ m.from_samples
        states = direct[:, :, _STEP_SAMPLES:].reshape(-1, 1, 2 * _STEPS) @ m.from_steps
        begins = self._begins(states[:, 0, -2:].tolist(), np.logical_not(pieces.any(axis=1)).tolist())
        before = states[:, :, :-2] + begins @ m.from_begin
        filtered = direct[:, :, :_STEP_SAMPLES] + before.reshape(-1, _STEPS, 2) @ m.from_states
        return filtered.astype(np.float32).reshape(pieces.shape)

    def _begins(self, added: Sequence[Sequence[float]], silences: Sequence[bool]) -> NDArray[np.float64]:
        """The states where each piece begins, (n, 1, 2), from what each adds to them; a silent one begins with none."""
        (a, b), (c, d) = self._matrices.advance
        s, t = self._states
        begins: list[float] = []
        for (ds, dt), silence in zip(added, silences, strict=True):
            if silence:
                s = t = 0.0
            begins += s, t
            s, t = a * s + b * t + ds, c * s + d * t + dt
        self._states = s, t
        return np.array(begins).reshape(-1, 1, 2)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._states = 0.0, 0.0


def _suppressor() -> Any:
    try:
        from pywebrtc_audio import NoiseSuppressor
    except ImportError:
        raise SettingsError(
            "noise suppression is not installed", "pip install 'realtime-ser[denoise]', or leave --denoise out"
        ) from None
    return NoiseSuppressor(sample_rate=RATE_HZ, num_channels=1, level=_SUPPRESSION)


class Cleaner:
    """Samples at 16 kHz → as many, less what is short of 10 ms: without DC and rumble, and on request with less noise.

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
        cut = len(pending) // PIECE_SAMPLES * PIECE_SAMPLES
        self._pending = pending[cut:].copy()
        pieces = pending[:cut].reshape(-1, PIECE_SAMPLES)
        clean = self._high_pass.push(pieces)
        if self._suppressor is not None:
            clean = np.stack([p if not p.any() else self._suppressor.process(p) for p in clean]) if cut else clean
        return clean.reshape(-1)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._pending = np.empty(0, np.float32)
        self._high_pass.reset()
        if self._suppressor is not None:
            self._suppressor.reset()
