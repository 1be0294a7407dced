"""What a session's caller may do, and what its measurements of a whole utterance say of level."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime_ser import Session, SessionPool
from realtime_ser.errors import SettingsError
from realtime_ser.events import Event, Measurement, SpeechEnded, Warning
from realtime_ser.settings import GateSettings, SessionSettings, TraceSettings, WindowSettings
from realtime_ser.stages.model import Model
from realtime_ser.stages.monitor import SILENT_ZEROS
from realtime_ser.stages.resample import FULL_SCALE
from realtime_ser.timeline.pool import FilePool

SPEECH_S = 20


@pytest.fixture(scope="module")
def speech(demo: tuple[NDArray[np.int16], int]) -> tuple[NDArray[np.float32], int]:
    samples, rate_hz = demo
    return samples[: SPEECH_S * rate_hz].astype(np.float32) / 2**15, rate_hz


def heard(model: Model, samples: NDArray[Any], rate_hz: int) -> list[Event]:
    session = Session(model)
    return session.push(samples, rate_hz) + session.flush()


def of_file(model: Model, events: list[Event]) -> Measurement:
    found = FilePool(model.contract.labels, TraceSettings()).push(events)
    assert found is not None
    return found


def test_an_utterance_and_a_file_tell_the_level_of_their_speech(
    model: Model, speech: tuple[NDArray[np.float32], int]
) -> None:
    samples, rate_hz = speech
    events = heard(model, samples, rate_hz)
    levels_dbfs = []
    for end in events:
        if not isinstance(end, SpeechEnded) or end.end_s > SPEECH_S - 1:
            continue  # the last one is cut off
        spoken = end.measurement
        assert spoken is not None
        spoken_until_s = end.end_s - SessionSettings().gate.hangover_ms / 1000
        of_it = samples[round((spoken_until_s - end.duration_s) * rate_hz) : round(spoken_until_s * rate_hz)]
        assert spoken.level_dbfs == pytest.approx(10 * np.log10(np.mean(of_it**2)), abs=1)
        hops = [e for e in events if isinstance(e, Measurement) and (e.utterance, e.trigger) == (end.utterance, "hop")]
        assert spoken.snr_db == pytest.approx(np.median([h.snr_db for h in hops if h.snr_db]), abs=6)
        levels_dbfs.append(spoken.level_dbfs)
    assert len(levels_dbfs) >= 3
    whole = of_file(model, events)
    assert min(levels_dbfs) <= (whole.level_dbfs or 0) <= max(levels_dbfs)
    assert 20 < (whole.snr_db or 0) < 50


def test_what_is_clipped_in_an_utterance_is_counted_in_it_and_in_its_file(
    model: Model, speech: tuple[NDArray[np.float32], int]
) -> None:
    samples, rate_hz = speech
    events = heard(model, np.clip(30 * samples, -1, 1), rate_hz)
    whole = [e.measurement.clipped for e in events if isinstance(e, SpeechEnded) and e.measurement]
    by_hops = sum(e.clipped for e in events if isinstance(e, Measurement) and e.trigger == "hop")
    assert 0.8 * by_hops < sum(whole) <= by_hops
    assert of_file(model, events).clipped == sum(whole)


def test_a_channel_that_is_clipped_is_noticed_beside_a_silent_one(
    model: Model, speech: tuple[NDArray[np.float32], int]
) -> None:
    samples, rate_hz = speech
    loud = np.clip(30 * samples, -1, 1)
    mono = heard(model, loud, rate_hz)
    stereo = heard(model, np.stack((np.zeros_like(loud), loud), axis=1), rate_hz)
    n_clipped = int((np.abs(loud) >= FULL_SCALE).sum())
    for events in (mono, stereo):
        assert "clipped" in {e.code for e in events if isinstance(e, Warning)}
        counted = sum(e.clipped for e in events if isinstance(e, Measurement) and e.trigger == "hop")
        assert 0.5 * n_clipped < counted <= n_clipped  # what begins an utterance is no hop's


@pytest.mark.parametrize("window_s", [0.5, 0.75, 10.0])
def test_rows_end_one_after_the_other_whatever_the_window(
    model: Model, speech: tuple[NDArray[np.float32], int], window_s: float
) -> None:
    samples, rate_hz = speech
    session = Session(model, SessionSettings(window=WindowSettings(window_s=window_s)))
    events = session.push(samples, rate_hz) + session.flush()
    ends_s = [e.end_s for e in events if isinstance(e, Measurement) and e.trigger == "hop"]
    assert ends_s == sorted(ends_s)


def test_settings_that_do_not_fit_each_other_or_the_model_are_refused(model: Model) -> None:
    for gate, window in (
        ({"preroll_ms": 1_000}, {}),
        ({"hangover_ms": 40_000}, {}),
        ({}, {"first_s": 0.5}),
        ({}, {"first_s": float("inf")}),
        ({}, {"shortest_s": 0.0}),
        ({}, {"window_s": "3"}),
        ({"onset_ms": None}, {}),
        ({"min_level_dbfs": float("nan")}, {}),
    ):
        with pytest.raises(SettingsError):
            SessionSettings(gate=GateSettings(**gate), window=WindowSettings(**window))
    with pytest.raises(SettingsError):
        TraceSettings(time_constant_s=float("inf"))
    for odd in ({}, GateSettings()):
        with pytest.raises(SettingsError, match="give SessionSettings"):
            Session(model, odd)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="gate"):
        SessionSettings(gate=WindowSettings())  # type: ignore[arg-type]
    picky = replace(model, contract=replace(model.contract, shortest_window_s=1.0))
    with pytest.raises(SettingsError, match=r"takes 1\.0 to 10\.0 s"):
        Session(picky, SessionSettings(window=WindowSettings(window_s=0.75)))


def test_numbers_of_any_kind_are_settings_and_gaps(model: Model) -> None:
    gate = GateSettings(preroll_ms=np.int64(540), hangover_ms=600.0)  # type: ignore[arg-type]
    trace = TraceSettings(abstain_below=np.float32(0.5))  # type: ignore[arg-type]
    session = Session(model, SessionSettings(gate=gate, trace=trace))
    hour = np.int32(16_000 * 3_600)
    events = [event for _ in range(40) for event in session.gap(hour, "test")]  # type: ignore[arg-type]
    assert session.clock_s == 40 * 3_600
    for lost in (0, -1, 0.5, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="whole number"):
            session.gap(lost, "test")  # type: ignore[arg-type]
    assert all(json.dumps(e.to_dict(), allow_nan=False) for e in [*events, *session.flush()])


def test_an_empty_block_ends_nothing(model: Model, speech: tuple[NDArray[np.float32], int]) -> None:
    samples, rate_hz = speech
    session, events = Session(model), []
    for block in np.array_split(samples, 50):
        events += session.push(block, rate_hz)
        events += session.push(np.empty((0, 2), np.float32), 44_100)
    events += session.flush()
    expected = heard(model, samples, rate_hz)
    assert [(e.type, e.start_s, e.end_s) for e in events] == [(e.type, e.start_s, e.end_s) for e in expected]


@pytest.mark.parametrize("number", [float, np.float64, np.int32, np.int16])
def test_a_rate_may_be_any_whole_number(
    model: Model, speech: tuple[NDArray[np.float32], int], number: type[float]
) -> None:
    samples, rate_hz = speech
    session, pool = Session(model), SessionPool(longest_wait_s=60)
    pool.add("one", Session(model))
    events = []
    for block in np.array_split(samples, 5):
        events += session.push(block, number(rate_hz))  # type: ignore[arg-type]  # as a caller without a type checker
        pool.push("one", block, number(rate_hz))  # type: ignore[arg-type]
    expected = [(e.type, e.end_s) for e in heard(model, samples, rate_hz)]
    assert [(e.type, e.end_s) for e in events + session.flush()] == expected
    pool.close("one")
    assert [(e.type, e.end_s) for turn in pool.hear() for e in turn.events] == expected


@pytest.mark.parametrize(
    ("block", "rate_hz", "match"),
    [
        (np.zeros((2, 16_000), np.float32), 16_000, "shape"),  # channels first
        (np.zeros(160, np.float32), 44_100.5, "44100.5 Hz"),
        (np.zeros(160, np.float32), float("nan"), "nan Hz"),
    ],
)
def test_what_is_no_audio_is_refused_and_the_session_goes_on(
    model: Model, speech: tuple[NDArray[np.float32], int], block: NDArray[np.float32], rate_hz: float, match: str
) -> None:
    samples, true_rate_hz = speech
    session = Session(model)
    with pytest.raises(SettingsError, match=match):
        session.push(block, rate_hz)  # type: ignore[arg-type]
    found = session.push(samples, true_rate_hz) + session.flush()
    assert [e.type for e in found] == [e.type for e in heard(model, samples, true_rate_hz)]


def test_nothing_is_marked_behind_the_end(model: Model) -> None:
    session = Session(model)
    session.flush()
    with pytest.raises(SettingsError, match="mark after flush"):
        session.mark("too late")
    with pytest.raises(SettingsError, match="warn after flush"):
        session.warn(SILENT_ZEROS)


def test_versions_are_unknown_where_packages_were_copied_without_their_metadata() -> None:
    program = (
        "import sys; from realtime_ser import Session; session = Session()\n"
        "sys.path.clear()  # where metadata is looked for\n"
        "print(session.flush()[0].versions['realtime-ser'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("unknown\n", "")


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">f4", ">f8"])
def test_samples_may_come_in_the_order_of_the_network(
    model: Model, speech: tuple[NDArray[np.float32], int], dtype: str
) -> None:
    samples, rate_hz = speech
    samples = samples[: 4 * rate_hz]
    scale = {">i2": 2**15, ">i4": 2**31}.get(dtype, 1)
    found = heard(model, (samples * scale).astype(dtype), rate_hz)
    assert [(e.type, e.end_s) for e in found] == [(e.type, e.end_s) for e in heard(model, samples, rate_hz)]


def test_whatever_goes_wrong_in_one_stream_of_a_pool_others_are_heard(
    model: Model, speech: tuple[NDArray[np.float32], int]
) -> None:
    samples, rate_hz = speech
    pool = SessionPool(longest_wait_s=60)
    for key in ("good", "bad"):
        pool.add(key, Session(model))
        pool.push(key, samples, rate_hz)
    pool.call("bad", lambda session: [{}["no such key"]])
    pool.close("good")
    found: dict[str, Exception | None] = {}

    def hear() -> None:
        for turn in pool.hear():
            found[turn.key] = turn.error

    thread = threading.Thread(target=hear)
    thread.start()
    thread.join(30)
    assert found["good"] is None
    assert isinstance(found["bad"], KeyError)
    assert len(pool) == 0


def test_a_pool_loses_nothing_of_a_stream_that_was_not_kept_waiting(
    model: Model, speech: tuple[NDArray[np.float32], int]
) -> None:
    samples, rate_hz = speech
    pool = SessionPool(longest_wait_s=1.0)
    pool.add("one", Session(model))
    pool.push("one", samples[: rate_hz // 5], rate_hz)
    assert list(pool.hear()) == []  # too little for a hop
    pool.push("one", samples[rate_hz // 5 :][: round(0.9 * rate_hz)], rate_hz)
    pool.close("one")
    events = [event for turn in pool.hear() for event in turn.events]
    assert "gap" not in {event.type for event in events}
    assert events[-1].end_s == pytest.approx(1.1)
