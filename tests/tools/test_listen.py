"""Conditions of the evaluation touch what they say."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="rooms belong to the [train] extra")

from realtime_ser.events import Measurement
from tools import degrade
from tools.listen import session_events, with_cough

RATE_HZ = 16_000


def test_a_cough_begins_in_the_midst_and_is_as_loud_as_the_voice() -> None:
    voice = (0.2 * np.sin(2 * np.pi * 150 * np.arange(2 * RATE_HZ) / RATE_HZ)).astype(np.float32)
    mixed = with_cough(voice, 3)
    assert mixed.shape == voice.shape
    np.testing.assert_array_equal(mixed[:RATE_HZ], voice[:RATE_HZ])
    assert np.abs(mixed - voice).max() == pytest.approx(0.2, rel=0.01)
    np.testing.assert_array_equal(with_cough(voice, 3), mixed)
    assert not np.array_equal(with_cough(voice, 4), mixed)


def test_a_cough_in_digital_silence_changes_nothing() -> None:
    for length in (1, RATE_HZ):
        silence = np.zeros(length, np.float32)
        np.testing.assert_array_equal(with_cough(silence, 0), silence)


def test_coughs_alone_get_no_emotion() -> None:
    for number in range(6):
        room = 1e-3 * np.random.default_rng(number).standard_normal(4 * RATE_HZ).astype(np.float32)
        for at_s in (1.5, 2.3):
            cough = 0.3 * degrade.cough(np.random.default_rng([number, round(at_s)]))
            room[round(at_s * RATE_HZ) :][: len(cough)] += cough
        named = [e.label for e in session_events(room, "ser-research") if isinstance(e, Measurement)]
        assert not any(named), number
