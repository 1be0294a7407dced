"""What a model says of many clips through the streaming `Session`, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime_ser.stages.model import load_model
from tools import metrics
from tools.corpora import Clip
from tools.listen import Condition, hear_all


@dataclass(frozen=True)
class Answers:
    """Clips, what they are and what was heard, numbered over the model's labels; -1 where nothing was scored."""

    clips: list[Clip]
    labels: tuple[str, ...]
    posteriors: NDArray[np.float32]
    """Shape (clips, labels); zeros where nothing was scored."""
    shown: list[str | None]
    """What a user reads: None while the session abstains."""

    @property
    def truth(self) -> metrics.Ints:
        return np.array([self.labels.index(str(c.emotion)) for c in self.clips])

    @property
    def scored(self) -> NDArray[np.bool_]:
        return self.posteriors.any(axis=1)

    @property
    def confidences(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Of what was scored: how sure, and whether right."""
        posteriors = self.posteriors[self.scored]
        return posteriors.max(axis=1), posteriors.argmax(axis=1) == self.truth[self.scored]

    def guess(self, among: Sequence[str]) -> metrics.Ints:
        """The best of some labels."""
        columns = np.array([self.labels.index(label) for label in among])
        return np.where(self.scored, columns[self.posteriors[:, columns].argmax(axis=1)], -1)

    def part(self, keep: Callable[[Clip], bool]) -> Answers:
        rows = [i for i, c in enumerate(self.clips) if keep(c)]
        return Answers([self.clips[i] for i in rows], self.labels, self.posteriors[rows], [self.shown[i] for i in rows])

    @property
    def speakers(self) -> list[str]:
        """Of each clip."""
        return [c.speaker for c in self.clips]

    def sample(self, among: Sequence[str]) -> metrics.Sample:
        """The UAR of the clips whose emotion is among these labels, forced to choose among them."""
        part = self.part(lambda c: c.emotion in among)
        truth, guess = part.truth, part.guess(among)
        return metrics.Sample(lambda rows: metrics.uar(truth[rows], guess[rows]), part.speakers)

    def uar(self, among: Sequence[str]) -> metrics.Interval:
        """That of `sample`, with its interval."""
        return metrics.bootstrap_mean([self.sample(among)])


def ask(clips: Sequence[Clip], model: str, condition: Condition, what: str) -> Answers:
    """Hear clips whose emotion the model knows."""
    labels = load_model(model).contract.labels
    kept = [c for c in clips if c.emotion in labels]
    heard = hear_all([c.path for c in kept], model, condition, what)
    nothing = np.zeros(len(labels), np.float32)
    posteriors = np.stack([nothing if h.posteriors is None else h.posteriors for h in heard])
    return Answers(kept, labels, posteriors, [h.label for h in heard])
