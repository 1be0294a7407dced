"""The network streams as it trains, and the shipped files are such a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer

torch = pytest.importorskip("torch", reason="PyTorch belongs to the [train] extra")


def made_up(seed: int) -> torch.nn.Module:
    from tools.network import SpeechEmotionNet

    torch.manual_seed(seed)
    net = SpeechEmotionNet(6)
    # Batch norm with statistics that are not those of a new layer.
    for module in net.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1)  # new blocks are the identity
            module.bias.data.normal_(std=0.1)
    return net.eval()


@pytest.fixture
def net() -> torch.nn.Module:
    return made_up(0)


@torch.no_grad()
def test_chunks_give_what_the_whole_gives(net: torch.nn.Module) -> None:
    frames = torch.randn(2, 8 * 16, 64) * 15 - 30
    whole = net.embed(frames)
    state = torch.zeros(2, net.encoder.state_size)
    parts = []
    for call in frames.split([4 * 16, 16, 2 * 16, 16], dim=1):
        embeddings, state = net.encoder(call, state)
        parts.append(embeddings)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_future_beyond_a_chunk_changes_nothing(net: torch.nn.Module) -> None:
    frames = torch.randn(1, 8 * 16, 64) * 15 - 30
    changed = frames.clone()
    changed[:, 6 * 16 :] += 20
    torch.testing.assert_close(net.embed(frames)[:, : 6 * 4], net.embed(changed)[:, : 6 * 4])


@torch.no_grad()
def test_a_gain_changes_nothing(net: torch.nn.Module) -> None:
    frames = torch.randn(1, 128, 64) * 10 - 30
    torch.testing.assert_close(net.embed(frames + 12), net.embed(frames), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_masked_embeddings_do_not_count(net: torch.nn.Module) -> None:
    embeddings = torch.randn(1, 40, 160)
    mask = torch.arange(40)[None] < 25
    torch.testing.assert_close(net.head(embeddings, mask), net.head(embeddings[:, :25]))


@torch.no_grad()
def test_export_gives_the_same_numbers_and_fits_the_contract(net: torch.nn.Module, tmp_path: object) -> None:
    from pathlib import Path

    import numpy as np

    from realtime_ser.stages.model import load_model
    from tools.export import Temperature, export

    settings = {
        "id": "tiny",
        "licence": "test",
        "labels": ["neutral", "happy", "sad", "angry", "fearful", "disgusted"],
        "clips_per_epoch": {},
    }
    folder = Path(str(tmp_path)) / "tiny"
    export(net, settings, Temperature(long=0.8, short=0.4), folder)
    model = load_model(folder)
    frames = (np.random.default_rng(0).standard_normal((128, 64)) * 15 - 30).astype(np.float32)
    embeddings = model.encoder().push(frames)
    expected = net.embed(torch.from_numpy(frames)[None])
    np.testing.assert_allclose(embeddings, expected[0].numpy(), atol=1e-3)
    posteriors = torch.softmax(net.head(expected) / (0.8 + 0.4 / 2), dim=1)  # 128 frames are 2 s
    np.testing.assert_allclose(model.head().push(embeddings[None]), posteriors.numpy(), atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("n_networks", [1, 2])
def test_integers_give_nearly_the_same_numbers_and_weights_are_integers(
    net: torch.nn.Module, tmp_path: Path, n_networks: int
) -> None:
    import json

    import numpy as np
    import onnx

    from realtime_ser.bench import multiply_adds
    from realtime_ser.stages.contract import CONTRACT_KEY
    from realtime_ser.stages.model import load_model
    from tools.export import Temperature, export
    from tools.network import Ensemble
    from tools.quantize import integer_encoder

    rng = np.random.default_rng(0)
    heard = [(rng.standard_normal((256, 64)) * 15 - 30).astype(np.float32) for _ in range(4)]
    settings = {"id": "tiny", "licence": "test", "labels": ["neutral", "happy"], "clips_per_epoch": {}}
    plain, integer = tmp_path / "plain", tmp_path / "integer"
    net.head.classify = torch.nn.Linear(net.head.classify.in_features, 2)
    export(net if n_networks == 1 else Ensemble([net, net]).eval(), settings, Temperature(), plain)
    (properties,) = onnx.load(plain / "encoder.onnx").metadata_props
    assert properties.key == CONTRACT_KEY
    shutil.copytree(plain, integer)
    (integer / "SHA256SUMS").unlink()
    made = integer_encoder([net.encoder] * n_networks, heard, json.loads(properties.value))
    onnx.save(made, integer / "encoder.onnx")
    before, after = load_model(str(plain)), load_model(str(integer))
    frames = heard[0][:128]
    a, b = (model.encoder().push(frames) for model in (before, after))
    assert a.shape == b.shape
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99
    assert after.contract.model_id == before.contract.model_id
    weights = [w for w in made.graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4]
    assert len(weights) == n_networks * len(net.encoder.layers)
    assert max(np.abs(onnx.numpy_helper.to_array(w).astype(int)).max() for w in weights) <= 64  # 7 bits
    counts = [
        multiply_adds(folder / "encoder.onnx", {"frames": frames[None, :16], "state": np.zeros((1, size), np.float32)})
        for folder, size in ((plain, before.contract.state_size), (integer, after.contract.state_size))
    ]
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_short_windows_are_less_sure_if_they_are_less_often_right() -> None:
    import numpy as np

    from tools.export import fit_temperature

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 4000)
    # Equally extreme logits, of which the short windows' are right half as often.
    told = {share: np.where(rng.random(4000) < share, truth, rng.integers(0, 3, 4000)) for share in (0.4, 0.8)}
    logits = [3 * np.eye(3, dtype=np.float32)[told[share]] for share in (0.4, 0.8)]
    found = fit_temperature(logits, np.repeat([[0.5], [4.0]], 4000, axis=1), truth)
    for heard_s, scores, share in ((0.5, logits[0], 0.4), (4.0, logits[1], 0.8)):
        confidence = torch.softmax(torch.from_numpy(scores) / (found.long + found.short / heard_s), dim=1).max(dim=1)
        right = share + (1 - share) / 3
        assert abs(float(confidence.values.mean()) - right) < 0.02


@torch.no_grad()
def test_an_ensemble_streams_and_has_the_mean_logits_of_its_networks(net: torch.nn.Module, tmp_path: Path) -> None:
    from realtime_ser.stages.model import load_model
    from tools.export import Temperature, export
    from tools.network import Ensemble, SpeechEmotionNet

    torch.manual_seed(1)
    other = SpeechEmotionNet(6).eval()
    both = Ensemble([net, other]).eval()
    frames = torch.randn(1, 128, 64) * 15 - 30
    logits = (net.head(net.embed(frames)) + other.head(other.embed(frames))) / 2
    torch.testing.assert_close(both.head(both.embed(frames)), logits)
    settings = {"id": "two", "licence": "test", "labels": ["a", "b", "c", "d", "e", "f"], "clips_per_epoch": {}}
    export(both, settings, Temperature(), tmp_path / "two")
    model = load_model(str(tmp_path / "two"))
    posteriors = model.head().push(model.encoder().push(frames[0].numpy())[None])
    torch.testing.assert_close(torch.from_numpy(posteriors), torch.softmax(logits, dim=1), atol=1e-4, rtol=0)


@torch.no_grad()
def test_an_exported_model_becomes_a_run_again(net: torch.nn.Module, tmp_path: Path) -> None:
    from tools import checkpoint
    from tools.export import Temperature, export
    from tools.network import load_network

    for value in net.state_dict().values():
        if value.dtype.is_floating_point:
            value.uniform_(0.5, 1)  # after training no two are equal, which the export would merge
    labels = ["a", "b", "c", "d", "e", "f"]
    settings = {"id": "tiny", "licence": "test", "labels": labels, "clips_per_epoch": {}}
    export(net, settings, Temperature(), tmp_path / "model")
    config = tmp_path / "tiny.toml"
    widths = "widths = [24, 48, 80, 96]\nblocks = [1, 1, 2, 2]\ndim = 160\n"
    config.write_text(f"labels = {labels}\n[network]\n{widths}")
    checkpoint.main(tmp_path / "model", config, tmp_path / "run")
    again, _ = load_network(tmp_path / "run")
    for name, value in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


@torch.no_grad()
def test_a_network_of_integers_becomes_a_run_that_says_nearly_the_same(net: torch.nn.Module, tmp_path: Path) -> None:
    import json

    import numpy as np
    import onnx

    from tools import checkpoint
    from tools.export import Temperature, export
    from tools.network import Ensemble, load_network
    from tools.quantize import integer_encoder

    other = made_up(2)
    labels = ["a", "b", "c", "d", "e", "f"]
    settings = {"id": "two", "licence": "test", "labels": labels, "clips_per_epoch": {}}
    export(Ensemble([other, net]).eval(), settings, Temperature(), tmp_path / "model")
    contract = json.loads(onnx.load(tmp_path / "model" / "encoder.onnx").metadata_props[0].value)
    rng = np.random.default_rng(0)
    heard = [(rng.standard_normal((256, 64)) * 15 - 30).astype(np.float32) for _ in range(4)]
    onnx.save(integer_encoder([other.encoder, net.encoder], heard, contract), tmp_path / "model" / "encoder.onnx")
    config = tmp_path / "two.toml"
    config.write_text(f"labels = {labels}\n[network]\n")
    frames = torch.from_numpy(heard[0][None, :128])
    for place, original in enumerate((other, net)):
        checkpoint.main(tmp_path / "model", config, tmp_path / f"run{place}", place)
        again = load_network(tmp_path / f"run{place}")[0]
        for mine, its in (
            (again.embed(frames), original.embed(frames)),
            (again.head.attend[0].weight, original.head.attend[0].weight),
        ):
            assert np.corrcoef(mine.flatten(), its.flatten())[0, 1] > 0.999
        torch.testing.assert_close(again.head.classify.weight, original.head.classify.weight, rtol=0, atol=0)
    with pytest.raises(typer.BadParameter, match="at place 2"):
        checkpoint.main(tmp_path / "model", config, tmp_path / "run2", 2)

    # Its norms are in its weights; taken out again, what it says stays, and they are such as one can go on with.
    before = again.embed(frames)
    checkpoint.unfold(again.encoder, map(torch.from_numpy, heard))
    torch.testing.assert_close(again.embed(frames), before, atol=1e-4, rtol=1e-4)
    for layer in again.encoder.layers:
        assert layer.weight.square().mean() == pytest.approx(2 / layer.weight.shape[1], rel=1e-3)
    again.encoder.train()
    in_training = again.embed(torch.from_numpy(np.stack(heard)))
    again.encoder.eval()
    assert np.corrcoef(in_training.flatten(), again.embed(torch.from_numpy(np.stack(heard))).flatten())[0, 1] > 0.95
