"""Beside a finished model's head networks on statistics: `python -m tools.train_head RUN/model CONFIG --run RUN …`.

Its encoder and its head stay as they are; what is new (`tools/pooled.py`) learns in minutes on two cores, and takes the
place of such networks if it has some. Same seed and config, same head.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import onnx
import tomllib
import torch
import typer
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from realtime_ser.stages.contract import CONTRACT_KEY
from tools.augment import NOTHING, AugmentSettings
from tools.batches import Batches, gather
from tools.checkpoint import head_of
from tools.export import Posteriors, calibrate, write_onnx
from tools.network import (
    CALL_CHUNKS,
    CHUNK_FRAMES,
    FRAMES_PER_EMBEDDING,
    LOUDNESS_EXPONENT,
    N_MELS,
    SCALE_DB,
    Head,
)
from tools.pooled import BESIDE, NEPER_PER_DB, PARTS, Networks, PooledHead, network, of_embeddings, of_frames
from tools.prepare import Frames
from tools.splits import SPLITS, held_out
from tools.sums import write_sums
from tools.train import read_left_out

CALL_FRAMES = CALL_CHUNKS * CHUNK_FRAMES


class Lesson(NamedTuple):
    """Crops as the networks take them: statistics of embeddings and of frames, targets, allowed; (crops, …) each.

    `home` (crops,): whether they are of the corpus that the encoder learned from first.
    """

    heard: Tensor
    seen: Tensor
    targets: Tensor
    allowed: Tensor
    home: Tensor


def join(lessons: Sequence[Lesson]) -> Lesson:
    """One behind the other."""
    return Lesson(*(torch.cat(kind) for kind in zip(*lessons, strict=True)))


def embed(encoder: InferenceSession, frames: NDArray[np.float32]) -> Tensor:
    """Crops of one length, (batch, n * 16, 64), as the stream would embed them: (batch, n * 4, dim)."""
    size = next(given.shape[1] for given in encoder.get_inputs() if given.name == "state")
    state = np.zeros((len(frames), size), np.float32)
    made = []
    for start in range(0, frames.shape[1], CALL_FRAMES):
        feed = {"frames": frames[:, start : start + CALL_FRAMES], "state": state}
        embeddings, state = encoder.run(["embeddings", "next_state"], feed)
        made.append(embeddings)
    return torch.from_numpy(np.concatenate(made, axis=1))


def lesson(
    encoder: InferenceSession, batches: Batches, seeds: Sequence[int], smoothing: float, at_home: NDArray[np.bool_]
) -> Lesson:
    """One epoch of crops for each seed; `at_home` (clips,) of the batches' material."""
    parts: list[Lesson] = []
    for seed in seeds:
        torch.manual_seed(seed)
        epoch = batches.epoch(np.random.default_rng(seed), smoothing)
        for batch in track(epoch, "hearing", total=batches.per_epoch):
            embedded = embed(encoder, batch.frames.numpy())
            counts = (batch.n_real // FRAMES_PER_EMBEDDING).clamp(min=2).tolist()
            found = [
                (of_embeddings(e[None, :n, :-BESIDE]), of_frames(*e[None, :n, -BESIDE:].split(PARTS, dim=2)))
                for e, n in zip(embedded, counts, strict=True)
            ]
            heard, seen = (torch.cat(kind) for kind in zip(*found, strict=True))
            parts.append(Lesson(heard, seen, batch.targets, batch.allowed, torch.from_numpy(at_home[batch.rows])))
    return join(parts)


def teach(net: nn.Sequential, inputs: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], how: dict[str, Any]) -> None:
    """`loss_of`: what it says of some rows, and those rows → loss. The rate falls as a cosine."""
    batch, per_pass = how["batch"], len(inputs) // how["batch"]
    steps = how["passes"] * per_pass
    optimiser = torch.optim.AdamW(net.parameters(), how["rate"], weight_decay=how["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: 0.5 * (1 + math.cos(math.pi * s / steps)))
    net.train()
    for step in range(steps):
        place = step % per_pass
        if place == 0:
            order = torch.randperm(len(inputs))
        rows = order[place * batch : (place + 1) * batch]
        loss = loss_of(net(inputs[rows]), rows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval()


def taught(recorded: Lesson, degraded: Lesson, how: dict[str, Any]) -> tuple[Networks, Networks]:
    """Networks on embeddings; and on frames: those of recordings as they were, those of all, what tells which it is."""
    both = join((recorded, degraded))
    scales = [(inputs.mean(dim=0), inputs.std(dim=0) + 1e-3) for inputs in (both.heard, both.seen)]

    def of_emotion(given: Lesson, kind: int, width: int) -> list[nn.Sequential]:
        def loss(logits: Tensor, rows: Tensor) -> Tensor:
            return functional.cross_entropy(logits.masked_fill(~given.allowed[rows], -1e4), given.targets[rows])

        centre, spread = scales[kind]
        nets = [network(len(centre), width, given.targets.shape[1]) for _ in range(how["members"])]
        for net in track(nets, "teaching"):
            teach(net, (given[kind] - centre) / spread, loss, how)
        return nets

    as_recorded = torch.arange(len(both.seen)) < len(recorded.seen)
    where = torch.where(as_recorded, torch.where(both.home, 1, 2), 0)  # as PooledHead reads it

    def of_kind(said: Tensor, rows: Tensor) -> Tensor:
        return functional.cross_entropy(said, where[rows])

    on_embeddings = of_emotion(both, 0, how["embeddings_width"])
    on_frames = [of_emotion(given, 1, how["frames_width"]) for given in (recorded, both)]
    gate = network(both.seen.shape[1], how["gate_width"], 3)
    teach(gate, (both.seen - scales[1][0]) / scales[1][1], of_kind, how)
    with torch.no_grad():
        gate[-1].bias[2] += how["elsewhere_log_odds"]  # more of them in use than in its lessons (Saerens et al., 2002)
    return Networks(*scales[0], on_embeddings), Networks(*scales[1], *on_frames, [gate])


def has_frames_beside(encoder: onnx.ModelProto) -> bool:
    """Whether it is one of `frames_beside`."""
    return any("heard" in node.output for node in encoder.graph.node)


def frames_beside(encoder: onnx.ModelProto) -> onnx.ModelProto:
    """The encoder with `tools.pooled.beside` behind each embedding."""
    for node in encoder.graph.node:
        node.output[:] = ["heard" if name == "embeddings" else name for name in node.output]
    mean = np.full((N_MELS, 1), 1 / N_MELS, np.float32)
    constants: dict[str, NDArray[Any]] = {
        "neper_per_db": np.float32(NEPER_PER_DB),
        "scale_db": np.float32(SCALE_DB),
        "mean_of_bands": mean,
        "loudness_of_mean": mean * np.float32(LOUDNESS_EXPONENT * NEPER_PER_DB),
        "by_embedding": np.array([0, -1, FRAMES_PER_EMBEDDING], np.int64),
        "frames_by_embedding": np.array([0, -1, FRAMES_PER_EMBEDDING * N_MELS], np.int64),
    }
    encoder.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    for kind, inputs, output in (
        ("Div", ["frames", "scale_db"], "scaled_frames"),
        ("Reshape", ["scaled_frames", "frames_by_embedding"], "its_frames"),
        ("MatMul", ["frames", "loudness_of_mean"], "loudness_np"),
        ("Exp", ["loudness_np"], "loudness"),
        ("Reshape", ["loudness", "by_embedding"], "its_loudness"),
        ("Mul", ["frames", "neper_per_db"], "frames_np"),
        ("Exp", ["frames_np"], "band_power"),
        ("MatMul", ["band_power", "mean_of_bands"], "power"),
        ("Reshape", ["power", "by_embedding"], "its_power"),
    ):
        encoder.graph.node.append(helper.make_node(kind, inputs, [output]))
    joined = ["heard", "its_frames", "its_loudness", "its_power"]
    encoder.graph.node.append(helper.make_node("Concat", joined, ["embeddings"], axis=2))
    for output in encoder.graph.output:
        if output.name == "embeddings":
            output.type.tensor_type.shape.dim[2].dim_value += BESIDE
    return encoder


@torch.no_grad()
def say(encoder: InferenceSession, head: PooledHead, clips: Sequence[Frames]) -> NDArray[np.float32]:
    """Logits for whole clips, shape (clips, labels)."""
    whole = (frames[: max(CHUNK_FRAMES, len(frames) // CHUNK_FRAMES * CHUNK_FRAMES)] for frames in clips)
    return np.concatenate([head(embed(encoder, frames[None].astype(np.float32))).numpy() for frames in whole])


def main(
    start: Path,
    config: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    run: Annotated[Path, typer.Option(help="Run folder to make.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    cache: Annotated[Path, typer.Option(help="Where speech is kept.")] = Path(".cache/features"),
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Write `model` in the run folder; what START's run left out (`left_out.txt` beside START) is left out here."""
    torch.set_num_threads(threads)
    settings = tomllib.loads(config.read_text())
    how, labels = settings["head"], settings["labels"]
    seed = settings["training"]["seed"] if seed is None else seed
    given = onnx.load(start / "encoder.onnx")
    contract = json.loads(given.metadata_props[0].value)
    if contract["labels"] != labels:
        raise typer.BadParameter(f"{start} has other labels than {config}")
    dim = contract["dim"] - (BESIDE if has_frames_beside(given) else 0)
    own = Head(dim, len(labels))
    try:
        own.load_state_dict(head_of(onnx.load(start / "head.onnx").graph, 0), strict=False)
    except (IndexError, RuntimeError):
        raise typer.BadParameter(f"{start}: has not one attentive head") from None
    left_out = read_left_out(start.parent) if (start.parent / "left_out.txt").exists() else []
    per_epoch = settings["clips_per_epoch"] | how["clips_per_epoch"]
    per_epoch = {name: n for name, n in per_epoch.items() if name not in left_out}
    material = gather(corpora, splits, list(per_epoch), labels, cache)
    held = held_out(material.clips, splits)
    kept = material.part([i for i, c in enumerate(material.clips) if not held[i] and c.text not in left_out])

    # The encoder, and what it gives of crops as they were recorded and of as many degraded.
    contract |= {name: settings[name] for name in ("id", "licence")}
    contract |= {"dim": dim + BESIDE, "trained_on": list(per_epoch)}
    encoder = given if has_frames_beside(given) else frames_beside(given)
    options = SessionOptions()
    options.intra_op_num_threads = threads
    session = InferenceSession(encoder.SerializeToString(), options)
    at_home = np.array([c.corpus == how["home"] for c in kept.clips])
    degraded = replace(AugmentSettings(**settings["augment"]), as_recorded=0, spliced=0)
    lessons = [
        lesson(
            session, Batches(kept, corpora, cache, per_epoch, how["crops"], world, torch.device("cpu")),
            [1000 * seed + place + at for at in range(how["epochs"])], how["unacted_smoothing"], at_home,
        )
        for place, world in ((0, NOTHING), (100, degraded))
    ]  # fmt: skip
    torch.manual_seed(seed)
    head = PooledHead(own, *taught(lessons[0], lessons[1], how), dim, how["shares"], how["neutral_off"]).eval()

    temperature, accuracy = calibrate(partial(say, session, head), corpora, splits, labels, cache)
    print(f"accuracy on the validation speakers {accuracy:.3f}")
    contract["temperature"] = asdict(temperature)
    helper.set_model_props(encoder, {CONTRACT_KEY: json.dumps(contract | {"kind": "encoder"})})
    folder = run / "model"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder, folder / "encoder.onnx")
    window = {"embeddings": torch.randn(1, 48, dim + BESIDE)}
    write_onnx(
        Posteriors(head, temperature).eval(), window, ["posteriors"], {"embeddings": "n"}, folder / "head.onnx",
        contract | {"kind": "head"},
    )  # fmt: skip
    write_sums(folder)
    (run / "left_out.txt").write_text("".join(f"{name}\n" for name in left_out))


if __name__ == "__main__":
    typer.run(main)
