"""What does not fit the contract is refused by name; what fits gives probabilities."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import realtime_ser
from realtime_ser import Session
from realtime_ser.errors import ModelError
from realtime_ser.stages.calls import alone
from realtime_ser.stages.contract import CONTRACT_KEY
from realtime_ser.stages.detector import detector_path
from realtime_ser.stages.features import mel_filterbank
from realtime_ser.stages.model import Model, find_model, load_model, models_folder, open_session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped model without its hashes, to be damaged."""
    return Path(shutil.copytree(find_model(), tmp_path / "model", ignore=shutil.ignore_patterns("SHA256SUMS")))


def change_contract(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    model = onnx.load(file)
    (prop,) = (p for p in model.metadata_props if p.key == CONTRACT_KEY)
    contract = json.loads(prop.value)
    change(contract)
    prop.value = json.dumps(contract)
    onnx.save(model, file)


def test_shipped_model_is_small_and_carries_librosas_filterbank(model: Model) -> None:
    size = sum(p.stat().st_size for p in find_model().glob("*.onnx"))
    assert size <= 8_000_000
    weights = sum(int(np.prod(t.dims)) for p in find_model().glob("*.onnx") for t in onnx.load(p).graph.initializer)
    assert weights <= 2_000_000
    f = model.contract.features
    expected = mel_filterbank(16_000, f.frame_samples, f.n_mels, f.fmin_hz, f.fmax_hz)
    np.testing.assert_allclose(model.contract.filterbank, expected, atol=1e-7)


def test_embeddings_do_not_depend_on_how_chunks_arrive(model: Model) -> None:
    chunk = model.contract.chunk_frames
    frames = np.random.default_rng(0).uniform(-80, 10, (8 * chunk, 64)).astype(np.float32)
    at_once = model.encoder().push(frames)
    assert at_once.shape == (8 * model.contract.chunk_embeddings, model.contract.dim)
    one_by_one = model.encoder()
    np.testing.assert_array_equal(np.concatenate([one_by_one.push(part) for part in np.split(frames, 8)]), at_once)


def test_an_utterance_too_short_for_the_first_call_is_embedded_at_its_end(model: Model) -> None:
    contract = model.contract
    frames = np.random.default_rng(0).uniform(-80, 10, (2 * contract.chunk_frames, 64)).astype(np.float32)
    encoder = model.encoder()
    assert len(encoder.push(frames)) == 0
    left = alone(encoder.flush_steps())
    assert left.shape == (2 * contract.chunk_embeddings, contract.dim)
    assert np.isfinite(left).all()
    # Nothing of it remains.
    encoder.push(frames)
    np.testing.assert_array_equal(alone(encoder.flush_steps()), left)
    assert len(alone(encoder.flush_steps())) == 0


@pytest.mark.parametrize("name", ["ser-base", "ser-research"])
def test_a_gain_leaves_scores_alone(name: str) -> None:
    model = load_model(name)
    frames = np.random.default_rng(0).uniform(-60, 0, (8 * model.contract.chunk_frames, 64)).astype(np.float32)
    loud, plain = (model.head().push(model.encoder().push(f)[None]) for f in (frames + 12, frames))
    np.testing.assert_allclose(loud, plain, atol=1e-3)


@pytest.mark.parametrize("seconds", [0.5, 1, 3, 10])
def test_head_takes_windows_of_any_length_and_batches(model: Model, seconds: float) -> None:
    windows = np.random.default_rng(0).standard_normal((3, round(seconds * 16), model.contract.dim), np.float32)
    posteriors = model.head().push(windows)
    assert posteriors.shape == (3, len(model.contract.labels))
    np.testing.assert_allclose(posteriors.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("file", ["models/ser-research/encoder.onnx", "models/ser-research/head.onnx", "gate.onnx"])
def test_one_flipped_bit_in_an_installation_is_told_in_one_line(tmp_path: Path, file: str) -> None:
    package = Path(realtime_ser.__file__).parent
    shutil.copytree(package, tmp_path / "realtime_ser", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(models_folder(), tmp_path / "realtime_ser" / "models", dirs_exist_ok=True)
    damaged = tmp_path / "realtime_ser" / file.replace("gate", "data/gate")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1  # among the weights: onnxruntime would take it
    damaged.write_bytes(content)
    onnxruntime.InferenceSession(bytes(content))
    replay = [sys.executable, "-m", "realtime_ser", "replay", "demo", "--speed", "max", "--plain"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(replay, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"{damaged}: is not the file that SHA256SUMS beside it names" in done.stderr


@pytest.mark.parametrize("folder", [*sorted(models_folder().glob("*/")), detector_path().parent], ids=lambda f: f.name)
def test_every_shipped_network_has_its_hash_beside_it(folder: Path) -> None:
    names = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert names == sorted(p.name for p in folder.glob("*.onnx"))
    for name in names:
        open_session(folder / name)


def test_hashes_that_are_nonsense_or_name_other_files_refuse(folder: Path) -> None:
    for sums in (b"", b"\xff\x00 \n\n", b"0" * 64 + b"  encoder.onnx\n"):
        (folder / "SHA256SUMS").write_bytes(sums)
        with pytest.raises(ModelError, match=r"encoder\.onnx: is not the file"):
            load_model(folder)


def test_truncated_file_is_refused(folder: Path) -> None:
    file = folder / "encoder.onnx"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"encoder\.onnx: is not a usable ONNX model"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 1000])
def test_what_is_no_onnx_is_refused(folder: Path, content: bytes) -> None:
    (folder / "head.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"head\.onnx"):
        load_model(folder)


def test_missing_file_and_unknown_name_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "head.onnx").unlink()
    with pytest.raises(ModelError, match=r"head\.onnx: no such file"):
        load_model(folder)
    with pytest.raises(ModelError, match="no such model"):
        load_model("ser-nonsense")
    with pytest.raises(ModelError, match="an empty name: no such model: bundled: ser-base, ser-research"):
        Session("")
    (tmp_path / "file.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"file\.onnx: is not a usable ONNX model"):
        load_model(tmp_path / "file.onnx")


def test_a_session_takes_a_models_name_or_its_path(folder: Path) -> None:
    assert Session("ser-base").model.contract.model_id == "ser-base"
    assert Session(folder).model is Session(str(folder)).model


def test_missing_metadata_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "encoder.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / "encoder.onnx")
    with pytest.raises(ModelError, match="no realtime_ser metadata"):
        load_model(folder)


def test_newer_contract_is_refused(folder: Path) -> None:
    change_contract(folder / "encoder.onnx", lambda c: c.update(contract=3))
    with pytest.raises(ModelError, match="contract 3"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["one"]},
        {"labels": ["a", "a"]},
        {"labels": ["\x1b[31mred", "b"]},
        {"labels": ["=cmd()", "b"]},
        {"labels": None},
        {"rate_hz": 8000},
        {"kind": "head"},
        {"features": {"n_mels": 40}},
        {"features": {"unheard": 1}},
        {"filterbank": "AAAA"},
        {"chunk_frames": 24},
        {"chunk_frames": -16},
        {"first_chunks": 0},
        {"first_chunks": 5},
        {"call_chunks": 0},
        {"call_chunks": 5},
        {"dim": "many"},
        {"window_s": [0.5]},
        {"state_size": 5},
        {"dim": 5},
    ],
)
def test_contract_that_makes_no_sense_is_refused(folder: Path, change: dict[str, Any]) -> None:
    change_contract(folder / "encoder.onnx", lambda c: c.update(change))
    with pytest.raises(ModelError, match="encoder"):
        load_model(folder)


@pytest.mark.parametrize("field", ["contract", "kind", "labels", "features", "filterbank", "dim", "window_s", "id"])
def test_contract_with_a_missing_field_is_refused(folder: Path, field: str) -> None:
    change_contract(folder / "encoder.onnx", lambda c: c.pop(field))
    with pytest.raises(ModelError, match=field):
        load_model(folder)


def test_a_contract_cannot_ask_for_embeddings_without_end(folder: Path) -> None:
    change_contract(folder / "encoder.onnx", lambda c: c.update(dim=50_000))
    with pytest.raises(ModelError, match="sizes out of range"):
        load_model(folder)


def test_wrong_input_shape_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "head.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 99
    onnx.save(model, folder / "head.onnx")
    with pytest.raises(ModelError, match=r"head\.onnx"):
        load_model(folder)


def test_halves_of_different_models_are_refused(folder: Path) -> None:
    change_contract(folder / "head.onnx", lambda c: c.update(id="another"))
    with pytest.raises(ModelError, match="not of one model"):
        load_model(folder)


def test_head_that_gives_no_probabilities_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "head.onnx")
    softmax = next(n for n in model.graph.node if "posteriors" in n.output)
    softmax.op_type = "Identity"
    del softmax.attribute[:]
    onnx.save(model, folder / "head.onnx")
    with pytest.raises(ModelError, match="no probabilities"):
        load_model(folder)


def replace_output(file: Path, name: str, *nodes: onnx.NodeProto, **weights: Any) -> None:
    """What gave the output gives `inner` now, and these operators make the output of it."""
    model = onnx.load(file)
    for node in model.graph.node:
        for i, output in enumerate(node.output):
            if output == name:
                node.output[i] = "inner"
        for i, given in enumerate(node.input):
            if given == name:
                node.input[i] = "inner"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    for output in model.graph.output:
        if output.name == name:
            output.type.tensor_type.ClearField("shape")
    onnx.save(model, file)


@pytest.mark.parametrize("file", ["encoder", "head"])
@pytest.mark.parametrize(
    "wrong",
    ["size", "nan", *(pytest.param(wrong, marks=pytest.mark.slow) for wrong in ("rank", "infinite", "missing"))],
)
def test_outputs_that_are_no_finite_numbers_of_the_contracts_shape_are_refused(
    folder: Path, file: str, wrong: str
) -> None:
    make = onnx.helper.make_node
    for name in ("embeddings", "next_state") if file == "encoder" else ("posteriors",):
        copy = Path(shutil.copytree(folder, folder.with_name(f"{name}-{wrong}")))
        match wrong:
            case "rank":
                nodes, weights = [make("Unsqueeze", ["inner", "axis"], [name])], {"axis": np.array([0])}
            case "size":
                nodes, weights = [make("Concat", ["inner", "inner"], [name], axis=-1)], {}
            case "missing":
                nodes, weights = [make("Identity", ["inner"], ["another"])], {}
            case _:
                value = np.float32(np.nan if wrong == "nan" else np.inf)
                nodes, weights = [make("Add", ["inner", "value"], [name])], {"value": value}
        replace_output(copy / f"{file}.onnx", name, *nodes, **weights)
        with pytest.raises(ModelError) as refused:
            load_model(copy)
        assert "\n" not in str(refused.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_device_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "head.onnx").unlink()
    os.mkfifo(folder / "head.onnx")
    with pytest.raises(ModelError, match=r"head\.onnx: is no file"):
        load_model(folder)
    (folder / "head.onnx").unlink()
    (folder / "head.onnx").symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=r"head\.onnx: is no file"):
        load_model(folder)
