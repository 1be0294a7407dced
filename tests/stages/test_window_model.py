"""Models of the window kind run through the same session, and are refused as strictly."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, repeat
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
from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.model import load_model
from tests.cli.program import one_line, program, rows

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


def build_of(path: Path, *nodes: onnx.NodeProto, contract: dict[str, Any] = CONTRACT, **weights: Any) -> Path:
    """Any model of log-mel windows: `x` → `y`, with these weights."""
    graph = helper.make_graph(
        list(nodes),
        "any",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"realtime_ser": json.dumps(contract)})
    onnx.save(model, path)
    return path


def gives(path: Path, scores: Any, output: str = "posteriors") -> Path:
    """A model that gives these whatever it hears."""
    scores = np.asarray(scores)
    node = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(scores))
    return build_of(path, node, contract=CONTRACT | {"output": output})


def fails_for_speech(path: Path) -> Path:
    """Logits that are the root of what is negative from -60 to 0 dB: NaN for speech, not for the window of a trial."""
    return build_of(
        path,
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["mean", "limit"], ["above"]),
        helper.make_node("Mul", ["above", "mean"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["root"]),
        helper.make_node("Reshape", ["root", "shape"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["y"]),
        limit=np.float32(60), shape=np.array([-1, 1]), weight=np.array([[0, 0.1]], np.float32),
    )  # fmt: skip


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


F32 = np.float32


@pytest.mark.parametrize(
    ("scores", "output", "words"),
    [
        (F32([[np.nan, np.nan]]), "logits", "no scores"),
        (F32([[0, np.inf]]), "logits", "no scores"),
        (F32([[np.nan, 1]]), "posteriors", "no scores"),
        (F32([[-0.5, 1.5]]), "posteriors", "no probabilities"),
        (F32([[0.5, 0.6]]), "posteriors", "no probabilities"),
        (F32([[0, 0]]), "posteriors", "no probabilities"),
        (F32([0.5, 0.5]), "posteriors", "no scores"),
        (F32([[0.2, 0.3, 0.5]]), "posteriors", "no scores"),
        (F32([[0.5, 0.5], [0.5, 0.5]]), "posteriors", "no scores"),
        (F32(0.5), "logits", "no scores"),
        (np.array([["0.5", "0.5"]], object), "posteriors", "no numbers"),
        (np.array([[True, False]]), "posteriors", "no numbers"),
    ],
)  # fmt: skip
def test_what_is_no_probability_is_refused_before_anything_is_heard(
    tmp_path: Path, scores: Any, output: str, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as refused:
        load_model(gives(tmp_path / "m.onnx", scores, output))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("scores", [F32([[0, 1]]), np.array([[0.25, 0.75]]), np.array([[0, 1]])])
def test_certainty_and_other_kinds_of_numbers_are_scores(
    tmp_path: Path, speech: tuple[NDArray[np.int16], int], scores: NDArray[Any]
) -> None:
    session = Session(load_model(gives(tmp_path / "m.onnx", scores)))
    heard = [e for e in session.push(*speech) + session.flush() if isinstance(e, Measurement) and e.scores]
    assert len(heard) > 5
    for event in heard:
        assert event.scores["excited"] == pytest.approx(scores[0, 1])
        assert np.isfinite([*event.scores.values(), *event.scores_smooth.values(), event.confidence]).all()


def test_scores_that_become_nan_end_a_session_that_is_closed_properly(
    tmp_path: Path, speech: tuple[NDArray[np.int16], int]
) -> None:
    session = Session(load_model(fails_for_speech(tmp_path / "m.onnx")))
    samples, rate_hz = speech
    with pytest.raises(ModelError, match="old: gives no scores for its labels"):
        session.push(samples, rate_hz)
    told = session.flush("error")
    assert [e.seq for e in told] == list(range(len(told)))
    assert told[0].type == "session.created"
    assert told[-1].type == "session.closed"
    assert "speech.started" in {e.type for e in told}
    assert not [e for e in told if isinstance(e, Measurement) and e.scores]


def test_a_model_that_fails_later_is_one_line_and_a_whole_timeline(tmp_path: Path) -> None:
    file, out, lines = fails_for_speech(tmp_path / "m.onnx"), tmp_path / "t.csv", tmp_path / "t.jsonl"
    done = program("replay", "demo", "--speed", "max", "--model", file, "--csv", out, "--jsonl", lines)
    one_line(done, 1, "old: gives no scores for its labels")
    assert "gives no scores" in rows(out)[-1]["note"]
    assert not {"nan", "inf"} & {cell.lower() for row in rows(out) for cell in row.values()}
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert (told[-1]["type"], told[-1]["reason"]) == ("session.closed", "error")
    one_line(program("analyze", demo_path(), "--model", file), 1, "old: gives no scores for its labels")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_a_model_that_fills_the_memory_is_one_line_of_the_program(tmp_path: Path) -> None:
    names = ["x", *(f"t{i}" for i in range(39)), "y"]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)]
    file = build_of(tmp_path / "bomb.onnx", *nodes)
    for command in (("models", file), ("replay", "demo", "--model", file)):
        one_line(program(*command), 1, "bomb.onnx: fails (it needs more than 2048 MB)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" " * 4_000_001, "longer than 4000000 characters"),
        ("[" * 100_000, "damaged"),
        ('{"contract": ' + "[" * 100_000, "damaged"),
        ('{"contract": 1' + "0" * 5000 + "}", "damaged"),
        ("null", "damaged"),
        ("", "damaged"),
        ("\0", "damaged"),
    ],
    ids=range(7),  # the texts are too long for the environment variable that pytest puts a test's name into
)
def test_a_contract_beside_the_model_without_end_or_sense_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], CONTRACT, beside=True)
    file.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=words) as refused:
        load_model(file)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "change",
    [
        {"features": {"hop_samples": 10, "frame_samples": 512}},
        {"features": {"frame_samples": 4_001}},
        {"features": {"frame_samples": 10**12}},
        {"features": {"hop_samples": 8_000}},
        {"id": "x" * 2_000},
        {"licence": "x" * 2_000},
        {"window_s": [0.5, float("nan")]},
        {"labels": ["a" * 31, "b"]},
        {"labels": [f"l{i}" for i in range(101)]},
    ],
)
def test_a_contract_cannot_ask_this_process_for_work_without_end(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="damaged"):
        load_model(build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], CONTRACT | change))


def n_measured(path: Path, samples: NDArray[np.int16], rate_hz: int) -> int:
    session = Session(str(path))
    return sum(isinstance(event, Measurement) for event in session.push(samples, rate_hz) + session.flush())


def test_a_model_whose_process_has_ended_is_loaded_anew(tmp_path: Path, speech: tuple[NDArray[np.int16], int]) -> None:
    path = build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], CONTRACT)
    model = load_model(path)
    assert load_model(path) is model
    model._session._process.kill()  # type: ignore[union-attr]
    with pytest.raises(ModelError):
        model.head().push(np.zeros((1, 100, 64), np.float32))
    assert n_measured(path, *speech)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_after_ctrl_c_within_a_run_a_new_session_hears(tmp_path: Path, speech: tuple[NDArray[np.int16], int]) -> None:
    path = build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], CONTRACT)
    head = load_model(path).head()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            deque(map(head.push, repeat(np.zeros((1, 100_000, 64), np.float32), 1_000)), maxlen=0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert n_measured(path, *speech)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore:This process")  # it has threads, which hold nothing that the other needs
def test_a_forked_process_loads_a_model_of_its_own(tmp_path: Path, speech: tuple[NDArray[np.int16], int]) -> None:
    path = build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], CONTRACT)
    expected = n_measured(path, *speech)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(n_measured, (path, *speech)).get(60) == expected
    assert n_measured(path, *speech) == expected


def test_a_replaced_file_is_loaded_and_threads_that_ask_at_once_get_one_model(tmp_path: Path) -> None:
    path = build(tmp_path / "old.onnx", ["batch", "n", 64], [1, 2], CONTRACT)
    with ThreadPoolExecutor(6) as threads:
        (model,) = set(map(id, threads.map(load_model, [path] * 6)))
    assert model == id(load_model(path))
    build(path, ["batch", "n", 64], [1, 2], CONTRACT | {"id": "newer"})
    assert load_model(path).contract.model_id == "newer"
