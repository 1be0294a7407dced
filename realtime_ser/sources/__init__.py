"""Where samples come from. A source is an iterable of blocks with a sample rate."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from realtime_ser.stages.monitor import Notice


@dataclass(frozen=True)
class Lost:
    """Samples at the source's rate that never arrived."""

    samples: int
    cause: str


Block = NDArray[np.float32] | Lost | Notice
"""Samples of shape (n, channels), the lack of them, or what a person should know about the source."""


class Source(Protocol):
    """What every source has."""

    name: str
    rate_hz: int
    channels: int

    def __iter__(self) -> Generator[Block, None, None]: ...
