"""Any rate, width and channel count → 16 kHz mono float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.settings import RATE_HZ

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 768_000
MOST_CHANNELS = 64
"""Of any device; what has more is a block of (channels, n)."""
FULL_SCALE = np.float32(0.999)
"""From here on a sample counts as clipped."""
_LARGEST = np.float32(8)
"""Beyond 8 times full scale nothing is audio; unbounded values would overflow the filters' sums."""


def to_float32(block: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as float32 in [-1, 1] of shape (n, channels), from int16, int32, uint8 or float, (n,) or (n, channels).

    Raises
    ------
    SettingsError
        For another dtype, more than two dimensions, or more channels than any device has.
    """
    if block.ndim == 1:
        block = block[:, None]
    if block.ndim != 2 or not 1 <= block.shape[1] <= MOST_CHANNELS:
        raise SettingsError(f"audio of shape {block.shape}", f"give (n,) or (n, channels), at most {MOST_CHANNELS}")
    if block.dtype == np.float32:
        return block
    if block.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and so silence
            return block.astype(np.float32, copy=False)
    if block.dtype.newbyteorder("=") in (np.int16, np.int32):  # RTP's L16 is big-endian
        # Scaled in float64: int32 would lose bits before the division.
        return (block / -float(np.iinfo(block.dtype).min)).astype(np.float32)
    if block.dtype == np.uint8:
        return (block.astype(np.float32) - np.float32(128)) / np.float32(128)
    raise SettingsError(f"audio of type {block.dtype}", "give int16, int32, uint8, float32 or float64")


def checked_rate(rate_hz: float) -> int:
    """A rate as Python's own int: sound systems give 48000.0, and NumPy's integers overflow in a long session.

    Raises
    ------
    SettingsError
        For a rate that no device has.
    """
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ or rate_hz != int(rate_hz):
        raise SettingsError(f"sample rate of {rate_hz} Hz", f"use {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz, whole")
    return int(rate_hz)


def mix(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of channels, (n, channels) → (n,); by columns, as `mean(axis=1)` over two takes twenty times as long."""
    mono = block[:, 0].copy()
    if block.shape[1] > 1:
        for other in block.T[1:]:
            mono += other
        mono /= np.float32(block.shape[1])
    return mono


@dataclass(frozen=True)
class Noted:
    """`count` samples of the input, in the 20 ms before sample `at` of the 16 kHz clock."""

    at: int
    count: int


class Resampler:
    """Blocks at the device's own rate → mono at 16 kHz, by a streaming `soxr.ResampleStream` (high quality).

    How the input is cut into blocks changes only when samples come out, not a bit of them. NaN and infinity become
    silence and are listed in `bad`; moments in which any channel is at full scale, which mixing and filters would hide,
    in `clipped`. The caller empties both.

    Raises
    ------
    SettingsError
        For a rate that no device has.
    """

    bad: list[Noted]
    clipped: list[Noted]

    def __init__(self, rate_hz: int, channels: int) -> None:
        self.rate_hz = checked_rate(rate_hz)
        self.channels = channels
        self.reset()

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give float32 of shape (n, channels); get float32 of shape (m,) at 16 kHz."""
        return self._next(block)

    def flush(self) -> NDArray[np.float32]:
        """End of input: what is still inside."""
        rest = self._next(np.empty((0, self.channels), np.float32), last=True)
        bad, clipped = self.bad, self.clipped
        self.reset()
        self.bad, self.clipped = bad, clipped
        return rest

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._native_samples = 0
        self.bad, self.clipped = [], []
        self._stream = (
            None if self.rate_hz == RATE_HZ else soxr.ResampleStream(self.rate_hz, RATE_HZ, 1, dtype="float32")
        )

    def _next(self, block: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        if not max(block.max(initial=0), -block.min(initial=0)) < FULL_SCALE:  # nor is it with what is no number
            block = self._looked_through(block)
        self._native_samples += len(block)
        mono = mix(block)
        return mono if self._stream is None else self._stream.resample_chunk(mono, last=last)

    def _looked_through(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        finite = np.isfinite(block)
        self._note(self.bad, (~finite).sum(axis=1))
        block = np.where(finite, np.clip(block, -_LARGEST, _LARGEST), np.float32(0))
        self._note(self.clipped, (np.abs(block) >= FULL_SCALE).any(axis=1).astype(int))
        return block

    def _note(self, found: list[Noted], counts: NDArray[np.int64]) -> None:
        """Told for each 20 ms of the input, wherever blocks end."""
        grid = self.rate_hz // 50
        pieces = np.repeat(self._native_samples + np.arange(len(counts)), counts) // grid
        for piece, count in zip(*np.unique(pieces, return_counts=True), strict=True):
            at = (int(piece) + 1) * grid * RATE_HZ // self.rate_hz
            if found and found[-1].at == at:
                count += found.pop().count
            found.append(Noted(at, int(count)))
