"""No sample is lost, doubled or reordered between two threads."""

from __future__ import annotations

import threading
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_ser.sources import Lost
from realtime_ser.sources.ring import RingBuffer


def losses(ring: RingBuffer) -> int:
    lost = ring.take_loss()
    return lost.samples if lost else 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60))
def test_what_is_read_is_what_was_written_and_losses_are_where_they_were(actions: list[tuple[bool, int]]) -> None:
    ring = RingBuffer(32, 1)
    expected: list[float] = []  # what fits, with -n for n samples lost there
    seen: list[float] = []
    count = 0

    def drain(most: int) -> None:
        while lost := ring.take_loss():
            seen.append(-lost.samples)
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
                time.sleep(0)
            ring.write(np.repeat(np.arange(at, at + n, dtype=np.float32)[:, None], 2, axis=1))
            at += n

    thread = threading.Thread(target=produce)
    thread.start()
    blocks = []
    arrived = 0
    while arrived < total:
        lost += losses(ring)
        block = ring.read(333)
        if not len(block):
            time.sleep(0)
        arrived += len(block)
        blocks.append(block)
    thread.join()
    samples = np.concatenate(blocks)
    assert lost == 0
    np.testing.assert_array_equal(samples[:, 0], np.arange(total, dtype=np.float32))
    np.testing.assert_array_equal(samples[:, 0], samples[:, 1])


@settings(max_examples=50)
@given(
    st.integers(1, 64),
    st.lists(st.integers(1, 100), min_size=1, max_size=80),
    st.lists(st.integers(1, 100), min_size=1, max_size=20),
)
def test_a_writer_that_never_waits_loses_samples_but_never_their_place(
    capacity: int, writes: list[int], reads: list[int]
) -> None:
    ring = RingBuffer(capacity, 1)
    total = sum(writes)
    samples = np.arange(total, dtype=np.float32)[:, None]

    def produce() -> None:
        for block in np.split(samples, np.cumsum(writes)[:-1]):
            ring.write(block)
            time.sleep(0)

    thread = threading.Thread(target=produce)
    thread.start()
    position = turn = 0
    deadline = time.monotonic() + 10
    while position < total:
        assert time.monotonic() < deadline, f"{total - position} samples are neither read nor lost"
        position += losses(ring)
        block = ring.read(reads[turn % len(reads)])
        turn += 1
        # Each sample's value is its position: so whatever was lost, the clock is right.
        np.testing.assert_array_equal(block[:, 0], np.arange(position, position + len(block)))
        position += len(block)
    thread.join()
    assert position == total


def test_a_loss_the_writer_knows_of_is_told_in_its_place() -> None:
    ring = RingBuffer(10, 1)
    ring.write(np.ones((4, 1), np.float32))
    ring.lose(Lost(3, "overflow"))
    ring.lose(Lost(4, "overflow"))
    ring.lose(Lost(5, "clock"))
    ring.write(np.full((3, 1), 2, np.float32))
    assert ring.take_loss() is None
    assert ring.read(10)[:, 0].tolist() == [1] * 4
    assert [ring.take_loss() for _ in range(3)] == [Lost(7, "overflow"), Lost(5, "clock"), None]
    assert ring.read(10)[:, 0].tolist() == [2] * 3


def test_the_oldest_can_be_dropped_up_to_a_loss() -> None:
    ring = RingBuffer(10, 1)
    ring.write(np.arange(4, dtype=np.float32)[:, None])
    ring.lose(Lost(7, "overflow"))
    ring.write(np.full((3, 1), 9, np.float32))
    assert ring.drop(2) == 2
    assert ring.drop(100) == 2
    assert ring.drop(100) == 0
    assert ring.take_loss() == Lost(7, "overflow")
    assert ring.read(10)[:, 0].tolist() == [9] * 3
