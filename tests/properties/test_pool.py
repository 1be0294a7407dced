"""A pool's streams are what each session would be alone, whatever the others do."""

from __future__ import annotations

import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime_ser import Session, SessionPool
from realtime_ser.errors import ModelError, SettingsError
from realtime_ser.events import Event, Gap, Marker, Measurement, SessionClosed, SessionCreated, SpeechStarted
from realtime_ser.pool import MOST_TOGETHER, OVERLOAD
from realtime_ser.stages.calls import Steps
from realtime_ser.stages.model import Model, load_model
from tests.stages.test_window_model import fails_for_speech

FEW = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
RATES_HZ = (16_000, 22_050, 48_000)


def essence(event: Event) -> dict[str, object]:
    """An event without the clock on the wall."""
    fields = event.to_dict()
    for record in (fields, fields.get("measurement") or {}):
        for key in ("session_id", "wall_time", "latency_ms"):
            record.pop(key, None)
    return fields


def drain(pool: SessionPool, into: dict[str, list[Event]]) -> None:
    for heard in pool.hear():
        assert heard.error is None
        into.setdefault(heard.key, []).extend(heard.events)


@pytest.fixture(scope="module")
def speech(demo: tuple[NDArray[np.int16], int]) -> NDArray[np.int16]:
    """Six seconds of the demo, taken for whatever rate: what is said does not matter here."""
    samples, rate_hz = demo
    return samples[: 6 * rate_hz]


def alone(model: Model, samples: NDArray[np.int16], rate_hz: int) -> list[dict[str, object]]:
    session = Session(model)
    return [essence(e) for e in session.push(samples, rate_hz) + session.flush()]


@FEW
@given(data=st.data())
def test_each_stream_gives_what_its_session_gives_alone(
    model: Model, speech: NDArray[np.int16], data: st.DataObject
) -> None:
    rates_hz = data.draw(st.lists(st.sampled_from(RATES_HZ), min_size=1, max_size=4))
    pool = SessionPool(longest_wait_s=60)
    heard: dict[str, list[Event]] = {}
    blocks: dict[str, list[NDArray[np.int16]]] = {}
    for i in range(len(rates_hz)):
        pool.add(str(i), Session(model))
        cuts = data.draw(st.lists(st.integers(0, len(speech)), max_size=20))
        blocks[str(i)] = [speech[start:end] for start, end in pairwise([0, *sorted(cuts), len(speech)])]
    while left := [key for key in blocks if blocks[key]]:
        key = data.draw(st.sampled_from(left))
        pool.push(key, blocks[key].pop(0), rates_hz[int(key)])
        if not blocks[key]:
            pool.close(key)
        if data.draw(st.booleans()):
            drain(pool, heard)
    drain(pool, heard)
    assert len(pool) == 0
    for key, events in heard.items():
        assert [essence(e) for e in events] == alone(model, speech, rates_hz[int(key)])


def test_threads_push_while_one_hears(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool(longest_wait_s=60)
    heard: dict[str, list[Event]] = {}
    keys = [str(i) for i in range(6)]
    for key in keys:
        pool.add(key, Session(model))

    def feed(key: str) -> None:
        for start in range(0, len(speech), 320):
            pool.push(key, speech[start : start + 320])
        pool.close(key)

    feeders = [threading.Thread(target=feed, args=(key,)) for key in keys]
    for feeder in feeders:
        feeder.start()
    while len(pool):
        for turn in pool.hear(timeout_s=1):
            heard.setdefault(turn.key, []).extend(turn.events)
    expected = alone(model, speech, 16_000)
    assert all([essence(e) for e in heard[key]] == expected for key in keys)


def test_many_streams_share_runs_and_a_round_may_be_left_in_its_middle(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool(longest_wait_s=60)
    heard: dict[str, list[Event]] = {}
    keys = [str(i) for i in range(3 * MOST_TOGETHER)]
    for key in keys:
        pool.add(key, Session(model))
    for start in range(0, len(speech), 9_000):
        for key in keys:
            pool.push(key, speech[start : start + 9_000])
        while (turn := next(pool.hear(), None)) is not None:
            heard.setdefault(turn.key, []).extend(turn.events)
    for key in keys:
        pool.close(key)
    drain(pool, heard)
    assert len(pool) == 0
    expected = alone(model, speech, 16_000)
    assert all([essence(e) for e in heard[key]] == expected for key in keys)


def test_a_stream_that_waits_too_long_loses_its_own_audio_and_says_so(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool(longest_wait_s=1.0)
    heard: dict[str, list[Event]] = {}
    for key in ("slow", "other"):
        pool.add(key, Session(model))
    pool.push("other", speech[:8000])
    length = round(2.5 * 22_050)
    for start in range(0, length, 440):  # no whole number of 16 kHz samples
        pool.push("slow", speech[start : min(start + 440, length)], 22_050)
    pool.call("slow", lambda session: session.mark("after it"))
    for key in ("slow", "other"):
        pool.close(key)
    drain(pool, heard)
    assert not [e for e in heard["other"] if isinstance(e, Gap)]
    (gap,) = (e for e in heard["slow"] if isinstance(e, Gap))
    (mark,) = (e for e in heard["slow"] if isinstance(e, Marker))
    (closed,) = (e for e in heard["slow"] if isinstance(e, SessionClosed))
    assert (gap.cause, gap.start_s) == (OVERLOAD, 0)
    assert 1.9 < gap.end_s <= 2.1
    assert closed.audio_s == pytest.approx(2.5, abs=2 / 16_000)
    assert mark.end_s == closed.audio_s


def test_latency_counts_the_wait(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool(longest_wait_s=60)
    pool.add("one", Session(model))
    pool.push("one", speech)
    time.sleep(0.2)
    (turn,) = pool.hear()
    assert min(e.latency_ms for e in turn.events if isinstance(e, Measurement)) >= 200


def test_a_stream_is_heard_when_there_is_something_to_tell(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool()
    pool.add("one", Session(model))
    events: list[Event] = []
    n_turns = n_in_vain = 0
    for start in range(0, len(speech), 320):
        pool.push("one", speech[start : start + 320])
        for turn in pool.hear():
            n_turns += 1
            n_in_vain += not turn.events
            events += turn.events
            hops = [e.end_s for e in turn.events if isinstance(e, Measurement) and e.trigger == "hop"]
            # One at a time, and not before the block that completes it.
            assert len(hops) <= 1
            assert all((start + 320) / 16_000 - hop_s < 0.06 for hop_s in hops)  # a frame reaches past its hop
    pool.close("one")
    drain(pool, heard := {"one": events})
    assert n_in_vain < n_turns / 4
    assert n_turns < len(speech) / 16_000 * 6
    assert [essence(e) for e in heard["one"]] == alone(model, speech, 16_000)


def test_one_failing_stream_fails_alone(model: Model, speech: NDArray[np.int16]) -> None:
    def fail(session: Session) -> list[Event]:
        raise ModelError("no finite numbers", "use another model")

    pool = SessionPool()
    for key in ("good", "bad"):
        pool.add(key, Session(model))
        pool.push(key, speech[:16_000])
    pool.call("bad", fail)
    turns = {turn.key: turn for turn in pool.hear()}
    assert turns["good"].error is None
    assert "no finite numbers" in str(turns["bad"].error)
    assert isinstance(turns["bad"].events[0], SessionCreated)  # what came before it
    assert isinstance(closed := turns["bad"].events[-1], SessionClosed)
    assert (closed.reason, closed.audio_s) == ("error", 1)
    pool.push("good", speech[:16_000])
    with pytest.raises(SettingsError, match="bad: is not open"):
        pool.push("bad", speech[:16_000])


def test_a_stream_whose_model_fails_tells_what_its_session_would(
    demo: tuple[NDArray[np.int16], int], tmp_path: Path
) -> None:
    samples, rate_hz = demo[0][: 12 * demo[1]], demo[1]
    stranger = load_model(fails_for_speech(tmp_path / "m.onnx"))
    session = Session(stranger)
    with pytest.raises(ModelError) as failed:
        session.push(samples, rate_hz)
    expected = session.flush("error", str(failed.value))
    assert any(isinstance(event, SpeechStarted) for event in expected)
    pool = SessionPool(longest_wait_s=60)
    pool.add("bad", Session(stranger))
    pool.push("bad", samples, rate_hz)
    (turn,) = pool.hear()
    assert isinstance(turn.error, ModelError)
    assert [essence(event) for event in turn.events] == [essence(event) for event in expected]


def test_an_act_may_return_nothing_and_empty_blocks_do_not_pile_up(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool()
    pool.add("one", Session(model))
    clocks_s: list[float] = []
    pool.push("one", speech[:16_000])
    pool.call("one", lambda session: clocks_s.append(session.clock_s))
    assert [turn.error for turn in pool.hear()] == [None]
    assert clocks_s == [1]
    empty = np.empty((0, 2), np.int16)
    tracemalloc.start()
    for _ in range(10_000):
        pool.push("one", empty)
    assert tracemalloc.get_traced_memory()[0] < 100_000
    tracemalloc.stop()
    pool.push("one", speech[16_000:32_000])
    pool.close("one")
    drain(pool, heard := {})
    assert isinstance(closed := heard["one"][-1], SessionClosed)
    assert closed.audio_s == 2


def test_two_threads_hear_one_after_the_other_or_are_told(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool(longest_wait_s=60)
    keys = [str(i) for i in range(20)]
    for key in keys:
        pool.add(key, Session(model))
        pool.push(key, speech)
    with ThreadPoolExecutor(1) as another:
        turns = pool.hear()
        found = [another.submit(next, turns).result()]
        with pytest.raises(SettingsError, match="two threads hear one pool"):
            next(pool.hear())
        found += another.submit(list, turns).result()
    for key in keys:
        pool.close(key)
    found += pool.hear()
    expected = alone(model, speech, 16_000)
    for key in keys:
        assert [essence(event) for turn in found if turn.key == key for event in turn.events] == expected


def test_a_network_that_cannot_be_run_ends_its_own_stream(model: Model, speech: NDArray[np.int16]) -> None:
    class Broken(Session):
        def steps(
            self, block: NDArray[Any], sample_rate: int = 16_000, arrived: float | None = None
        ) -> Steps[list[Event]]:
            for call in super().steps(block, sample_rate, arrived):
                yield replace(call, feed={f"no_{name}": x for name, x in call.feed.items()})
            return []

    pool = SessionPool()
    pool.add("bad", Broken(model))
    pool.push("bad", speech[:16_000])
    turns = {turn.key: turn for turn in pool.hear()}
    assert "no_" in str(turns["bad"].error)  # by onnxruntime itself
    assert isinstance(turns["bad"].events[-1], SessionClosed)
    pool.add("bad", Session(model))
    pool.push("bad", speech[:16_000])
    assert [turn.error for turn in pool.hear()] == [None]


def test_wrong_use_is_told_where_it_happens(model: Model, speech: NDArray[np.int16]) -> None:
    pool = SessionPool()
    pool.add("one", Session(model))
    with pytest.raises(SettingsError, match="in the pool already"):
        pool.add("one", Session(model))
    for block, rate_hz in ((speech[:160], 0), (speech[:160].astype(complex), 16_000), (np.zeros((1, 2, 3)), 16_000)):
        with pytest.raises(SettingsError):
            pool.push("one", block, rate_hz)
    pool.close("one")
    with pytest.raises(SettingsError, match="not open"):
        pool.close("one")
    assert [turn.events[-1].type for turn in pool.hear()] == ["session.closed"]
    assert list(pool.hear()) == []
