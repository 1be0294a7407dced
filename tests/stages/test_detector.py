"""What the gate's network hears does not depend on the level, and knows speech from noise."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from realtime_ser.stages.calls import alone
from realtime_ser.stages.detector import FRAME_SAMPLES, SpectrumContext, speech_steps
from realtime_ser.stages.gate import FloorTracker, level_dbfs

Demo = tuple[NDArray[np.int16], int]


@pytest.fixture(scope="module")
def speech(demo: Demo) -> NDArray[np.float32]:
    samples, rate_hz = demo
    return soxr.resample(samples[: 12 * rate_hz] / 32768, rate_hz, 16_000).astype(np.float32)


def run(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The contexts, shape (frames, 1600), and the probability of each frame."""
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    floor = FloorTracker()
    contexts = SpectrumContext().push(frames, np.array([floor.push(level) for level in level_dbfs(frames).tolist()]))
    return contexts, alone(speech_steps(contexts))


def test_a_gain_changes_nothing_once_the_floor_is_known(speech: NDArray[np.float32]) -> None:
    # The floor begins no higher than -35 and never below -75 dBFS, so not at the very start and for no gain at all.
    noisy = speech + np.random.default_rng(0).normal(0, 1e-2, len(speech)).astype(np.float32)
    (as_it_is, p), (quieter, q) = run(noisy), run(noisy / 10)
    np.testing.assert_allclose(quieter[150:], as_it_is[150:], atol=0.01)
    np.testing.assert_allclose(q[150:], p[150:], atol=0.001)


def test_speech_is_likely_and_its_pauses_are_not(speech: NDArray[np.float32]) -> None:
    _, p = run(speech)
    levels = level_dbfs(speech[: len(p) * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES))
    assert p[levels > -25].mean() > 0.9
    assert p[levels < -58].mean() < 0.2
    assert ((p >= 0) & (p <= 1)).all()


def test_a_room_far_under_the_voice_is_heard_as_silence_is(speech: NDArray[np.float32]) -> None:
    # A microphone with a noise gate, over nothing and over a room 50 dB under the voice.
    frames = speech[: len(speech) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES).copy()
    frames[level_dbfs(frames) < -45] *= 1e-4
    noise = np.random.default_rng(0).standard_normal(frames.size).astype(np.float32)
    (_, nothing), (_, room) = (run(frames.reshape(-1) + gain * noise) for gain in (1e-6, 3e-4))
    assert np.abs(nothing - room).mean() < 0.015
    assert nothing[level_dbfs(frames) > -25].mean() > 0.9


def test_reset_forgets(speech: NDArray[np.float32]) -> None:
    used, fresh = SpectrumContext(), SpectrumContext()
    frames, floors = speech[: 100 * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES), np.full(100, -60.0)
    used.push(frames, floors)
    used.reset()
    np.testing.assert_array_equal(used.push(frames, floors), fresh.push(frames, floors))


def test_frames_at_once_or_one_by_one_are_the_same_to_the_last_bit(speech: NDArray[np.float32]) -> None:
    frames, floors = speech[: 200 * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES), np.linspace(-70, -40, 200)
    whole, single = SpectrumContext().push(frames, floors), SpectrumContext()
    singly = [single.push(frames[i : i + 1], floors[i : i + 1]) for i in range(200)]
    assert np.concatenate(singly).tobytes() == whole.tobytes()
    assert np.concatenate([alone(speech_steps(c)) for c in singly]).tobytes() == alone(speech_steps(whole)).tobytes()
