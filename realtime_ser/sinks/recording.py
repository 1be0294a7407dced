"""The audio itself as FLAC, for who asks for it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from realtime_ser.errors import SinkError
from realtime_ser.sinks._file import reason_of


@dataclass(frozen=True)
class Recorded:
    """Samples of shape (n, channels), and how much is lost before them: silence, so that times agree."""

    rate_hz: int
    samples: NDArray[np.float32]
    lost_s: float = 0.0


class FlacRecording:
    """Writes what was heard, 16 bit, at the rate it begins with; a device that comes back at another is resampled.

    FLAC cannot be gone on with where a write failed: the recording ends there, and what is in it can be heard.

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
            self._beside = path.open("ab", buffering=0)
        except (soundfile.LibsndfileError, OSError) as error:
            raise SinkError(f"{path}: cannot be recorded to ({error})", "choose another path") from None
        self._bytes = 0
        self._rate_hz = rate_hz
        self._channels = channels
        self._resampler: tuple[int, soxr.ResampleStream] | None = None

    def write(self, item: Recorded) -> None:
        """Append as much silence as was lost, and the samples."""
        left = round(item.lost_s * self._rate_hz)
        while left:  # a night without the device must not be one array
            n = min(left, 60 * self._rate_hz)
            self._append(np.zeros((n, self._channels), np.float32))
            left -= n
        self._append(self._at_our_rate(item.samples, item.rate_hz))

    def close(self) -> None:
        """Finish the file."""
        try:
            self._beside.close()
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
        found = os.fstat(self._beside.fileno())
        if not found.st_nlink or found.st_size < self._bytes:
            raise self._ended("it was deleted" if not found.st_nlink else "it was emptied by another program")
        self._bytes = found.st_size
        try:
            self._file.write(samples)
        except (soundfile.LibsndfileError, OSError, AssertionError) as error:  # soundfile asserts that all was written
            raise self._ended(self._reason() or str(error)) from None

    def _ended(self, reason: str) -> SinkError:
        return SinkError(f"{self._path}: cannot be recorded to any more ({reason})", "the recording ends here")

    def _reason(self) -> str:
        """Why it cannot be written: libsndfile does not know, so ask the system."""
        size = os.fstat(self._beside.fileno()).st_size
        try:
            for _ in range(2):  # the first may fit in part
                self._beside.write(bytes(65_536))
        except OSError as error:
            return reason_of(error)
        finally:
            with suppress(OSError):
                self._beside.truncate(size)
        return ""
