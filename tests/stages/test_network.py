"""A stranger's network may eat memory and time, and crash: in its own process, and within limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from realtime_ser.errors import ModelError
from realtime_ser.stages import network
from realtime_ser.stages.model import find_model
from realtime_ser.stages.network import Apart, in_process

node = helper.make_node
QUIET, LOUD = (np.full((1, 100, 64), value, np.float32) for value in (-60, 0))
limited = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")


def build(*nodes: onnx.NodeProto, sizes: Sequence[int] = (), values: Sequence[float] = ()) -> bytes:
    """`x` (1, n, 64) → `y`, with `sizes` and `values` as weights, too."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [
        numpy_helper.from_array(np.array(sizes, np.int64), "sizes"),
        numpy_helper.from_array(np.array(values, np.float32), "values"),
    ]
    graph = helper.make_graph(list(nodes), "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def doublings() -> bytes:
    names = ["x", *(f"t{i}" for i in range(39)), "y"]
    return build(*(node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)))


def loud_is_large() -> bytes:
    """What is above -20 dB, found by its place, thousands of times over: the size depends on what is heard."""
    return build(
        node("Greater", ["x", "values"], ["loud"]), node("NonZero", ["loud"], ["places"]),
        node("Tile", ["places", "sizes"], ["many"]), node("Cast", ["many"], ["y"], to=TensorProto.FLOAT),
        sizes=[1, 20_000], values=[-20],
    )  # fmt: skip


def products(first: str) -> bytes:
    """Of matrices of 3000 by 3000, hundreds: constants, which onnxruntime computes while it loads, or not."""
    one = numpy_helper.from_array(np.array([1e-4], np.float32))
    start = [node("ConstantOfShape", ["sizes"], ["c"], value=one), node("ReduceMax", ["x"], ["top"], keepdims=0)]
    start += [node("Mul" if first == "run" else "Identity", ["c", "top"][: 2 if first == "run" else 1], ["m0"])]
    chain = [node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(500)]
    return build(*start, *chain, node("Add", ["m500", "top"], ["y"]), sizes=[3000, 3000])


GREEDY: dict[str, Callable[[], bytes]] = {
    "forty doublings": doublings,
    "a huge constant": lambda: build(
        node("ConstantOfShape", ["sizes"], ["c"]), node("ReduceSum", ["c"], ["s"], keepdims=0),
        node("Add", ["x", "s"], ["y"]), sizes=[1 << 17, 1 << 17],
    ),
    "an expansion": lambda: build(node("Expand", ["x", "sizes"], ["y"]), sizes=[1 << 30, 1, 1]),
    "an enlargement": lambda: build(node("Resize", ["x", "", "values"], ["y"]), values=[1, 1e5, 1e5]),
    "many of middle size": lambda: build(
        *(node("Tile", ["x", "sizes"], [f"t{i}"]) for i in range(200)),
        node("Concat", [f"t{i}" for i in range(200)], ["y"], axis=1), sizes=[1, 2_000, 1],
    ),
}  # fmt: skip


@limited
@pytest.mark.parametrize("name", GREEDY)
def test_ordinary_operators_that_fill_the_memory_end_in_one_line(name: str) -> None:
    own = psutil.Process().memory_info().rss
    with pytest.raises(ModelError, match=r"^m: .*it needs more than 2048 MB") as refused:
        Apart(GREEDY[name](), "m").run(None, {"x": QUIET})
    assert "\n" not in str(refused.value)
    assert psutil.Process().memory_info().rss < own + 50_000_000


@limited
def test_memory_that_only_some_input_asks_for_is_limited_too() -> None:
    found = Apart(loud_is_large(), "m")
    assert found.run(None, {"x": QUIET})[0].size == 0
    with pytest.raises(ModelError, match=r"fails \(it needs more than 2048 MB"):
        found.run(None, {"x": LOUD})
    assert found.run(None, {"x": QUIET})[0].size == 0


@pytest.mark.parametrize("when", ["load", "run"])
def test_what_takes_too_long_is_ended(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MOST_S", 1)
    begun = time.monotonic()
    with pytest.raises(ModelError, match="it takes more than 1 s"):
        Apart(products(when), "m").run(None, {"x": LOUD})
    assert time.monotonic() - begun < 10


def test_a_file_that_takes_long_to_read_through_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MOST_S", 1)
    with pytest.raises(ModelError, match=r"is not a usable ONNX model \(it takes more than 1 s"):
        Apart(b"\x08\x00" * 40_000_000, "m")


def test_a_crash_is_one_line_and_stays_one() -> None:
    found = Apart(build(node("Relu", ["x"], ["y"])), "m")
    np.testing.assert_array_equal(found.run(["y"], {"x": LOUD})[0], LOUD)
    found._process.kill()
    with pytest.raises(ModelError, match=r"^m: fails \(onnxruntime crashes on it"):
        found.run(None, {"x": LOUD})
    with pytest.raises(ModelError, match=r"^m: its process has ended \(onnxruntime crashes on it.*: load it anew$"):
        found.run(None, {"x": LOUD})


@pytest.mark.parametrize("python", [None, "", "/opt/app/app", "frozen"])
def test_a_program_that_is_no_python_is_not_begun_once_more(
    python: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if python == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(ModelError, match="this program can begin none"):
        Apart(b"", "mine.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="a script as an executable")
def test_what_is_begun_in_the_place_of_a_python_begins_nothing_itself(tmp_path: Path) -> None:
    """An application whose name is much like Python's, and which loads the network whatever it is called with."""
    app = tmp_path / "my_python_app"
    app.write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.path[:] = {sys.path}\nsys.executable = {str(app)!r}\n"
        f"with open({str(tmp_path / 'begun')!r}, 'a') as file: file.write('once\\n'); n = file.tell() // 5\n"
        "from realtime_ser.stages.network import Apart\n"
        "try: Apart(b'', 'mine.onnx') if n < 5 else None\n"
        "except Exception as error: sys.exit(str(error))\n"
    )
    app.chmod(0o755)
    done = subprocess.run([app], capture_output=True, text=True, timeout=60)
    assert (tmp_path / "begun").read_text() == 2 * "once\n"
    assert done.stderr.startswith("mine.onnx: ")
    assert done.stderr.count("\n") == 1


def test_outputs_beyond_reason_do_not_reach_this_process() -> None:
    found = Apart(build(node("Tile", ["x", "sizes"], ["y"]), sizes=[1, 3_000, 1]), "m")
    with pytest.raises(ModelError, match="it gives 19200000 numbers at once"):
        found.run(None, {"x": LOUD})


def test_outputs_that_are_no_numbers_are_refused() -> None:
    words = helper.make_tensor_value_info("y", TensorProto.STRING, None)
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    to_words = node("Cast", ["x"], ["y"], to=TensorProto.STRING)
    for output, operator in ((words, to_words), (sequence, node("SequenceConstruct", ["x"], ["y"]))):
        model = onnx.load_from_string(build(operator))
        model.graph.output[0].CopyFrom(output)
        with pytest.raises(ModelError, match="it gives something that is no numbers"):
            Apart(model.SerializeToString(), "m").run(None, {"x": LOUD})


def test_it_gives_what_onnxruntime_gives_here() -> None:
    content = (find_model() / "head.onnx").read_bytes()
    ours, theirs = in_process(content), Apart(content, "m")
    assert [(i.name, i.type, i.shape) for i in ours.get_inputs()] == [tuple(i) for i in theirs.get_inputs()]
    assert ours.get_modelmeta().custom_metadata_map == theirs.get_modelmeta().custom_metadata_map
    windows = np.random.default_rng(0).standard_normal((2, 48, ours.get_inputs()[0].shape[2])).astype(np.float32)
    for a, b in zip(ours.run(None, {"embeddings": windows}), theirs.run(None, {"embeddings": windows}), strict=True):
        np.testing.assert_array_equal(a, b)


def test_metadata_without_end_is_refused() -> None:
    model = onnx.load_from_string(build(node("Relu", ["x"], ["y"])))
    helper.set_model_props(model, {"realtime_ser": "x" * 4_000_000})
    with pytest.raises(ModelError, match="its metadata has 4000012 characters"):
        Apart(model.SerializeToString(), "m")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_its_process_hears_no_signal_of_the_terminal_and_ends_with_this_one() -> None:
    found = Apart(build(node("Relu", ["x"], ["y"])), "m")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(found._process.pid, number)
    assert found.run(None, {"x": LOUD})
    program = (
        "import sys, time; from realtime_ser.stages.network import Apart\n"
        "found = Apart(sys.stdin.buffer.read(), 'm'); print(found._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(build(node("Relu", ["x"], ["y"])))
        parent.stdin.close()
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(10)


def test_the_working_folder_cannot_bring_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    Apart(build(node("Relu", ["x"], ["y"])), "m")
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore:This process")  # it has threads; the child below uses none
def test_a_forked_process_is_told_instead_of_reading_what_the_other_asked_for() -> None:
    network = Apart(build(node("Identity", ["x"], ["y"])), "mine.onnx")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            network.run(None, {"x": QUIET})
        except ModelError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert b"loaded before this process was forked" in os.read(reading, 1000)
    np.testing.assert_array_equal(network.run(None, {"x": QUIET})[0], QUIET)
    for end in (reading, writing):
        os.close(end)
