"""The gate opens for speech, with pre-roll, and for nothing else; its positions hold."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError
from realtime_ser.settings import GateSettings
from realtime_ser.stages.gate import GateOutput, Silence, SpeechClosed, SpeechContinued, SpeechGate, SpeechOpened

Demo = tuple[NDArray[np.int16], int]
Segment = tuple[SpeechOpened, SpeechClosed, int]


@pytest.fixture(scope="module")
def speech(demo: Demo) -> NDArray[np.float32]:
    samples, rate_hz = demo
    return soxr.resample(samples[: 15 * rate_hz] / 32768, rate_hz, 16_000).astype(np.float32)


def pink(n: int, level_dbfs: float) -> NDArray[np.float32]:
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(n))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 50)), n)
    return (noise * 10 ** (level_dbfs / 20) / noise.std()).astype(np.float32)


def segments(samples: NDArray[np.float32], settings: GateSettings | None = None) -> list[Segment]:
    gate = SpeechGate(settings)
    found: list[Segment] = []
    opened, heard = None, 0
    for output in (*gate.push(samples), *gate.flush()):
        if isinstance(output, SpeechOpened):
            opened, heard = output, len(output.samples)
        elif isinstance(output, SpeechContinued):
            heard += len(output.samples)
        elif isinstance(output, SpeechClosed):
            assert opened is not None
            found.append((opened, output, heard))
    return found


def speech_s(samples: NDArray[np.float32]) -> float:
    return sum(closed.speech_end - opened.onset for opened, closed, _ in segments(samples)) / 16_000


def facts(outputs: Iterable[GateOutput]) -> list[tuple[object, ...]]:
    """Of each 20 ms frame, for how many come together depends on the blocks."""
    found: list[tuple[object, ...]] = []
    for o in outputs:
        if isinstance(o, SpeechClosed):
            found.append((SpeechClosed, o.at, o.speech_end))
            continue
        n = len(o.frames)
        samples = np.split(o.samples, n) if isinstance(o, SpeechOpened | SpeechContinued) else [np.empty(0)] * n
        levels = zip(o.frames.level_dbfs.tolist(), o.frames.floor_dbfs.tolist(), samples, strict=True)
        for i, (level, floor, heard) in enumerate(levels):
            found.append((type(o), o.at - (n - 1 - i) * 320, level, floor, heard.tobytes()))
    return found


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 15 * 16_000), max_size=50))
def test_blocks_do_not_change_outputs(speech: NDArray[np.float32], cuts: list[int]) -> None:
    gate = SpeechGate()
    outputs = [o for part in np.split(speech, sorted(cuts)) for o in gate.push(part)]
    whole = SpeechGate()
    assert facts([*outputs, *gate.flush()]) == facts([*whole.push(speech), *whole.flush()])


def test_speech_opens_with_preroll_and_positions_hold(speech: NDArray[np.float32]) -> None:
    found = segments(speech)
    assert len(found) >= 3
    end = 0
    for opened, closed, heard in found:
        assert end <= opened.start <= opened.onset < closed.speech_end <= closed.at
        assert len(opened.samples) == opened.at - opened.start
        assert heard == closed.at - opened.start
        np.testing.assert_array_equal(opened.samples, speech[opened.start : opened.at])
        end = closed.at


@pytest.mark.parametrize("gain_db", [-30, -12, 6])
def test_a_gain_does_not_change_how_much_speech_is_heard(speech: NDArray[np.float32], gain_db: float) -> None:
    louder = np.clip(speech * 10 ** (gain_db / 20), -1, 1).astype(np.float32)
    assert speech_s(louder) == pytest.approx(speech_s(speech), rel=0.15)


def test_silence_never_opens() -> None:
    outputs = SpeechGate().push(np.zeros(160_000, np.float32))
    assert all(isinstance(o, Silence) for o in outputs)
    assert len(facts(outputs)) == 500


@pytest.mark.parametrize("kind", ["white", "fan"])
def test_steady_noise_does_not_open(kind: str) -> None:
    n = 60 * 16_000
    noise = pink(n, -40)
    if kind == "white":
        noise = np.random.default_rng(0).normal(0, 0.01, n).astype(np.float32)
    else:
        noise += (0.01 * np.sin(2 * np.pi * 50 * np.arange(n) / 16_000)).astype(np.float32)
    assert speech_s(noise) < 0.5


@pytest.mark.parametrize("before_dbfs", [-300, -100, -70])
def test_noise_that_sets_in_is_known_for_noise_soon(before_dbfs: float) -> None:
    quiet = np.random.default_rng(0).normal(0, 10 ** (before_dbfs / 20), 3 * 16_000).astype(np.float32)
    # The floor looks back 2 s, and webrtcvad learns a new noise in about one.
    assert speech_s(np.concatenate((quiet, pink(30 * 16_000, -50)))) < 3.5


def test_speech_is_found_in_noise(speech: NDArray[np.float32]) -> None:
    noisy = speech + pink(len(speech), 20 * np.log10(speech.std()) - 15)
    assert speech_s(noisy) > 0.6 * speech_s(speech)


def test_flush_closes_and_reset_forgets(speech: NDArray[np.float32]) -> None:
    gate = SpeechGate()
    outputs = gate.push(speech[: 3 * 16_000])
    assert not isinstance(outputs[-1], Silence)
    (closed,) = gate.flush()
    assert isinstance(closed, SpeechClosed)
    assert gate.flush() == []
    gate.reset()
    fresh = SpeechGate()
    assert facts(gate.push(speech)) == facts(fresh.push(speech))


@pytest.mark.parametrize(
    "change", [{"aggressiveness": 4}, {"onset_ms": 30}, {"hangover_ms": 0}, {"onset_ms": 300}, {"speech_stay": 0}]
)
def test_senseless_settings_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        GateSettings(**change)
