"""The audio itself as FLAC, for who asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from realtime_ser.errors import SinkError


@dataclass(frozen=True)
class Recorded:
    """Samples of shape (n, channels), or how many are lost (written as silence, so that times agree)."""

    rate_hz: int
    samples: NDArray[np.float32] | None = None
    lost: int = 0


class FlacRecording:
    """Writes what was heard, 16 bit, at the rate it begins with; a device that comes back at another is resampled.

    Raises
    ------
    SinkError
        The file exists and may not be replaced, or cannot be written.
    """

    def __init__(self, path: Path, rate_hz: int, channels: int, overwrite: bool) -> None:
        self._path = path
        if path.exists() and not overwrite:
            raise SinkError(f"{path}: exists already", "give --overwrite to replace it, or another --record")
        try:
            self._file = soundfile.SoundFile(path, "w", rate_hz, channels, "PCM_16", format="FLAC")
        except (soundfile.LibsndfileError, OSError) as error:
            raise SinkError(f"{path}: cannot be recorded to ({error})", "choose another path") from None
        self._rate_hz = rate_hz
        self._channels = channels
        self._resampler: tuple[int, soxr.ResampleStream] | None = None

    def write(self, item: Recorded) -> None:
        """Append samples, or as much silence as was lost."""
        if item.samples is not None:
            self._append(self._at_our_rate(item.samples, item.rate_hz))
            return
        left = item.lost * self._rate_hz // item.rate_hz
        while left:  # a night without the device must not be one array
            n = min(left, 60 * self._rate_hz)
            self._append(np.zeros((n, self._channels), np.float32))
            left -= n

    def close(self) -> None:
        """Finish the file."""
        try:
            self._file.close()
        except (soundfile.LibsndfileError, OSError) as error:
            raise SinkError(f"{self._path}: could not be closed ({error})", "check its end") from None

    def _at_our_rate(self, samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        if rate_hz == self._rate_hz:
            return samples
        if self._resampler is None or self._resampler[0] != rate_hz:
            self._resampler = rate_hz, soxr.ResampleStream(rate_hz, self._rate_hz, self._channels, dtype="float32")
        return self._resampler[1].resample_chunk(samples)

    def _append(self, samples: NDArray[np.float32]) -> None:
        try:
            self._file.write(samples)
        except (soundfile.LibsndfileError, OSError, AssertionError) as error:  # soundfile asserts that all was written
            reason = str(error) or "the disk is full"
            raise SinkError(f"{self._path}: cannot be recorded to any more ({reason})", "make room") from None
