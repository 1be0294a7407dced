"""Raw PCM from a pipe as a source."""

from __future__ import annotations

import time
from collections.abc import Generator
from io import BufferedReader

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import SourceError
from realtime_ser.stages.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, to_float32

_READ_BYTES = 1 << 16
_EMPTY_PIPE_S = 0.02
"""Until what has nothing yet, and says so instead of waiting, is asked again."""


class PipeSource:
    """Signed 16-bit little-endian samples, interleaved, as they arrive.

    Iterate for blocks, float32 of shape (n, channels). What was wrong is told by `problem` afterwards.

    Raises
    ------
    SourceError
        For a rate that no audio has.
    """

    def __init__(self, stream: BufferedReader, rate_hz: int, channels: int = 1) -> None:
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise SourceError(f"rate of {rate_hz} Hz", f"give --rate from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}")
        self.name = "-"
        self.rate_hz = rate_hz
        self.channels = channels
        self.problem: str | None = None
        self._stream = stream

    def __iter__(self) -> Generator[NDArray[np.float32], None, None]:
        frame_bytes = 2 * self.channels
        rest = b""
        arrived = False
        # Not of the buffer, which has one answer for "nothing yet" and for the end.
        while (content := self._stream.raw.read(_READ_BYTES)) != b"":
            if content is None:  # nothing yet, of a pipe that another program made non-blocking
                time.sleep(_EMPTY_PIPE_S)
                continue
            arrived = True
            content = rest + content
            whole = len(content) // frame_bytes * frame_bytes
            rest = content[whole:]
            if whole:
                yield to_float32(np.frombuffer(content[:whole], "<i2").astype(np.int16).reshape(-1, self.channels))
        if not arrived:
            self.problem = "no audio arrived on stdin"
        elif rest:
            self.problem = f"ended within a sample: {len(rest)} bytes left over"
