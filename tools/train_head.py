"""A head for a finished encoder: `python -m tools.train_head models/ser-base CONFIG --run runs/research …`.

The encoder stays as it is, bit for bit, in its integers; what is new (`tools/pooled.py`) learns in minutes on two cores
from crops that it embeds once. So a model can learn from corpora that its encoder never heard, and one that left a
corpus out tells truly of strangers. The model is written to `RUN/model`; same seed and config, same head.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import onnx
import tomllib
import torch
import typer
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime import InferenceSession, SessionOptions
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from realtime_ser.stages.contract import CONTRACT_KEY
from tools.augment import NOTHING, AugmentSettings
from tools.batches import Batches, gather
from tools.corpora import CREMA_D_SENTENCES
from tools.export import Posteriors, calibrate, write_onnx
from tools.network import CALL_CHUNKS, CHUNK_FRAMES, FRAMES_PER_EMBEDDING
from tools.pooled import BESIDE, Branch, PooledHead
from tools.prepare import Frames
from tools.splits import SPLITS, held_out
from tools.sums import write_sums
from tools.train import read_left_out

CALL_FRAMES = CALL_CHUNKS * CHUNK_FRAMES


class Lesson(NamedTuple):
    """Crops as a head takes them: statistics of embeddings and of frames, targets and allowed; (crops, …) each."""

    heard: Tensor
    seen: Tensor
    targets: Tensor
    allowed: Tensor


def embed(encoder: InferenceSession, frames: NDArray[np.float32]) -> Tensor:
    """Crops of one length, (batch, n * 16, 64), as the stream would embed them, with their frames behind."""
    state_size = next(given.shape[1] for given in encoder.get_inputs() if given.name == "state")
    state = np.zeros((len(frames), state_size), np.float32)
    made = []
    for start in range(0, frames.shape[1], CALL_FRAMES):
        feed = {"frames": frames[:, start : start + CALL_FRAMES], "state": state}
        embeddings, state = encoder.run(["embeddings", "next_state"], feed)
        made.append(embeddings)
    beside = frames.reshape(len(frames), -1, BESIDE)
    return torch.from_numpy(np.concatenate((np.concatenate(made, axis=1), beside), axis=2))


def lesson(
    encoder: InferenceSession, head: PooledHead, batches: Batches, seeds: Sequence[int], smoothing: float
) -> Lesson:
    """One epoch of crops for each seed."""
    parts: list[Lesson] = []
    for seed in seeds:
        torch.manual_seed(seed)
        epoch = batches.epoch(np.random.default_rng(seed), smoothing)
        for batch in track(epoch, "hearing", total=batches.per_epoch):
            embedded = embed(encoder, batch.frames.numpy())
            counts = (batch.n_real // FRAMES_PER_EMBEDDING).clamp(min=2).tolist()
            found = [head.statistics(e[None, :n]) for e, n in zip(embedded, counts, strict=True)]
            heard, seen = (torch.cat(kind) for kind in zip(*found, strict=True))
            parts.append(Lesson(heard, seen, batch.targets, batch.allowed))
    return Lesson(*(torch.cat(kind) for kind in zip(*parts, strict=True)))


def teach(branch: Branch, statistics: Tensor, given: Lesson, options: dict[str, Any]) -> None:
    """Each of the branch's networks in its own order of the crops; the rate falls as a cosine."""
    branch.centre.copy_(statistics.mean(dim=0))
    branch.spread.copy_(statistics.std(dim=0) + 1e-3)
    standard = (statistics - branch.centre) / branch.spread
    batch, per_pass = options["batch"], len(standard) // options["batch"]
    steps = options["passes"] * per_pass
    for member in track(branch.members, "teaching"):
        member.train()
        optimiser = torch.optim.AdamW(member.parameters(), options["rate"], weight_decay=options["weight_decay"])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: 0.5 * (1 + math.cos(math.pi * s / steps)))
        for step in range(steps):
            place = step % per_pass
            if place == 0:
                order = torch.randperm(len(standard))
            rows = order[place * batch : (place + 1) * batch]
            logits = member(standard[rows]).masked_fill(~given.allowed[rows], -1e4)
            loss = functional.cross_entropy(logits, given.targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        member.eval()


@torch.no_grad()
def say(encoder: InferenceSession, head: PooledHead, clips: Sequence[Frames]) -> NDArray[np.float32]:
    """Logits for whole clips, shape (clips, labels)."""
    whole = (frames[: max(CHUNK_FRAMES, len(frames) // CHUNK_FRAMES * CHUNK_FRAMES)] for frames in clips)
    return np.concatenate([head(embed(encoder, frames[None])).numpy() for frames in whole])


def frames_beside(encoder: onnx.ModelProto, contract: dict[str, Any]) -> onnx.ModelProto:
    """The encoder with each embedding's frames behind it, and another contract."""
    for node in encoder.graph.node:
        node.output[:] = ["heard" if name == "embeddings" else name for name in node.output]
    shape = helper.make_tensor("beside_shape", TensorProto.INT64, [3], [0, -1, BESIDE])
    encoder.graph.initializer.append(shape)
    encoder.graph.node.extend(
        [
            helper.make_node("Reshape", ["frames", "beside_shape"], ["beside"]),
            helper.make_node("Concat", ["heard", "beside"], ["embeddings"], axis=2),
        ]
    )
    for output in encoder.graph.output:
        if output.name == "embeddings":
            output.type.tensor_type.shape.dim[2].dim_value = contract["dim"]
    del encoder.metadata_props[:]
    helper.set_model_props(encoder, {CONTRACT_KEY: json.dumps(contract)})
    return encoder


def main(
    start: Path,
    config: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    run: Annotated[Path, typer.Option(help="Run folder to make.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    cache: Annotated[Path, typer.Option(help="Where speech is kept.")] = Path(".cache/features"),
    leave_out: Annotated[list[str] | None, typer.Option(help="Corpora, or sentences of CREMA-D, to leave out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Write the run folder: a model of START's encoder and a head of its own, and what both left out."""
    torch.set_num_threads(threads)
    settings = tomllib.loads(config.read_text())
    options, labels, per_epoch = settings["training"], settings["labels"], settings["clips_per_epoch"]
    seed = options["seed"] if seed is None else seed
    session_options = SessionOptions()
    session_options.intra_op_num_threads = threads
    encoder = InferenceSession(start / "encoder.onnx", session_options)
    contract = json.loads(onnx.load(start / "encoder.onnx").metadata_props[0].value)
    before = read_left_out(start.parent) if (start.parent / "left_out.txt").exists() else []
    left_out = sorted({*before, *(leave_out or [])})
    known = (*per_epoch, *CREMA_D_SENTENCES)
    for name in left_out:
        if name not in known:
            raise typer.BadParameter(f"cannot leave out {name}: there are {', '.join(known)}")
        if name not in before and (name in contract["trained_on"] or name in CREMA_D_SENTENCES):
            raise typer.BadParameter(f"cannot leave out {name}: {start} has heard it")
    material = gather(corpora, splits, [name for name in per_epoch if name not in left_out], labels, cache)
    held = held_out(material.clips, splits)
    kept = material.part([i for i, c in enumerate(material.clips) if not held[i] and c.text not in left_out])
    per_epoch = {name: n for name, n in per_epoch.items() if name not in left_out}
    torch.manual_seed(seed)
    head = PooledHead(contract["dim"], len(labels), **settings["head"])

    # Crops as they were recorded, and as many degraded.
    parts = [
        lesson(
            encoder, head, Batches(kept, corpora, cache, per_epoch, options["crops"], how, torch.device("cpu")),
            [1000 * seed + place + at for at in range(options["epochs"])], options["unacted_smoothing"],
        )
        for place, how in ((0, NOTHING), (100, AugmentSettings(**settings["degraded"])))
    ]  # fmt: skip
    given = Lesson(*(torch.cat(kind) for kind in zip(*parts, strict=True)))
    torch.manual_seed(seed)
    teach(head.of_embeddings, given.heard, given, options)
    teach(head.of_frames, given.seen, given, options)
    head.eval()

    temperature, accuracy = calibrate(partial(say, encoder, head), corpora, splits, labels, cache)
    print(f"accuracy on the validation speakers {accuracy:.3f}")
    heard = [name for name in contract["trained_on"] if name not in per_epoch]
    contract |= {name: settings[name] for name in ("id", "licence", "labels")}
    contract |= {"trained_on": [*heard, *per_epoch], "dim": head.dim + BESIDE, "temperature": asdict(temperature)}
    folder = run / "model"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(frames_beside(onnx.load(start / "encoder.onnx"), contract | {"kind": "encoder"}), folder / "encoder.onnx")
    window = {"embeddings": torch.randn(1, 48, head.dim + BESIDE)}
    write_onnx(
        Posteriors(head, temperature).eval(), window, ["posteriors"], {"embeddings": "n"}, folder / "head.onnx",
        contract | {"kind": "head"},
    )  # fmt: skip
    write_sums(folder)
    (run / "left_out.txt").write_text("".join(f"{name}\n" for name in left_out))
    (run / "config.toml").write_text(config.read_text())


if __name__ == "__main__":
    typer.run(main)
