"""Many runs of a network as one are, to the last bit, what each is alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime_ser.stages.calls import Call, run_together
from realtime_ser.stages.detector import BANDS, CONTEXT_FRAMES, speech_steps
from realtime_ser.stages.model import Model, load_model, models_folder

MOST = 16


@pytest.fixture(scope="module", params=sorted(p.name for p in models_folder().glob("ser-*")))
def bundled(request: pytest.FixtureRequest) -> Model:
    model = load_model(request.param)
    assert isinstance(model, Model)
    return model


def call(steps: object) -> Call:
    """What a stage asks for first."""
    asked = next(steps)  # type: ignore[call-overload]
    assert isinstance(asked, Call)
    return asked


def random_frames(model: Model, chunks: int, rng: np.random.Generator) -> NDArray[np.float32]:
    c = model.contract
    level = rng.uniform(-60, -10, (1, c.features.n_mels))
    return (level + rng.normal(0, 12, (chunks * c.chunk_frames, c.features.n_mels))).astype(np.float32)


def encoder_call(model: Model, later: int, rng: np.random.Generator) -> Call:
    """The first, or a later one of so many chunks."""
    encoder = model.encoder()
    if later:
        encoder.push(random_frames(model, model.contract.first_chunks, rng))
    return call(encoder.steps([random_frames(model, later or model.contract.first_chunks, rng)]))


def head_call(model: Model, n: int, rng: np.random.Generator) -> Call:
    return call(model.head().steps([rng.normal(0, 1, (n, model.contract.dim)).astype(np.float32)]))


def detector_call(n: int, rng: np.random.Generator) -> Call:
    return call(speech_steps(rng.normal(10, 15, (n, CONTEXT_FRAMES * 2 * BANDS)).astype(np.float32)))


def check_many_as_one(calls: list[Call]) -> None:
    expected = [one.session.run(one.outputs, one.feed) for one in calls]
    for n in range(1, MOST + 1):
        for given, wanted in zip(run_together(calls[:n]), expected, strict=False):
            for a, b in zip(given, wanted, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "asked", [(encoder_call, n) for n in range(5)] + [(head_call, n) for n in (8, 16, 31, 48, 160)]
)
def test_a_run_for_many_streams_gives_each_what_it_gets_alone(
    bundled: Model, asked: tuple[Callable[[Model, int, np.random.Generator], Call], int]
) -> None:
    rng = np.random.default_rng(0)
    ask, n = asked
    check_many_as_one([ask(bundled, n, rng) for _ in range(MOST)])


@pytest.mark.parametrize("n", [1, 2, 5, 12, 13, 100])
def test_the_detector_hears_many_streams_as_it_hears_one(n: int) -> None:
    rng = np.random.default_rng(0)
    check_many_as_one([detector_call(n, rng) for _ in range(MOST)])
