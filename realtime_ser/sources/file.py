"""A recording as a source: blocks of a file that libsndfile reads, never the whole of it."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from realtime_ser.errors import SourceError
from realtime_ser.stages.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ

_SIZE_LIE = re.compile(r"\b(?:data|SSND)\b.*should be|Exiting parser")
"""What libsndfile's log says of a header that claims more (or less) than the file holds."""
_WHOLE_SIZE = re.compile(r"^RIFF : (\d+)", re.MULTILINE)
_UNKNOWN_BYTES = (range(0x7FFFF000, 0x80010000), range(0xFFFFF000, 0x100000000))
"""What sox and its like, and ffmpeg and its, write into a pipe as the whole's size, as they cannot know it."""
_NO_AUDIO_BYTES = 1 << 16
"""As long as what stands before the audio ever is."""
_EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""How the names of the subtypes begin that give a sample exactly, wherever reading began; FLAC's do too."""


class FileSource:
    """An audio file of any format, rate and channel count that libsndfile reads.

    Iterate for blocks of `block_s`, float32 of shape (n, channels). What could not be read is told by `problem`
    afterwards: the blocks before it are good.

    Parameters
    ----------
    path
        The file.
    block_s
        Of the blocks.
    name
        What to call it, if it is a copy of something else.
    from_s
        Where the first sample is; anywhere in a file that `seeks_exactly`.

    Raises
    ------
    SourceError
        When opened: no such file, a folder, empty or empty by its header, not audio, or of a rate that no audio has.
    """

    def __init__(
        self,
        path: Path | str,
        block_s: float = 2.0,
        name: str | None = None,
        from_s: float = 0.0,
    ) -> None:
        self.path = path = Path(path)
        self.name = name = name or str(path)
        if os.path.isdir(path):
            raise SourceError(f"{name}: is a folder", "name a file, or use `realtime-ser analyze` for folders")
        try:
            if path.stat().st_size == 0:
                raise SourceError(f"{name}: the file is empty", "nothing was recorded into it")
            path.open("rb").close()  # libsndfile does not say why it may not
            # As bytes: soundfile cannot encode a name that is no valid text.
            self._file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path)
        except FileNotFoundError:
            raise SourceError(f"{name}: no such file", "check the path") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SourceError(f"{name}: cannot be read ({reason})", "check the right to it") from None
        except soundfile.LibsndfileError as error:
            reason = str(error.error_string).rstrip(".")
            raise SourceError(f"{name}: cannot be read as audio ({reason})", "convert it, e.g. to WAV") from None
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        if not LOWEST_RATE_HZ <= self.rate_hz <= HIGHEST_RATE_HZ:
            self._file.close()
            raise SourceError(f"{name}: rate of {self.rate_hz} Hz", "its header lies, or it is no recording of sound")
        self.problem: str | None = None
        """Why less was read than the file promised; None if all was well."""
        self._block_frames = max(1, round(self.rate_hz * block_s))
        plain = self._file.subtype.startswith(_EXACT) and self._file.format != "FLAC"
        # What has to be decoded is read little by little: of a piece that is damaged nothing is got.
        self._read_frames = self._block_frames if plain else self.rate_hz // 10
        self._first = round(from_s * self.rate_hz)
        whole = _WHOLE_SIZE.search(self._file.extra_info)
        piped = whole is not None and any(int(whole[1]) in sizes for sizes in _UNKNOWN_BYTES)
        self._size_lies = not piped and bool(_SIZE_LIE.search(self._file.extra_info))
        if plain and not self._file.frames and path.stat().st_size > _NO_AUDIO_BYTES:
            self._file.close()
            raise SourceError(
                f"{name}: its header says that it is empty, as that of a recorder that died",
                "repair it: sox --ignore-length BROKEN.wav WHOLE.wav",
            )
        if self._file.format == "MP3":
            # soundfile seeks behind each read, to where it is; the decoder then forgets what it needs, and complains.
            self._file.seekable = lambda: False

    @property
    def duration_s(self) -> float:
        """As libsndfile counts it."""
        return self._file.frames / self.rate_hz

    @property
    def seeks_exactly(self) -> bool:
        """Whether a sample is the same wherever reading began: in formats that compress with losses it is not."""
        return bool(self._file.subtype.startswith(_EXACT) and self._file.seekable() and not self._size_lies)

    def __iter__(self) -> Generator[NDArray[np.float32], None, None]:
        done = self._first
        with self._file as file:
            reason = None
            while reason is None:
                block, reason = self._block(file, done)
                if not len(block):
                    break
                done += len(block)
                yield block
        if reason:
            self.problem = f"damaged after {done / self.rate_hz:.2f} s ({reason}); the rest was not read"
        elif self._size_lies:
            found = f"{done / self.rate_hz:.2f} s"
            self.problem = f"cut off, or its header lies: it promises another length than the {found} found"

    def _block(self, file: soundfile.SoundFile, done: int) -> tuple[NDArray[np.float32], str | None]:
        """What comes behind `done` samples, and what libsndfile says if it cannot go on."""
        parts = [np.empty((0, self.channels), np.float32)]
        reason = None
        missing = self._block_frames
        try:
            if self._first and done == self._first:
                file.seek(done)
            while missing and len(part := file.read(min(missing, self._read_frames), dtype="float32", always_2d=True)):
                parts.append(part)
                missing -= len(part)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(".")
        return np.concatenate(parts), reason
