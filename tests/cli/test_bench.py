"""What `bench` tells is complete and agrees with itself. How fast it is, no test asks."""

from __future__ import annotations

import json

import numpy as np

from realtime_ser.bench import multiply_adds
from realtime_ser.stages.model import Model, find_model, load_model
from tests.cli.program import one_line, program
from tools import speed


def test_json_has_every_figure() -> None:
    done = program("bench", "--seconds", "8", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["audio_s"] == 8
    assert figures["real_time_factor"] > 0
    assert figures["streams_per_core"] == int(1 / figures["real_time_factor"])
    names = ["resample", "clean", "gate", "features", "encoder", "head", "trace"]
    assert list(figures["stages"]) == names
    for row in (*figures["stages"].values(), figures["update"]):
        assert row["calls"] > 0
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    for name in ("encoder", "head"):
        part = figures["multiply_adds"][name]
        product = figures["multiply_adds"]["matrix_product_billions_per_s"]
        assert np.isclose(part["share_of_product"], part["billions_per_s"] / product)


def test_the_count_is_that_of_the_graph() -> None:
    """Counted from a run here, and from the file by `tools/speed.py`."""
    model = load_model()
    assert isinstance(model, Model)
    c, path = model.contract, find_model() / "encoder.onnx"
    frames = np.zeros((1, c.chunk_frames, c.features.n_mels), np.float32)
    counted = multiply_adds(path, {"frames": frames, "state": np.zeros((1, c.state_size), np.float32)})
    assert counted == speed.multiply_adds(path, {"batch": 1, "frames": c.chunk_frames})


def test_an_unknown_model_is_refused_in_one_line() -> None:
    one_line(program("bench", "--model", "nowhere"), 1, "nowhere", "bundled")
