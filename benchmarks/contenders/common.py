"""How a contender is timed, in its own environment: NumPy and soundfile are there, nothing else is sure."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import soundfile

RATE_HZ = 16_000
WINDOW_S, HOP_S = 3.0, 0.25
AT_LEAST_S = 1.0
"""What is faster than that is done again and again."""


def windows(samples: np.ndarray) -> Iterator[np.ndarray]:
    """The last 3 s every 0.25 s, from the first second on, as our session has them."""
    hop, longest = round(HOP_S * RATE_HZ), round(WINDOW_S * RATE_HZ)
    for end in range(RATE_HZ, len(samples) + 1, hop):
        yield samples[max(0, end - longest) : end]


def compete(work: Callable[[np.ndarray], object]) -> None:
    """Hear the recording that the command line names; print seconds of work for a second of audio."""
    samples, rate_hz = soundfile.read(sys.argv[-1], dtype="float32")
    assert rate_hz == RATE_HZ
    work(samples[: 4 * RATE_HZ])  # compilers and caches have their time
    times = 0
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < AT_LEAST_S or not times:
        work(samples)
        times += 1
    print(json.dumps({"seconds_per_second": spent / times / (len(samples) / RATE_HZ)}))
