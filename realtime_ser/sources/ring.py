"""The ring between the PortAudio callback and the analysis thread."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from realtime_ser.sources import Lost

OVERRUN = "overrun: analysis was too slow"


class RingBuffer:
    """Preallocated; one thread writes, one reads, neither ever waits for the other.

    Positions only grow, and each is written by one side alone: the other sees at worst an older, smaller one. What
    does not fit is not written; `read` stops before the place where it is missing, and `take_loss` tells it there.

    Parameters
    ----------
    capacity
        In samples per channel.
    channels
        Of each block.
    """

    def __init__(self, capacity: int, channels: int) -> None:
        self._samples = np.zeros((capacity, channels), np.float32)
        self._written = 0
        self._read = 0
        # Each with its position; a deque's append and popleft are safe between two threads.
        self._losses: deque[tuple[int, Lost]] = deque()

    @property
    def available(self) -> int:
        """Samples per channel that can be read."""
        return self._written - self._read

    def write(self, block: NDArray[np.float32]) -> int:
        """Copy a block of shape (n, channels) in; returns how many samples did not fit."""
        capacity = len(self._samples)
        n = min(len(block), capacity - (self._written - self._read))
        start = self._written % capacity
        first = min(n, capacity - start)
        self._samples[start : start + first] = block[:first]
        self._samples[: n - first] = block[first:n]
        self._written += n
        missed = len(block) - n
        if missed:
            self.lose(Lost(missed, OVERRUN))
        return missed

    def lose(self, lost: Lost) -> None:
        """Record what is missing here: it never reached the writer."""
        self._losses.append((self._written, lost))

    def take_loss(self) -> Lost | None:
        """What is missing right where the reader is, if anything is; told together as far as the cause is one."""
        found: Lost | None = None
        while self._losses and self._losses[0][0] == self._read:
            lost = self._losses[0][1]
            if found and lost.cause != found.cause:
                break
            found = Lost(lost.samples + (found.samples if found else 0), lost.cause)
            self._losses.popleft()
        return found

    def drop(self, most: int) -> int:
        """Forget up to `most` of the oldest samples, none from behind a loss; returns how many."""
        n = self._ready(most)
        self._read += n
        return n

    def read(self, most: int) -> NDArray[np.float32]:
        """Copy out up to `most` samples, shape (n, channels), none from behind a loss."""
        capacity = len(self._samples)
        n = self._ready(most)
        start = self._read % capacity
        first = min(n, capacity - start)
        block = np.concatenate((self._samples[start : start + first], self._samples[: n - first]))
        self._read += n
        return block

    def _ready(self, most: int) -> int:
        # In this order: a loss is recorded after what was written before it.
        end = self._written
        if self._losses:
            end = min(end, self._losses[0][0])
        return min(most, end - self._read)
