"""Features, encoder, window and head in a row: what the model makes of an utterance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from realtime_ser.settings import RATE_HZ, WindowSettings
from realtime_ser.stages.calls import Steps
from realtime_ser.stages.detector import FRAME_SAMPLES
from realtime_ser.stages.gate import FrameLevels, SpeechContinued, SpeechOpened
from realtime_ser.stages.model import Model
from realtime_ser.stages.window import SlidingWindow, Window
from realtime_ser.stages.window_model import WindowModel


@dataclass(frozen=True)
class Scored:
    """Samples `start` to `end` of the utterance, counted from its first, and what the model says of them."""

    start: int
    end: int
    posteriors: NDArray[np.float32]
    """Shape (labels,)."""


@dataclass(frozen=True)
class Piece:
    """Frames of speech, and the windows that the last of them completes."""

    frames: FrameLevels
    windows: list[Scored]


class Scorer:
    """Speech of one utterance → posteriors of its windows, asking for each run of a network (`stages/calls.py`).

    Raises
    ------
    ModelError
        If the model gives anything but scores; it has to be reset then.
    """

    def __init__(self, model: Model | WindowModel, settings: WindowSettings) -> None:
        contract = model.contract
        self._features = model.features()
        self._encoder = model.encoder()
        shortest_s = max(settings.shortest_s, contract.shortest_window_s)
        window = replace(settings, shortest_s=shortest_s)
        self._window = SlidingWindow(window, RATE_HZ / contract.embedding_samples, contract.dim)
        self._head = model.head()
        self._embedding_samples = contract.embedding_samples

    @property
    def missing_samples(self) -> int:
        """With so many more there are new features, and perhaps a window."""
        return self._features.missing_samples

    def steps(self, outputs: Sequence[SpeechOpened | SpeechContinued]) -> Steps[list[Piece]]:
        """Give speech as the gate tells it; each network hears all of it at once."""
        parts = [part for output in outputs for part in self._cut(output)]
        if not any(len(features) for _, features in parts):
            return [Piece(frames, []) for frames, _ in parts]
        embeddings = yield from self._encoder.steps([features for _, features in parts])
        windows = [self._window.push(some) for some in embeddings]
        scored = iter((yield from self._judge([window for some in windows for window in some])))
        return [Piece(frames, [next(scored) for _ in some]) for (frames, _), some in zip(parts, windows, strict=True)]

    def flush_steps(self) -> Steps[tuple[list[Scored], list[Scored]]]:
        """End of the utterance: the windows still held back; and one over all of it, none if it was too short."""
        # What is left of frames is shorter than 0.25 s, and the gate has waited 0.6 s of silence before it closed.
        self._features.reset()
        hops = self._window.push((yield from self._encoder.flush_steps()))
        scored = yield from self._judge([*hops, *self._window.flush()])
        return scored[: len(hops)], scored[len(hops) :]

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._features.reset()
        self._encoder.reset()
        self._window.reset()

    def _judge(self, windows: Sequence[Window]) -> Steps[list[Scored]]:
        posteriors = yield from self._head.steps([window.embeddings for window in windows])
        n = self._embedding_samples
        return [Scored(w.start * n, w.end * n, p) for w, p in zip(windows, posteriors, strict=True)]

    def _cut(self, output: SpeechOpened | SpeechContinued) -> Iterator[tuple[FrameLevels, NDArray[np.float32]]]:
        """Its frames cut where they complete blocks of features, with those; behind the last cut there are none."""
        first, more = self._features.missing_samples, self._features.block_samples
        features = self._features.push(output.samples)
        if isinstance(output, SpeechOpened):
            yield output.frames, features  # what came before its one frame belongs to it
            return
        cuts = [-(-end // FRAME_SAMPLES) for end in range(first, len(output.samples) + 1, more)]
        size = len(features) // max(len(cuts), 1)
        start = 0
        for i, end in enumerate(cuts):
            yield output.frames[start:end], features[i * size : (i + 1) * size]
            start = end
        if start < len(output.frames):
            yield output.frames[start:], features[:0]
