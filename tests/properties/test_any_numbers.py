"""Whatever numbers arrive: finite scores or none, and a clock that counts samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
import soxr
from numpy.typing import NDArray

from realtime_ser import Session
from realtime_ser.events import Event, Measurement, SessionClosed, Warning
from realtime_ser.stages.model import Model

SECONDS = 4
Signal = Callable[[NDArray[np.float32], int], NDArray[np.float32]]


def noise(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(n).astype(np.float32)


def tone(n: int, rate_hz: int, hz: float) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hz / rate_hz * np.arange(n)).astype(np.float32)


def one_in(n: int, every: int, value: float) -> NDArray[np.float32]:
    return np.where(np.arange(n) % every, np.float32(0), np.float32(value))


# From speech of that length and its rate. What is added to speech must not hide that there is speech.
SIGNALS: dict[str, Signal] = {
    "NaN": lambda s, _: np.full_like(s, np.nan),
    "infinity": lambda s, _: np.full_like(s, -np.inf),
    "speech with NaN and infinities": lambda s, _: np.where(np.arange(len(s)) % 97, s, np.float32(np.inf)) + one_in(
        len(s), 101, np.nan
    ),
    "largest floats": lambda s, _: np.sign(s) * np.finfo(np.float32).max,
    "denormals": lambda s, _: noise(len(s)) * np.float32(1e-40),
    "speech as denormals": lambda s, _: s * np.float32(1e-38),
    "speech that decays to denormals": lambda s, _: (s * np.exp(-np.linspace(0, 200, len(s)))).astype(np.float32),
    "full-scale square wave": lambda s, r: np.sign(tone(len(s), r, 200)),
    "full scale at half the rate": lambda s, _: np.where(np.arange(len(s)) % 2, np.float32(1), np.float32(-1)),
    "DC": lambda s, _: np.full_like(s, 0.9),
    "speech on DC": lambda s, _: s * np.float32(0.1) + np.float32(0.9),
    "1-bit noise": lambda s, _: np.sign(noise(len(s))),
    "noise of the last bit": lambda s, _: np.sign(noise(len(s))) / np.float32(32768),
    "speech of one bit": lambda s, _: np.where(s < 0, np.float32(-1), np.float32(1)),
    "a tone above hearing": lambda s, r: tone(len(s), r, 0.48 * r),
    "speech under a tone above hearing": lambda s, r: s + tone(len(s), r, 0.48 * r),
    "clicks": lambda s, r: one_in(len(s), r, 1.0),
}  # fmt: skip


def check(events: list[Event], audio_s: float) -> list[Measurement]:
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.audio_s == audio_s
    found = [e for e in events if isinstance(e, Measurement)]
    for event in found:
        numbers = [event.confidence, event.arousal, event.valence, event.level_dbfs, event.snr_db]
        numbers += [*event.scores.values(), *event.scores_smooth.values()]
        assert all(math.isfinite(number) for number in numbers if number is not None)
        assert event.scores or event.state == "no_speech"
    hops = [e for e in found if e.trigger == "hop"]
    assert hops
    assert [e.end_s for e in hops] == sorted({e.end_s for e in hops})
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("name", SIGNALS)
def test_scores_are_finite_or_none(model: Model, demo: tuple[NDArray[np.int16], int], name: str, rate_hz: int) -> None:
    samples, demo_hz = demo
    speech = soxr.resample((samples[: SECONDS * demo_hz] / 32768).astype(np.float32), demo_hz, rate_hz)
    session = Session(model)
    signal = SIGNALS[name](speech, rate_hz)
    # And speech behind it is heard as after anything else.
    events = session.push(signal, rate_hz) + session.push(speech, rate_hz) + session.flush()
    found = check(events, 2 * SECONDS)
    assert any(e.scores for e in found if e.start_s >= SECONDS)
    told = sum(e.code == "bad_samples" for e in events if isinstance(e, Warning))
    assert bool(told) == (not np.isfinite(signal).all())


@pytest.mark.slow
def test_ten_hours_of_silence_cost_no_memory_and_no_drift(model: Model) -> None:
    hours, rate_hz = 10, 44_100
    block = np.zeros(rate_hz, np.int16)
    session = Session(model)

    def hear() -> Iterator[int]:
        """Bytes in use after each hour."""
        for hour in range(1, hours + 1):
            hops = 0
            for _ in range(3600):
                hops += sum(isinstance(e, Measurement) for e in session.push(block, rate_hz))
            # The resampler holds back less than one hop.
            assert hops in (4 * 3600 - 1, 4 * 3600)
            assert session.clock_s == 3600 * hour
            yield psutil.Process().memory_info().rss

    used = list(hear())
    events = session.flush()
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    assert (closed.audio_s, closed.speech_s, closed.lost_s) == (36_000, 0, 0)
    assert used[-1] - used[0] < 1 << 20, f"grew from {used[0]} to {used[-1]} bytes"
