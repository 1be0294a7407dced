"""Runs of networks, asked for rather than made, so that those of many streams can be one run.

A stage that needs a network is a generator: it yields a `Call`, is sent what that gives, and returns its result.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

T = TypeVar("T")
Outputs = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Call:
    """One run of a network of ours, for one stream."""

    session: InferenceSession
    outputs: tuple[str, ...]
    feed: dict[str, NDArray[np.float32]]
    """Each of shape (n, …) with the same n: 1 for an encoder, windows for a head, frames for the gate's detector."""

    @property
    def kind(self) -> tuple[object, ...]:
        """Calls of the same kind can be one."""
        return self.session, *(x.shape for x in self.feed.values())


Steps = Generator[Call, Outputs, T]


def alone(steps: Steps[T]) -> T:
    """Make each run as it is asked for."""
    try:
        call = next(steps)
        while True:
            call = steps.send(call.session.run(call.outputs, call.feed))
    except StopIteration as stop:
        result: T = stop.value
        return result


def run_together(calls: Sequence[Call]) -> list[Outputs]:
    """Runs of one kind as one; each gets what it would get alone, to the last bit (`tests/stages/test_calls.py`)."""
    first = calls[0]
    if len(calls) == 1:
        return [first.session.run(first.outputs, first.feed)]
    feed = {name: np.concatenate([call.feed[name] for call in calls]) for name in first.feed}
    given = first.session.run(first.outputs, feed)
    size = len(next(iter(first.feed.values())))
    return [[x[i * size : (i + 1) * size] for x in given] for i in range(len(calls))]
