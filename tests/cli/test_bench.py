"""What `bench` tells is complete and agrees with itself. How fast it is, no test asks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from realtime_ser.bench import multiply_adds
from tests.cli.program import one_line, program


@pytest.mark.slow
def test_json_has_every_figure() -> None:
    done = program("bench", "--seconds", "8", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["audio_s"] == 8
    assert figures["real_time_factor"] > 0
    assert figures["streams_per_core"] > 0
    names = ["resample", "clean", "gate", "features", "encoder", "head", "trace"]
    assert list(figures["stages"]) == names
    for row in (*figures["stages"].values(), figures["update"]):
        assert row["calls"] > 0
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    for name in ("encoder", "head"):
        part = figures["multiply_adds"][name]
        product = figures["multiply_adds"]["matrix_product_billions_per_s"]
        assert np.isclose(part["share_of_product"], part["billions_per_s"] / product)


def test_the_count_is_that_of_the_graph(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    weights = {
        "kernel": np.ones((4, 3, 3, 5), np.float32),
        "matrix": np.ones((6, 7), np.float32),
        "integers": np.ones((2, 3, 1, 1), np.int8),
        "one": np.float32(1),
        "zero": np.uint8(0),
        "none": np.int8(0),
    }
    meaning = ["one", "zero"]
    nodes = [
        make("Conv", ["x", "kernel"], ["made"]),
        make("MatMul", ["made", "matrix"], ["product"]),
        make("QuantizeLinear", ["x", *meaning], ["small"]),
        make("QLinearConv", ["small", *meaning, "integers", "one", "none", *meaning], ["whole"]),
        make("DequantizeLinear", ["whole", *meaning], ["y"]),
    ]
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 10])
    made = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("product", "y")]
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", [given], made, constants)
    path = tmp_path / "g.onnx"
    sets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=sets), path)
    # 6 by 6 places after the first; 8 by 10 for the integers.
    expected = 4 * 36 * (3 * 3 * 5) + 4 * 6 * 7 * 6 + 2 * 80 * 3
    assert multiply_adds(path, {"x": np.ones((1, 3, 8, 10), np.float32)}) == expected


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "3601"])
def test_a_length_that_no_bench_has_is_wrong_usage(seconds: str) -> None:
    done = program("bench", "--seconds", seconds)
    assert done.returncode == 2
    assert "--seconds" in done.stderr


def test_an_unknown_model_is_refused_in_one_line() -> None:
    one_line(program("bench", "--model", "nowhere"), 1, "nowhere", "bundled")
