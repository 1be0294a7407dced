"""Conditions of the evaluation touch what they say."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="rooms belong to the [train] extra")

from tools.listen import with_cough

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
