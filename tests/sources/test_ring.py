"""No sample is lost, doubled or reordered between two threads."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from realtime_ser.sources.ring import RingBuffer


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60))
def test_what_is_read_is_what_was_written_and_losses_are_where_they_were(actions: list[tuple[bool, int]]) -> None:
    ring = RingBuffer(32, 1)
    expected: list[float] = []  # what fits, with -n for n samples lost there
    seen: list[float] = []
    count = 0

    def drain(most: int) -> None:
        if lost := ring.take_loss():
            seen.append(-lost)
        seen.extend(ring.read(most)[:, 0].tolist())

    for writes, n in actions:
        if writes:
            block = np.arange(count + 1, count + 1 + n, dtype=np.float32)[:, None]
            count += n
            missed = ring.write(block)
            expected += block[: n - missed, 0].tolist()
            if missed:
                if expected and expected[-1] < 0:
                    expected[-1] -= missed
                else:
                    expected.append(-missed)
        else:
            drain(n)
    for _ in range(100):
        drain(40)
    # Losses at one place may be told in pieces.
    merged: list[float] = []
    for value in seen:
        if value < 0 and merged and merged[-1] < 0:
            merged[-1] += value
        else:
            merged.append(value)
    assert merged == expected


def test_two_threads_agree() -> None:
    ring = RingBuffer(1_000, 2)
    total = 300_000
    lost = 0

    def produce() -> None:
        rng = np.random.default_rng(0)
        at = 0
        while at < total:
            n = min(int(rng.integers(1, 400)), total - at)
            # A producer that waits for room, so that all must arrive.
            while 1_000 - ring.available < n:
                pass
            ring.write(np.repeat(np.arange(at, at + n, dtype=np.float32)[:, None], 2, axis=1))
            at += n

    thread = threading.Thread(target=produce)
    thread.start()
    blocks = []
    arrived = 0
    while arrived < total:
        lost += ring.take_loss()
        block = ring.read(333)
        arrived += len(block)
        blocks.append(block)
    thread.join()
    samples = np.concatenate(blocks)
    assert lost == 0
    np.testing.assert_array_equal(samples[:, 0], np.arange(total, dtype=np.float32))
    np.testing.assert_array_equal(samples[:, 0], samples[:, 1])


def test_a_loss_the_writer_knows_of_is_told_in_its_place() -> None:
    ring = RingBuffer(10, 1)
    ring.write(np.ones((4, 1), np.float32))
    ring.lose(7)
    ring.write(np.full((3, 1), 2, np.float32))
    assert ring.take_loss() == 0
    assert ring.read(10)[:, 0].tolist() == [1] * 4
    assert ring.take_loss() == 7
    assert ring.read(10)[:, 0].tolist() == [2] * 3
