"""A model file that could hang, fill the memory or reach beyond itself is refused before onnxruntime sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from realtime_ser.errors import ModelError
from realtime_ser.stages.graph import objection
from realtime_ser.stages.model import find_model, load_model

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, None, 64])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)


def model(*nodes: onnx.NodeProto, weights: list[onnx.TensorProto] | None = None) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(list(nodes), "g", [X], [Y], weights or []))


def endless_loop() -> onnx.ModelProto:
    bool_, float_ = TensorProto.BOOL, TensorProto.FLOAT
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [helper.make_tensor_value_info(n, t, None) for n, t in (("i", TensorProto.INT64), ("c", bool_), ("v", float_))],
        [helper.make_tensor_value_info(n, t, None) for n, t in (("d", bool_), ("w", float_))],
    )
    trips = [numpy_helper.from_array(np.array(2**62), "n"), numpy_helper.from_array(np.array(True), "on")]
    return model(helper.make_node("Loop", ["n", "on", "x"], ["y"], body=body), weights=trips)


def branch() -> onnx.ModelProto:
    one = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "one", [], [Y])
    yes = [numpy_helper.from_array(np.array(True), "yes")]
    return model(helper.make_node("If", ["yes"], ["y"], then_branch=one, else_branch=one), weights=yes)


def outside(location: str) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return model(helper.make_node("Add", ["x", "w"], ["y"]), weights=[tensor])


def claims(*dims: int) -> onnx.TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"\0" * 64)


def own_function() -> onnx.ModelProto:
    made = model(helper.make_node("Twice", ["x"], ["y"], domain=""))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    made.functions.append(helper.make_function("", "Twice", ["a"], ["b"], body, made.opset_import))
    return made


HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "loop of 2^62": (endless_loop, "loops or branches"),
    "branch": (branch, "loops or branches"),
    "operator of a stranger": (lambda: model(helper.make_node("Run", ["x"], ["y"], domain="evil")), "'evil'.'Run'"),
    "function of its own": (own_function, "functions or training"),
    "weights beyond the folder": (lambda: outside("../../../../etc/passwd"), "in another file"),
    "weights at a path": (lambda: outside("/etc/passwd"), "in another file"),
    "4 GB in 1 KB": (lambda: model(helper.make_node("Add", ["x", "w"], ["y"]), weights=[claims(1 << 30)]), "1e+09"),
    "overflowing size": (
        lambda: model(helper.make_node("Add", ["x", "w"], ["y"]), weights=[claims(1 << 33, 1 << 33)]),
        "claims a tensor",
    ),
    "4 GB in a constant": (lambda: model(helper.make_node("Constant", [], ["y"], value=claims(1 << 30))), "1e+09"),
    "negative size": (lambda: model(helper.make_node("Constant", [], ["y"], value=claims(-1))), "claims a tensor"),
    "too many operators": (
        lambda: model(*[helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(20_001)]),
        "more than 20000",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_could_hang_or_reach_out_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    make, words = HOSTILE[name]
    file = tmp_path / "model.onnx"
    file.write_bytes(make().SerializeToString())
    with pytest.raises(ModelError) as refused:
        load_model(file)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_cannot_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(model(helper.make_node("a", ["x"], ["y"], domain="\x1b]0;owned\x07")).SerializeToString())
    done = subprocess.run(
        [sys.executable, "-m", "realtime_ser", "models", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr


def test_shipped_models_pass() -> None:
    for file in find_model().parent.glob("*/*.onnx"):
        assert objection(file.read_bytes()) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_judged_or_no_message(content: bytes) -> None:
    with suppress(ValueError):
        objection(content)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_changed_byte_breaks_no_reader(at: int, value: int) -> None:
    content = bytearray((find_model() / "head.onnx").read_bytes()[-5000:] + endless_loop().SerializeToString())
    content[at] = value
    with suppress(ValueError):
        objection(bytes(content))
