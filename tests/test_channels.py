"""Two speakers on two channels are two timelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime_ser.channels import ChannelSessions
from realtime_ser.errors import ModelError, SettingsError
from realtime_ser.events import Event, SessionClosed, SpeechEnded, SpeechStarted
from realtime_ser.session import Session
from realtime_ser.stages.model import Model, load_model
from tests.stages.test_window_model import fails_for_speech


@pytest.fixture
def call(demo: tuple[NDArray[np.int16], int]) -> tuple[NDArray[np.int16], int]:
    """The demo's beginning on the left, and two seconds later its middle on the right."""
    samples, rate_hz = demo
    left = samples[: 12 * rate_hz]
    right = np.concatenate((samples[: 2 * rate_hz], samples[20 * rate_hz : 30 * rate_hz]))
    return np.stack((left, right), axis=1), rate_hz


def facts(events: list[Event]) -> list[tuple[object, ...]]:
    return [(e.type, e.channel, e.start_s, e.end_s, getattr(e, "scores", None)) for e in events]


def test_each_channel_is_heard_as_if_alone(model: Model, call: tuple[NDArray[np.int16], int]) -> None:
    audio, rate_hz = call
    sessions = ChannelSessions([1, 2], lambda channel: Session(model, channel=channel))
    both = sessions.push(audio, rate_hz) + sessions.flush()
    for channel in (1, 2):
        alone = Session(model, channel=channel)
        expected = alone.push(audio[:, channel - 1], rate_hz) + alone.flush()
        mine = [e for e in both if e.channel == channel]
        assert facts(mine) == facts(expected)
        assert [e.seq for e in mine] == list(range(len(mine)))
        assert isinstance(mine[-1], SessionClosed)
        assert any(isinstance(e, SpeechEnded) and e.measurement for e in mine)


def test_the_order_does_not_depend_on_the_blocks(model: Model, call: tuple[NDArray[np.int16], int]) -> None:
    audio, rate_hz = call
    orders = []
    for size in (len(audio), 7_777, 441):
        sessions = ChannelSessions([1, 2], lambda channel: Session(model, channel=channel))
        events: list[Event] = []
        for _ in range(2):
            events += [e for at in range(0, len(audio), size) for e in sessions.push(audio[at : at + size], rate_hz)]
            events += sessions.pause()
        events += sessions.gap(16_000, "test") + sessions.push(audio[:20_000], rate_hz) + sessions.flush()
        orders.append(facts(events))
    assert orders[0] == orders[1] == orders[2]


def test_what_channels_told_is_not_lost_where_their_model_fails(
    tmp_path: Path, call: tuple[NDArray[np.int16], int]
) -> None:
    audio, rate_hz = call
    stranger = load_model(fails_for_speech(tmp_path / "m.onnx"))
    sessions = ChannelSessions([1, 2], lambda channel: Session(stranger, channel=channel))
    events: list[Event] = []

    def hear() -> None:
        for at in range(0, len(audio), rate_hz // 10):
            events.extend(sessions.push(audio[at : at + rate_hz // 10], rate_hz))

    with pytest.raises(ModelError):
        hear()
    events += sessions.flush("error")
    for channel in (1, 2):
        mine = [e for e in events if e.channel == channel]
        assert [e.seq for e in mine] == list(range(len(mine)))
        assert isinstance(mine[-1], SessionClosed)
    assert any(isinstance(e, SpeechStarted) for e in events)


def test_a_channel_that_is_not_there_is_told(model: Model) -> None:
    sessions = ChannelSessions([3], lambda channel: Session(model, channel=channel))
    with pytest.raises(SettingsError, match="channel 3"):
        sessions.push(np.zeros((100, 2), np.float32), 16_000)
