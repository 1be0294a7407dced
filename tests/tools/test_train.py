"""Training on a tiny tree with CREMA-D's real names: it resumes to the same weights, and its run folder is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="PyTorch belongs to the [train] extra")
pytest.importorskip("pyroomacoustics", reason="rooms belong to the [train] extra")

pytestmark = pytest.mark.slow

CONFIG = """
id = "tiny"
licence = "for tests"
labels = ["neutral", "happy", "sad", "angry", "fearful", "disgusted"]

[clips_per_epoch]
"CREMA-D" = 24

[network]
widths = [4, 4, 4, 4]
blocks = [1, 1, 1, 1]
dim = 8

[training]
epochs = 2
batch = 8
muon_rate = 6e-3
adamw_rate = 2.5e-3
weight_decay = 0.03
seed = 1
unacted_smoothing = [0.7, 0.4]

[augment]
spliced = 0.5
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers, one kept for validation; buzzes in place of voices, and a noise."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    t = np.arange(20_000) / 16_000
    for speaker in ("1001", "1002"):
        for k, emotion in enumerate(("NEU", "HAP", "SAD", "ANG", "FEA", "DIS")):
            for sentence in ("IEO", "TIE"):
                voice = np.sign(np.sin(2 * np.pi * (100 + 20 * k) * t)) * np.sin(2 * np.pi * 3 * t) ** 2
                path = root / "corpora" / "CREMA-D" / "AudioWAV" / f"{speaker}_{sentence}_{emotion}_XX.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * voice + 0.001 * rng.standard_normal(len(t)), 16_000)
    stranger = root / "corpora" / "URDU" / "Sad" / "SF2_F3_S03.wav"
    stranger.parent.mkdir(parents=True)
    soundfile.write(stranger, 0.1 * voice, 16_000)
    noise = root / "corpora" / "ESC-10" / "002 - Rain" / "1.ogg"
    noise.parent.mkdir(parents=True)
    soundfile.write(noise, 0.1 * rng.standard_normal(80_000), 16_000)
    splits = root / "splits"
    splits.mkdir()
    (splits / "crema_d_train_speakers.txt").write_text("1001\n")
    (splits / "crema_d_validation_speakers.txt").write_text("1002\n")
    (splits / "crema_d_voice_votes.csv").write_text("file,A,D,F,H,N,S\n1001_IEO_NEU_XX,0,0,0,1,10,0\n")
    (splits / "crema_d_demographics.csv").write_text('"ActorID","Age","Sex"\n1001,51,"Male"\n1002,21,"Female"\n')
    (root / "tiny.toml").write_text(CONFIG)
    return root


def train(tree: Path, run: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.train", str(tree / "tiny.toml"), "--run", str(tree / run), *options]
    command += ["--corpora", str(tree / "corpora"), "--splits", str(tree / "splits"), "--cache", str(tree / "cache")]
    return subprocess.run([*command, "--threads", "1"], capture_output=True, text=True, timeout=300)


def test_a_run_cut_short_resumes_to_the_same_weights(tree: Path) -> None:
    whole = train(tree, "whole")
    assert whole.returncode == 0, whole.stderr
    for name in ("config.toml", "loss.csv", "validation.csv", "curves.png", "checkpoint.pt"):
        assert (tree / "whole" / name).exists(), name

    cut = subprocess.Popen(
        [sys.executable, "-c", KILLED_AFTER_ONE, str(tree / "tiny.toml"), "--run", str(tree / "cut"),
         "--corpora", str(tree / "corpora"), "--splits", str(tree / "splits"), "--cache", str(tree / "cache"),
         "--threads", "1"],
    )  # fmt: skip
    assert cut.wait(300) == 9
    resumed = train(tree, "cut")
    assert resumed.returncode == 0, resumed.stderr
    weights = [torch.load(tree / run / "checkpoint.pt", weights_only=True)["average"] for run in ("whole", "cut")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=0, msg=name)
    assert len((tree / "cut" / "loss.csv").read_text().splitlines()) == 3  # a header and two epochs

    (tree / "tiny.toml").write_text(CONFIG.replace("batch = 8", "batch = 4"))
    other = train(tree, "whole")
    assert other.returncode == 2
    assert "another config" in other.stderr


def test_a_run_is_what_it_was_begun_as(tree: Path) -> None:
    from typer import BadParameter

    from tools.train import begin

    options = {"epochs": 2, "seed": 1, "leave-out": ["TIE"], "start": None, "teacher": []}
    run = tree / "begun"
    begin(run, CONFIG, options | {"seed": 2})
    begin(run, CONFIG, options)  # nothing was learned yet
    (run / "checkpoint.pt").touch()
    begin(run, CONFIG, options)
    for other in (
        {"epochs": 3}, {"seed": 2}, {"leave-out": []}, {"leave-out": ["TIE", "IEO"]}, {"start": "runs/1"},
        {"teacher": ["runs/1"]},
    ):  # fmt: skip
        with pytest.raises(BadParameter, match=f"another {next(iter(other))};"):
            begin(run, CONFIG, options | other)
    (run / "options.json").unlink()  # as runs were before
    begin(run, CONFIG, options)
    with pytest.raises(BadParameter, match="another leave-out;"):
        begin(run, CONFIG, options | {"leave-out": ["IEO"]})
    assert (run / "left_out.txt").read_text() == "TIE\n"


def test_a_run_cannot_lie_about_what_it_left_out(tree: Path) -> None:
    (tree / "tiny.toml").write_text(CONFIG)
    assert train(tree, "heard", "--epochs", "1").returncode == 0
    for options, told in {
        ("heard", "--epochs", "1", "--leave-out", "TIE"): "another leave-out",
        ("heard", "--epochs", "1", "--spliced", "0"): "another spliced",
        ("typo", "--leave-out", "TIF"): "cannot leave out TIF",
        ("after", "--leave-out", "TIE", "--start", str(tree / "heard")): "has heard it",
        ("taught", "--leave-out", "TIE", "--teacher", str(tree / "heard")): "has heard it",
    }.items():
        refused = train(tree, *options)
        assert refused.returncode == 2
        assert told in " ".join(refused.stderr.replace("│", "").split())
    assert (tree / "heard" / "left_out.txt").read_text() == ""
    assert not (tree / "typo").exists()


def test_a_network_learns_what_its_teacher_says_and_may_be_blended_with_it(tree: Path) -> None:
    from tools import blend
    from tools.network import SpeechEmotionNet, load_network
    from tools.train import predict

    (tree / "tiny.toml").write_text(CONFIG.replace("adamw_rate = 2.5e-3", "adamw_rate = 0.1"))  # few steps
    teacher = SpeechEmotionNet(6, [4, 4, 4, 4], [1, 1, 1, 1], 8)
    teacher.head.classify.weight.data.zero_()
    teacher.head.classify.bias.data = torch.tensor([0.0, 0, 9, 0, 0, 0])  # whatever it hears is sad
    (tree / "teacher").mkdir()
    torch.save({"average": teacher.state_dict()}, tree / "teacher" / "checkpoint.pt")
    (tree / "teacher" / "config.toml").write_text(CONFIG)
    sad = {}
    for run, options in {"alone": (), "taught": ("--teacher", str(tree / "teacher"))}.items():
        trained = train(tree, run, "--epochs", "6", *options)
        assert trained.returncode == 0, trained.stderr
        rng = np.random.default_rng(0)
        voices = [(rng.standard_normal((128, 64)) * 10 - 40).astype(np.float16) for _ in range(8)]
        logits = predict(load_network(tree / run)[0], voices)
        sad[run] = float(np.mean(logits[:, 2] - np.delete(logits, 2, axis=1).mean(axis=1)))
    assert sad["taught"] > sad["alone"] + 0.5

    blend.main(tree / "alone", [tree / "taught", tree / "alone"], tree / "blend", share=0.5)
    before, after, between = (load_network(tree / run)[0].state_dict() for run in ("alone", "taught", "blend"))
    for name, value in between.items():
        if value.dtype.is_floating_point:
            torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * after[name])
    (tree / "alone" / "left_out.txt").write_text("IEO\nTIE\n")
    (tree / "taught" / "left_out.txt").write_text("TIE\nWSI\n")
    blend.main(tree / "alone", [tree / "taught"], tree / "blend")
    assert (tree / "blend" / "left_out.txt").read_text() == "TIE\n"  # all else was heard by one of them


def test_a_model_gets_networks_on_statistics_beside_its_head(tree: Path) -> None:
    from typer import BadParameter

    from realtime_ser.stages.model import load_model
    from tools import export, train_head
    from tools.pooled import beside

    (tree / "tiny.toml").write_text(CONFIG)
    assert train(tree, "start", "--epochs", "1", "--leave-out", "TIE").returncode == 0
    start, corpora, splits, cache = tree / "start" / "model", tree / "corpora", tree / "splits", tree / "cache"
    export.main(tree / "start", corpora, start, splits, None, cache)
    config = tree / "head.toml"
    config.write_text(CONFIG + HEAD)
    for run in ("head", "again"):
        train_head.main(start, config, corpora, tree / run, splits, cache, threads=1)
    for name in ("encoder.onnx", "head.onnx"):
        assert (tree / "head" / "model" / name).read_bytes() == (tree / "again" / "model" / name).read_bytes(), name
    assert (tree / "head" / "left_out.txt").read_text() == "TIE\n"  # nothing of it ever heard it

    # As it streams: what the encoder said before, and behind it what its frames are.
    frames = np.random.default_rng(0).standard_normal((160, 64)).astype(np.float32) * 10 - 40
    before, after = (load_model(folder).encoder().push(frames) for folder in (start, tree / "head" / "model"))
    behind = beside(torch.from_numpy(frames)[None])[0].numpy()
    np.testing.assert_array_equal(after[:, :8], before)
    np.testing.assert_allclose(after[:, 8:], behind, rtol=1e-5)
    model = load_model(tree / "head" / "model")
    posteriors = model.head().push(after[None])[0]
    louder = np.concatenate((before, beside(torch.from_numpy(frames + 12)[None])[0].numpy()), axis=1)
    np.testing.assert_allclose(model.head().push(louder[None])[0], posteriors, atol=1e-4)
    others = np.stack([after, after[::-1], np.roll(after, 3, axis=0)])
    np.testing.assert_array_equal(model.head().push(others)[0], posteriors)  # alone or in a batch

    # What has such networks already gets others in their place.
    train_head.main(tree / "head" / "model", config, corpora, tree / "more", splits, cache, threads=1)
    for name in ("encoder.onnx", "head.onnx"):
        assert (tree / "head" / "model" / name).read_bytes() == (tree / "more" / "model" / name).read_bytes(), name

    # Where every window counts as one from elsewhere, the share at home means nothing.
    said = []
    for at_home in ("0.35", "0.9"):
        config.write_text(CONFIG + HEAD.replace("odds = 2", "odds = 1e4").replace("[0.35,", f"[{at_home},"))
        train_head.main(start, config, corpora, tree / at_home, splits, cache, threads=1)
        said.append(load_model(tree / at_home / "model").head().push(after[None])[0])
    np.testing.assert_allclose(*said, atol=1e-6)

    (start / "head.onnx").write_bytes((start / "encoder.onnx").read_bytes())
    with pytest.raises(BadParameter, match="has not one attentive head"):
        train_head.main(start, config, corpora, tree / "other", splits, cache, threads=1)


def test_a_run_goes_on_from_one_that_knew_fewer_labels(tree: Path) -> None:
    from tools.network import load_network

    more = CONFIG.replace('"disgusted"]', '"disgusted", "surprised"]').replace('"CREMA-D" =', 'URDU = 8\n"CREMA-D" =')
    (tree / "tiny.toml").write_text(CONFIG)
    assert train(tree, "fewer", "--epochs", "1").returncode == 0
    weights, bias = ((state := load_network(tree / "fewer")[0].head.classify).weight, state.bias)
    (tree / "tiny.toml").write_text(more.replace("rate = 6e-3", "rate = 0").replace("rate = 2.5e-3", "rate = 0"))
    went_on = train(tree, "more", "--epochs", "1", "--start", str(tree / "fewer"), "--leave-out", "URDU")
    assert went_on.returncode == 0, went_on.stderr  # the other run had never heard of that corpus
    after = load_network(tree / "more")[0].head.classify
    torch.testing.assert_close(after.weight, torch.cat((weights, weights.mean(dim=0, keepdim=True))), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.bias, torch.cat((bias, bias.mean()[None])), atol=1e-5, rtol=0)


HEAD = """hiss = 1

[head]
members = 2
embeddings_width = 8
frames_width = 4
gate_width = 4
home = "CREMA-D"
shares = [0.35, 0.65]
elsewhere_log_odds = 2
neutral_off = 0.3
epochs = 1
crops = 8
passes = 2
batch = 8
rate = 1e-3
weight_decay = 0.03
unacted_smoothing = 0.4
clips_per_epoch = { "CREMA-D" = 16 }
"""
KILLED_AFTER_ONE = """
import os, torch, typer
from tools import train
save = torch.save
def save_and_die(state, path):
    save(state, path)
    os.replace(path, path.with_suffix(".pt"))
    os._exit(9)
train.torch.save = save_and_die
typer.run(train.main)
"""
