"""A profile moves the trace towards what neutral speech of this speaker should get, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime_ser.errors import ProfileError
from realtime_ser.events import Measurement, SessionCreated
from realtime_ser.profiles import load_profile, path_of, save_profile
from realtime_ser.session import Session
from realtime_ser.stages.model import Model
from realtime_ser.stages.profile import Profile, make_profile

LABELS = ("neutral", "happy", "sad")
SOUNDS_SAD = np.array([[0.3, 0.1, 0.6], [0.2, 0.1, 0.7]], np.float32)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path)


def profile(posteriors: NDArray[np.float32] = SOUNDS_SAD) -> Profile:
    return make_profile("me", "m", "abc", LABELS, posteriors, 30.0)


def test_who_sounds_sad_when_neutral_is_heard_less_sad() -> None:
    mine = profile()
    adjusted = mine.adjust(SOUNDS_SAD[0])
    assert adjusted.sum() == pytest.approx(1)
    assert adjusted[0] > 0.3
    assert adjusted[2] < 0.6
    assert mine.baseline().argmax() == mine.adjust(np.array(mine.neutral, np.float32)).argmax()


def test_who_sounds_as_expected_is_left_alone() -> None:
    expected = profile(np.array([[0.5, 0.25, 0.25]], np.float32))
    np.testing.assert_allclose(expected.adjust(SOUNDS_SAD[0]), SOUNDS_SAD[0], atol=1e-5)


def test_it_is_kept_by_name() -> None:
    mine = profile()
    path = save_profile(mine)
    assert path.name == "me.json"
    assert load_profile("me") == mine
    with pytest.raises(ProfileError, match="no profile 'you': there are: me"):
        load_profile("you")
    for damaged in ("", "[]", '{"name": "me"}', path.read_text().replace("0.", "7.")):
        path.write_text(damaged)
        with pytest.raises(ProfileError, match="is no profile"):
            load_profile("me")


@pytest.mark.parametrize("name", ["../me", "", "a/b", ".hidden", "x" * 65])
def test_a_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(ProfileError, match="profile name"):
        path_of(name)


def test_a_model_without_neutral_cannot_be_calibrated() -> None:
    with pytest.raises(ProfileError, match="neutral"):
        make_profile("me", "m", "abc", ("a", "b"), SOUNDS_SAD[:, :2], 30.0)


def test_in_a_session_the_raw_scores_stay_and_the_trace_moves(
    model: Model, demo: tuple[NDArray[np.int16], int]
) -> None:
    samples, rate_hz = demo
    samples = samples[: 10 * rate_hz]
    labels = model.contract.labels
    neutral = np.full((1, len(labels)), 0.02, np.float32)
    neutral[0, labels.index("happy")] = 0.88
    mine = make_profile("me", model.contract.model_id, model.sha256, labels, neutral, 30.0)
    plain = Session(model).push(samples, rate_hz)
    relative = Session(model, profile=mine).push(samples, rate_hz)
    created = relative[0]
    assert isinstance(created, SessionCreated)
    assert (created.profile, set(created.baseline)) == ("me", set(labels))
    pairs = [
        (a, b)
        for a, b in zip(plain, relative, strict=True)
        if isinstance(a, Measurement) and isinstance(b, Measurement) and a.scores_smooth
    ]
    assert pairs
    for a, b in pairs:
        assert a.scores == b.scores
        assert b.scores_smooth["happy"] < a.scores_smooth["happy"]
        assert b.scores_smooth["neutral"] > a.scores_smooth["neutral"]


def test_another_models_profile_is_refused(model: Model) -> None:
    with pytest.raises(ProfileError, match="was made with m, not this ser-research"):
        Session(model, profile=profile())
