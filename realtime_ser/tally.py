"""A session's totals, from its own events."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from realtime_ser.events import Event, Gap, Measurement, SpeechEnded, SpeechStarted
from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.monitor import Notice, doubt


def samples_of(seconds: float) -> int:
    """An event's time, as the clock counts it."""
    return round(seconds * RATE_HZ)


class Tally:
    """How much was spoken, scored and lost, in samples, and how it was labelled.

    Parameters
    ----------
    labels
        The model's.
    hop_samples
        What is new in each window but an utterance's first.
    """

    def __init__(self, labels: Sequence[str], hop_samples: int) -> None:
        self._hop_samples = hop_samples
        self._measured = False
        """Whether the open utterance has had a measurement."""
        self._speech = self._scored = self._abstained = self._lost = 0
        self._labels = dict.fromkeys(labels, 0)
        self.doubted = False
        """Whether it was told that one emotion holds nearly all; it is told once."""

    def push(self, event: Event) -> None:
        """Give a session's events in order."""
        match event:
            case SpeechStarted():
                self._measured = False
            case SpeechEnded():
                self._speech += samples_of(event.duration_s)
            case Gap():
                self._lost += event.lost_samples
            case Measurement() if event.state != "no_speech" and (event.trigger == "hop" or not self._measured):
                # Of the windows of an utterance each but the first overlaps the one before.
                new = self._hop_samples if self._measured else samples_of(event.end_s) - samples_of(event.start_s)
                self._measured = True
                self._scored += new
                if event.label is None:
                    self._abstained += new
                else:
                    self._labels[event.label] += new

    def add(self, other: Tally) -> None:
        """What came after, counted by another."""
        self._speech += other._speech
        self._scored += other._scored
        self._abstained += other._abstained
        self._lost += other._lost
        for label, samples in other._labels.items():
            self._labels[label] += samples

    def copy(self) -> Tally:
        """Another with the same counts."""
        other = copy(self)
        other._labels = self._labels.copy()
        return other

    def doubt(self) -> Notice | None:
        """That one emotion holds nearly all of a long session, once."""
        notice = None if self.doubted else doubt(self._shares(), self._scored / RATE_HZ)
        self.doubted = self.doubted or notice is not None
        return notice

    def totals(self) -> dict[str, Any]:
        """The fields of `SessionClosed`."""
        return {
            "speech_s": self._speech / RATE_HZ,
            "scored_s": self._scored / RATE_HZ,
            "abstained_s": self._abstained / RATE_HZ,
            "lost_s": self._lost / RATE_HZ,
            "shares": self._shares(),
        }

    def _shares(self) -> dict[str, float]:
        """Of each label in the speech scored so far."""
        return {label: n / max(self._scored, 1) for label, n in self._labels.items()}
