"""A trained network's head anew, on its encoder as it is: `python -m tools.train_head RUN CONFIG --run runs/head …`.

What an encoder hears in ordinary speech is told by the head, which learns in minutes not to call it an emotion. One
epoch of crops is embedded once; the head learns from it again and again. With the same seed and options, the same head.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tomllib
import torch
import typer
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from tools.augment import AugmentSettings
from tools.batches import Batches, gather
from tools.network import Head, SpeechEmotionNet, load_network
from tools.splits import SPLITS, held_out
from tools.train import SUB_WINDOW, embedding_mask, floats_of, sub_window

EMA = 0.98
"""Decay of the averaged weights, per step: there are a few hundred."""


class Lesson(NamedTuple):
    """Crops as the encoder hears them. (crops, n, dim) and (crops, n); targets and allowed (crops, labels)."""

    embeddings: Tensor
    mask: Tensor
    targets: Tensor
    allowed: Tensor


@torch.no_grad()
def lesson(net: SpeechEmotionNet, batches: Batches, seed: int, smoothing: float) -> Lesson:
    """One epoch of crops, embedded."""
    torch.manual_seed(seed)
    heard = []
    for batch in track(batches.epoch(np.random.default_rng(seed), smoothing), "hearing", total=batches.per_epoch):
        embeddings = net.embed(batch.frames)
        mask = embedding_mask(batch.n_real, embeddings.shape[1])
        heard.append(Lesson(embeddings, mask, batch.targets, batch.allowed))
    longest = max(part.mask.shape[1] for part in heard)
    even = [
        part._replace(
            embeddings=functional.pad(part.embeddings, (0, 0, 0, longest - part.mask.shape[1])),
            mask=functional.pad(part.mask, (0, longest - part.mask.shape[1])),
        )
        for part in heard
    ]
    return Lesson(*(torch.cat(parts) for parts in zip(*even, strict=True)))


def teach(head: Head, given: Lesson, passes: int, batch: int, rate: float, weight_decay: float) -> Head:
    """The averaged weights after so many passes; the rate falls as a cosine."""
    head = copy.deepcopy(head).train()
    average = copy.deepcopy(head)
    optimiser = torch.optim.AdamW(head.parameters(), rate, weight_decay=weight_decay)
    steps = passes * (len(given.targets) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for step in range(steps):
        place = step % (steps // passes)
        if place == 0:
            order = torch.randperm(len(given.targets))
        rows = order[place * batch : (place + 1) * batch]
        longest = int(given.mask[rows].sum(dim=1).max())
        embeddings, mask = given.embeddings[rows, :longest], given.mask[rows, :longest]
        loss = torch.zeros(())
        for window, weight in ((mask, 1 - SUB_WINDOW), (sub_window(mask), SUB_WINDOW)):
            logits = head(embeddings, window).masked_fill(~given.allowed[rows], -1e4)
            loss = loss + weight * functional.cross_entropy(logits, given.targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(floats_of(average), floats_of(head), 1 - min(EMA, 1 - 1 / (step + 2)))
    return average


def main(
    start: Path,
    config: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    run: Annotated[Path, typer.Option(help="Run folder to make.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    cache: Annotated[Path, typer.Option(help="Where speech is kept.")] = Path(".cache/features"),
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Write the run folder: START's encoder, and a head of its own; what START left out is left out here."""
    torch.set_num_threads(threads)
    settings = tomllib.loads(config.read_text())
    options, labels, per_epoch = settings["training"], settings["labels"], settings["clips_per_epoch"]
    left_out = (start / "left_out.txt").read_text().splitlines()
    net = load_network(start)[0].eval()
    material = gather(corpora, splits, [name for name in per_epoch if name not in left_out], labels, cache)
    held = held_out(material.clips, splits)
    kept = [i for i, c in enumerate(material.clips) if not held[i] and c.text not in left_out]
    per_epoch = {name: n for name, n in per_epoch.items() if name not in left_out}
    augmentation = AugmentSettings(**settings.get("augment", {}))
    batches = Batches(
        material.part(kept), corpora, cache, per_epoch, options["batch"], augmentation, torch.device("cpu")
    )
    given = lesson(net, batches, options["seed"], options["unacted_smoothing"])
    net.head = teach(
        net.head, given, options["passes"], options["batch"], options["rate"], options["weight_decay"]
    )  # fmt: skip
    # More of what it heard is neutral than of what it is asked: a prior that scores of equal emotions must not have.
    net.head.classify.bias.data[labels.index("neutral")] -= options["neutral_off"]
    run.mkdir(parents=True, exist_ok=True)
    torch.save({"average": net.state_dict()}, run / "checkpoint.pt")
    (run / "config.toml").write_text(config.read_text())
    (run / "left_out.txt").write_text("".join(f"{name}\n" for name in left_out))


if __name__ == "__main__":
    typer.run(main)
