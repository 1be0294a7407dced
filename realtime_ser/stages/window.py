"""Which embeddings the head sees, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime_ser.settings import WindowSettings

LONGEST_UTTERANCE_S = 30.0
"""The measurement of a whole utterance looks back no further than this: memory stays bounded."""


@dataclass(frozen=True)
class Window:
    """Embeddings `start` to `end` of the utterance, counted from its first."""

    start: int
    end: int
    embeddings: NDArray[np.float32]
    """Shape (end - start, dim)."""


class SlidingWindow:
    """Embeddings of an utterance → windows: the first after `first_s`, then one every `hop_s`, each of `window_s` at
    the most; `flush` gives one over the whole utterance.

    Parameters
    ----------
    settings
        Lengths in seconds.
    rate_hz
        Embeddings a second.
    dim
        Size of an embedding.
    """

    def __init__(self, settings: WindowSettings, rate_hz: float, dim: int) -> None:
        self._window = round(settings.window_s * rate_hz)
        self._hop = round(settings.hop_s * rate_hz)
        self._first = round(settings.first_s * rate_hz)
        self._shortest = round(settings.shortest_s * rate_hz)
        self._keep = max(self._window, round(LONGEST_UTTERANCE_S * rate_hz))
        # Twice what is kept: the kept part moves to the front only once in so many embeddings.
        self._buffer = np.empty((2 * self._keep, dim), np.float32)
        self.reset()

    def push(self, embeddings: NDArray[np.float32]) -> list[Window]:
        """Give embeddings of shape (n, dim); get the windows that end among them."""
        windows = []
        while len(embeddings):
            since_first = self._count - self._first
            missing = -since_first if since_first < 0 else self._hop - since_first % self._hop
            part = embeddings[: min(missing, self._keep)]
            self._append(part)
            if len(part) == missing:
                windows.append(self._last(self._window))
            embeddings = embeddings[len(part) :]
        return windows

    def flush(self) -> list[Window]:
        """End of the utterance: one window over all of it, none if it is shorter than `shortest_s`."""
        windows = [self._last(self._keep)] if self._count >= self._shortest else []
        self.reset()
        return windows

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._count = 0
        self._filled = 0

    def _append(self, embeddings: NDArray[np.float32]) -> None:
        end = self._filled + len(embeddings)
        if end > len(self._buffer):
            kept = self._keep - len(embeddings)
            self._buffer[:kept] = self._buffer[self._filled - kept : self._filled]
            end = self._keep
        self._buffer[end - len(embeddings) : end] = embeddings
        self._filled = end
        self._count += len(embeddings)

    def _last(self, longest: int) -> Window:
        length = min(self._count, longest)
        return Window(self._count - length, self._count, self._buffer[self._filled - length : self._filled].copy())
