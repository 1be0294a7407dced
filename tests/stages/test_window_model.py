"""Models of the window kind run through the same session, and are refused as strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from realtime_ser import Session
from realtime_ser.errors import ModelError
from realtime_ser.events import Measurement
from realtime_ser.stages.model import load_model

LABELS = ["calm", "excited"]
CONTRACT = {
    "contract": 1,
    "kind": "window",
    "id": "old",
    "licence": "none",
    "labels": LABELS,
    "rate_hz": 16_000,
    "input": "log_mel",
    "layout": "frames_first",
    "output": "logits",
    "window_s": [0.5, 10],
}


def build(
    path: Path, shape: list[Any], reduce_axes: list[int], contract: dict[str, Any] | None, beside: bool = False
) -> Path:
    """A model whose logits are (0, mean of its input / 10): louder is more excited."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=reduce_axes, keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["y"]),
    ]
    initializers = [
        numpy_helper.from_array(np.array([-1, 1], np.int64), "shape"),
        numpy_helper.from_array(np.array([[0, 0.1]], np.float32), "weight"),
    ]
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if contract is not None and beside:
        path.with_suffix(".json").write_text(json.dumps(contract))
    elif contract is not None:
        helper.set_model_props(model, {"realtime_ser": json.dumps(contract)})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def speech(demo: tuple[NDArray[np.int16], int]) -> tuple[NDArray[np.int16], int]:
    samples, rate_hz = demo
    return samples[rate_hz : 6 * rate_hz], rate_hz


@pytest.mark.parametrize(
    ("shape", "axes", "change"),
    [
        (["batch", "n", 64], [1, 2], {}),
        (["batch", 64, "n"], [1, 2], {"layout": "mels_first"}),
        (["batch", 150, 64], [1, 2], {}),
        (["batch", "n"], [1], {"input": "waveform"}),
        (["batch", 32_000], [1], {"input": "waveform"}),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_window_models_are_run_for_each_window(
    tmp_path: Path, speech: tuple[NDArray[np.int16], int], shape: list[Any], axes: list[int],
    change: dict[str, Any], beside: bool,
) -> None:  # fmt: skip
    model = load_model(build(tmp_path / "old.onnx", shape, axes, CONTRACT | change, beside))

    def run(block: int) -> list[tuple[float, float, float]]:
        session = Session(model)
        samples, rate_hz = speech
        events = [e for k in range(0, len(samples), block) for e in session.push(samples[k : k + block], rate_hz)]
        found = [e for e in events + session.flush() if isinstance(e, Measurement) and e.scores]
        return [(e.start_s, e.end_s, e.scores["excited"]) for e in found]

    whole = run(10**9)
    assert len(whole) > 5
    assert whole[0][1] - whole[0][0] == 1
    assert all(0 <= p <= 1 for _, _, p in whole)
    assert run(1_000) == whole


def test_scores_are_the_models_own(tmp_path: Path) -> None:
    model = load_model(build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], CONTRACT))
    window = np.full((1, 100, 64), -20, np.float32)
    np.testing.assert_allclose(model.head().push(window), [[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": "spectrogram"}, "spectrogram"),
        ({"output": "votes"}, "votes"),
        ({"layout": "sideways"}, "sideways"),
        ({"kind": "encoder"}, "encoder"),
        ({"contract": 9}, "contract 9"),
        ({"labels": ["a", "b", "c"]}, "no scores for its labels"),
        ({"output": "posteriors"}, "no probabilities"),
        ({"input": "waveform"}, "2 dimensions"),
        ({"features": {"hop_samples": 0}}, "damaged"),
        ({"features": {"n_mels": 900}}, "damaged"),
        (None, "no realtime_ser metadata"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any] | None, words: str) -> None:
    contract = None if change is None else CONTRACT | change
    with pytest.raises(ModelError, match=words):
        load_model(build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], contract))
