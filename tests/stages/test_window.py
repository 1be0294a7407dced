"""Windows come when they should and hold what they should."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from realtime_ser.settings import WindowSettings
from realtime_ser.stages.window import LONGEST_UTTERANCE_S, SlidingWindow

RATE_HZ = 20


def counted(n: int) -> np.ndarray:
    """Embeddings that say their own number."""
    return np.arange(n, dtype=np.float32)[:, None]


@given(n=st.integers(0, 400), cuts=st.lists(st.integers(0, 400), max_size=20))
def test_blocks_do_not_matter(n: int, cuts: list[int]) -> None:
    def windows(edges: list[int]) -> list[tuple[int, int, list[float]]]:
        stage = SlidingWindow(WindowSettings(), RATE_HZ, 1)
        found = [w for part in np.split(counted(n), edges) for w in stage.push(part)] + stage.flush()
        return [(w.start, w.end, w.embeddings[:, 0].tolist()) for w in found]

    assert windows(sorted(c for c in cuts if c <= n)) == windows([])


def test_first_window_then_one_each_hop_of_at_most_the_window() -> None:
    stage = SlidingWindow(WindowSettings(window_s=3, hop_s=0.5, first_s=1), RATE_HZ, 1)
    windows = stage.push(counted(100))
    assert [w.end for w in windows] == list(range(20, 101, 10))
    assert all(w.end - w.start == min(w.end, 60) for w in windows)
    assert all(w.embeddings[:, 0].tolist() == list(range(w.start, w.end)) for w in windows)


def test_flush_gives_the_whole_utterance_and_forgets_it() -> None:
    stage = SlidingWindow(WindowSettings(), RATE_HZ, 1)
    stage.push(counted(90))
    (whole,) = stage.flush()
    assert (whole.start, whole.end) == (0, 90)
    assert stage.flush() == []


def test_an_utterance_too_short_gives_nothing() -> None:
    stage = SlidingWindow(WindowSettings(shortest_s=0.5), RATE_HZ, 1)
    stage.push(counted(9))
    assert stage.flush() == []


def test_a_first_window_may_come_after_more_than_is_kept() -> None:
    stage = SlidingWindow(WindowSettings(first_s=100), RATE_HZ, 1)
    (window,) = stage.push(counted(2_001))
    assert window.embeddings[:, 0].tolist() == list(range(1_940, 2_000))


def test_memory_is_bounded_and_the_latest_is_kept() -> None:
    stage = SlidingWindow(WindowSettings(), RATE_HZ, 1)
    n = 3 * int(LONGEST_UTTERANCE_S * RATE_HZ) + 7
    last = stage.push(counted(n))[-1]
    assert last.embeddings[:, 0].tolist() == list(range(last.start, last.end))
    (whole,) = stage.flush()
    assert (whole.start, whole.end) == (n - 600, n)
    assert whole.embeddings[:, 0].tolist() == list(range(n - 600, n))
