"""However samples are cut into blocks and whatever their type, the events are identical."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime_ser import Session
from realtime_ser.events import Event, Gap, Measurement, SessionClosed, SpeechEnded
from realtime_ser.settings import RestSettings, SessionSettings
from realtime_ser.stages.model import Model

FEW = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000)


def essence(event: Event) -> dict[str, Any]:
    """An event without the clock on the wall."""
    fields = event.to_dict()
    for record in (fields, fields.get("measurement") or {}):
        for key in ("session_id", "wall_time", "latency_ms"):
            record.pop(key, None)
    return fields


def run(
    model: Model, samples: NDArray[Any], rate_hz: int, cuts: list[int], how: SessionSettings | None = None
) -> list[dict[str, Any]]:
    session = Session(model, how)
    events: list[Event] = []
    for start, end in pairwise([0, *sorted(cuts), len(samples)]):
        events += session.push(samples[start:end], rate_hz)
    return [essence(e) for e in events + session.flush()]


@pytest.fixture(scope="module")
def speech(demo: tuple[NDArray[np.int16], int]) -> dict[int, NDArray[np.int16]]:
    """Eight seconds of the demo at every rate."""
    samples, rate_hz = demo
    part = samples[: 8 * rate_hz] / 32768
    return {r: np.rint(soxr.resample(part, rate_hz, r) * 32767).astype(np.int16) for r in RATES_HZ}


@FEW
@given(data=st.data())
def test_block_sizes_do_not_change_events(
    model: Model, speech: dict[int, NDArray[np.int16]], data: st.DataObject
) -> None:
    rate_hz = data.draw(st.sampled_from(RATES_HZ))
    samples = speech[rate_hz]
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=40))
    # A run of single samples somewhere, as the worst of callers does.
    lone = data.draw(st.integers(0, len(samples) - 300))
    assert run(model, samples, rate_hz, cuts + list(range(lone, lone + 300))) == run(model, samples, rate_hz, [])


@FEW
@given(data=st.data())
def test_nor_do_they_where_a_session_begins_anew(
    model: Model, speech: dict[int, NDArray[np.int16]], data: st.DataObject
) -> None:
    rate_hz = data.draw(st.sampled_from(RATES_HZ))
    part, pause = speech[rate_hz][: 4 * rate_hz], np.zeros(2 * rate_hz, np.int16)
    samples = np.concatenate([part, pause] * 3)
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=20))
    often = SessionSettings(rest=RestSettings(every_s=5))
    found, seldom = run(model, samples, rate_hz, cuts, often), run(model, samples, rate_hz, [])
    assert found == run(model, samples, rate_hz, [], often)
    assert found[1:] != seldom[1:]  # a rest changes a little
    numbers = [e["utterance"] for e in found if e["type"] == "speech.ended"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert found[-1]["audio_s"] == seldom[-1]["audio_s"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_the_dtype_of_equal_samples_does_not_change_events(
    model: Model, speech: dict[int, NDArray[np.int16]], dtype: type, rate_hz: int
) -> None:
    samples = speech[rate_hz]
    other = samples.astype(np.int32) << 16 if dtype is np.int32 else (samples / 32768).astype(dtype)
    assert run(model, other, rate_hz, [1000, 50_000]) == run(model, samples, rate_hz, [])


def test_equal_channels_give_what_one_channel_gives(model: Model, speech: dict[int, NDArray[np.int16]]) -> None:
    samples = speech[16_000]
    assert run(model, np.stack((samples, samples), axis=1), 16_000, [777]) == run(model, samples, 16_000, [])


def test_a_gain_changes_no_label(model: Model, speech: dict[int, NDArray[np.int16]]) -> None:
    whole = speech[16_000] / 32768
    quiet, loud = (run(model, whole * g, 16_000, []) for g in (0.25, 1.0))
    labels = [
        [e["label_raw"] for e in events if e.get("trigger") == "hop" and e["label_raw"]] for events in (quiet, loud)
    ]
    assert labels[1]
    assert len(labels[0]) == pytest.approx(len(labels[1]), abs=4)
    same = sum(a == b for a, b in zip(*labels, strict=False))
    assert same >= 0.8 * min(map(len, labels))


@FEW
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 60_000)),
            st.tuples(st.just("gap"), st.integers(1, 50_000)),
            st.tuples(st.just("mark"), st.just(0)),
        ),
        max_size=12,
    )
)
def test_clock_runs_on_and_seq_has_no_holes_whatever_happens(
    model: Model, speech: dict[int, NDArray[np.int16]], actions: list[tuple[str, int]]
) -> None:
    session = Session(model)
    events: list[Event] = []
    total = 0
    for action, amount in actions:
        if action == "push":
            events += session.push(speech[16_000][:amount])
            total += min(amount, len(speech[16_000]))
        elif action == "gap":
            events += session.gap(amount, "test")
            total += amount
        else:
            events += session.mark("here")
    events += session.flush()
    assert [e.seq for e in events] == list(range(len(events)))
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.audio_s == total / 16_000
    assert all(0 <= e.start_s <= e.end_s <= closed.audio_s for e in events)
    assert sum(e.lost_samples for e in events if isinstance(e, Gap)) == sum(n for a, n in actions if a == "gap")


def test_no_measurement_spans_a_gap(model: Model, speech: dict[int, NDArray[np.int16]]) -> None:
    session = Session(model)
    samples = speech[16_000]
    events = session.push(samples) + session.gap(16_000, "test") + session.push(samples) + session.flush()
    gap = next(e for e in events if isinstance(e, Gap))
    assert gap.end_s == gap.start_s + 1
    for event in events:
        if isinstance(event, (Measurement, SpeechEnded)):
            assert event.end_s <= gap.start_s or event.start_s >= gap.end_s
    # What comes after the gap is what a new session says, a gap's length later.
    fresh = Session(model)
    alone = [e for e in fresh.push(samples) + fresh.flush() if isinstance(e, Measurement)]
    after = [e for e in events if isinstance(e, Measurement) and e.start_s >= gap.end_s]
    assert [e.scores for e in after] == [e.scores for e in alone]
    assert [round(e.start_s - gap.end_s, 6) for e in after] == [round(e.start_s, 6) for e in alone]


@FEW
@given(data=st.data())
def test_a_pause_before_a_gap_changes_nothing_but_when_events_come(
    model: Model, speech: dict[int, NDArray[np.int16]], data: st.DataObject
) -> None:
    rate_hz = data.draw(st.sampled_from(RATES_HZ))
    samples = np.concatenate([speech[rate_hz][: 4 * rate_hz], np.zeros(2 * rate_hz, np.int16)] * 2)
    at = data.draw(st.integers(0, len(samples)))
    often = SessionSettings(rest=RestSettings(every_s=5))
    sessions = Session(model, often), Session(model, often)
    one, other = (session.push(samples[:at], rate_hz) for session in sessions)
    one += sessions[0].pause()
    assert not sessions[0].speaking
    for session, events in zip(sessions, (one, other), strict=True):
        events += session.gap(16_000, "test") + session.push(samples, rate_hz) + session.flush()
    assert [essence(e) for e in one] == [essence(e) for e in other]


def test_silence_has_no_scores(model: Model) -> None:
    session = Session(model)
    events = session.push(np.zeros(32_000, np.float32)) + session.flush()
    silent = [e for e in events if isinstance(e, Measurement)]
    assert len(silent) == 8
    for event in silent:
        assert event.state == "no_speech"
        assert (event.label, event.confidence, dict(event.scores), event.level_dbfs) == (None, None, {}, None)


def test_window_longer_than_the_model_allows_is_refused(model: Model) -> None:
    from realtime_ser import SessionSettings, WindowSettings
    from realtime_ser.errors import SettingsError

    with pytest.raises(SettingsError, match="window"):
        Session(model, replace(SessionSettings(), window=WindowSettings(window_s=11)))
