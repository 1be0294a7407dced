"""Train a model: `python -m tools.train tools/configs/ser-base.toml --corpora DIR --splits DIR --run runs/ser-base`.

Read from top to bottom: configuration, data, model, loop, evaluation, checkpoint. Resumes from the run folder.
"""

from __future__ import annotations

import copy
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tomllib
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn import functional

from tools.augment import AugmentSettings, augment
from tools.corpora import HELD_OUT_KEYWORD, LABELS, NOISE_CORPUS, Clip, crema_d_validation, load, read_speakers
from tools.network import CHUNK_FRAMES, FRAMES_PER_EMBEDDING, SpeechEmotionNet
from tools.prepare import SPEEDS, frames_of

CROP_CHUNKS = (3, 12)
"""Training crops: 0.75 to 3 s."""
VOTE_WEIGHT = 0.1
"""Share of the raters' votes in a CREMA-D target; the rest is the intended emotion."""
MIXUP = 0.3
"""Probability that a batch is mixed up, and the Beta distribution's parameter."""
EMA = 0.998
"""Decay of the averaged weights, per step: about the last five epochs."""


@dataclass(frozen=True)
class Split:
    """Frames of clips with their targets, ready to batch."""

    clips: list[Clip]
    frames: list[list[np.ndarray]]


def is_held_out(clip: Clip, validation_speakers: set[str]) -> bool:
    return crema_d_validation(clip, validation_speakers) or clip.group == HELD_OUT_KEYWORD


def target_of(clip: Clip, labels: list[str]) -> np.ndarray:
    """Soft target over `labels`: the intended emotion, with the raters' votes mixed in; zeros if not among them."""
    target = np.zeros(len(labels), np.float32)
    if clip.emotion not in labels:
        return target
    target[labels.index(clip.emotion)] = 1
    if clip.votes and sum(clip.votes):
        votes = np.array([clip.votes[LABELS.index(label)] for label in labels], np.float32)
        target = (1 - VOTE_WEIGHT) * target + VOTE_WEIGHT * votes / votes.sum()
    return target


def allowed_of(clips: list[Clip], labels: list[str]) -> dict[str, np.ndarray]:
    """For each corpus the labels it can tell; a corpus of one emotion must not push up against nothing."""
    allowed = {}
    for corpus in {c.corpus for c in clips}:
        own = {c.emotion for c in clips if c.corpus == corpus}
        allowed[corpus] = np.array([len(own) == 1 or label in own for label in labels])
    return allowed


def crop(frames: np.ndarray, length: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """`length` frames from anywhere, and how many are real: a short clip is followed by its own background."""
    if len(frames) >= length:
        start = rng.integers(len(frames) - length + 1)
        return frames[start : start + length], length
    background = np.percentile(frames, 5, axis=0, keepdims=True)
    return np.concatenate((frames, np.repeat(background, length - len(frames), axis=0))), len(frames)


def embedding_mask(n_real: torch.Tensor, n_embeddings: int) -> torch.Tensor:
    """True for the embeddings made of real frames, at least one of each clip: shape (batch, n_embeddings)."""
    count = (n_real // FRAMES_PER_EMBEDDING).clamp(min=1)
    return torch.arange(n_embeddings) < count[:, None]


def sub_window(mask: torch.Tensor) -> torch.Tensor:
    """A random stretch of at least 0.5 s of each clip's embeddings: live windows start and end anywhere."""
    count = mask.sum(dim=1)
    width = (count * (0.3 + 0.7 * torch.rand(len(mask)))).long().clamp(min=10)
    width = torch.minimum(width, count)
    start = (torch.rand(len(mask)) * (count - width + 1)).long()
    index = torch.arange(mask.shape[1])
    return (index >= start[:, None]) & (index < (start + width)[:, None])


@torch.no_grad()
def predict(net: SpeechEmotionNet, split: Split, batch: int = 32) -> np.ndarray:
    """Logits for each whole clip, shape (clips, labels)."""
    net.eval()
    logits = np.empty((len(split.clips), net.head.classify.out_features), np.float32)
    order = np.argsort([len(f[0]) for f in split.frames])
    for index in np.array_split(order, max(1, len(order) // batch)):
        whole = [split.frames[i][0][: len(split.frames[i][0]) // CHUNK_FRAMES * CHUNK_FRAMES or None] for i in index]
        length = -(-max(map(len, whole)) // CHUNK_FRAMES) * CHUNK_FRAMES
        padded = np.full((len(index), length, whole[0].shape[1]), -100, np.float32)
        for row, frames in enumerate(whole):
            padded[row, : len(frames)] = frames
        embeddings = net.embed(torch.from_numpy(padded))
        mask = embedding_mask(torch.tensor([len(w) for w in whole]), embeddings.shape[1])
        logits[index] = net.head(embeddings, mask).numpy()
    return logits


def recalls(truth: np.ndarray, guess: np.ndarray) -> dict[int, float]:
    """Recall of each class present in `truth`; their mean is the UAR."""
    return {int(c): float(np.mean(guess[truth == c] == c)) for c in np.unique(truth)}


def main(
    config: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")],
    run: Annotated[Path, typer.Option(help="Run folder: checkpoint, log; resumed if it exists.")],
    cache: Annotated[Path, typer.Option(help="Where features are kept.")] = Path(".cache/features"),
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train, resuming where a run folder left off."""
    torch.set_num_threads(threads)
    settings = tomllib.loads(config.read_text())
    options, labels = settings["training"], settings["labels"]
    torch.manual_seed(options["seed"])

    # Data
    speakers = read_speakers(splits / "crema_d_validation_speakers.txt")
    names = list(settings["clips_per_epoch"])
    clips = load(corpora, splits, names)
    frames = frames_of([c.path for c in clips], cache)
    noise_paths = sorted((corpora / NOISE_CORPUS).rglob("*.ogg"))
    noises = torch.from_numpy(np.stack([np.resize(f[0], (480, 64)) for f in frames_of(noise_paths, cache, True)]))
    held = np.array([is_held_out(c, speakers) for c in clips])
    kept = [i for i in np.flatnonzero(~held) if clips[i].emotion in labels]
    validation = Split([clips[i] for i in np.flatnonzero(held)], [frames[i] for i in np.flatnonzero(held)])
    targets = np.stack([target_of(c, labels) for c in clips])
    allowed = allowed_of(clips, labels)
    by_corpus = {name: np.array([i for i in kept if clips[i].corpus == name]) for name in names}

    # Model
    net = SpeechEmotionNet(len(labels), **settings["network"])
    average = copy.deepcopy(net)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {len(kept):,} clips")
    steps = sum(settings["clips_per_epoch"].values()) // options["batch"]
    optimiser = torch.optim.AdamW(net.parameters(), options["learning_rate"], weight_decay=options["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options["learning_rate"], total_steps=options["epochs"] * steps, pct_start=0.1
    )
    first = 0
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["net"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        first = saved["epoch"] + 1
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.toml").write_text(config.read_text())

    # Loop
    augmentation = AugmentSettings(**settings.get("augment", {}))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=options["epochs"] * steps, completed=first * steps)
        for epoch in range(first, options["epochs"]):
            rng = np.random.default_rng((options["seed"], epoch))
            torch.manual_seed(options["seed"] * 100_003 + epoch)
            drawn = np.concatenate(
                [
                    np.resize(rng.permutation(index), settings["clips_per_epoch"][name])
                    for name, index in by_corpus.items()
                ]
            )
            rng.shuffle(drawn)
            net.train()
            losses = []
            for step in range(steps):
                index = drawn[step * options["batch"] : (step + 1) * options["batch"]]
                length = int(rng.integers(CROP_CHUNKS[0], CROP_CHUNKS[1] + 1)) * CHUNK_FRAMES
                cut = [crop(frames[i][rng.integers(len(SPEEDS))], length, rng) for i in index]
                x = torch.from_numpy(np.stack([c[0] for c in cut]).astype(np.float32))
                n_real = torch.tensor([c[1] for c in cut])
                target = torch.from_numpy(targets[index])
                possible = torch.from_numpy(np.stack([allowed[clips[i].corpus] for i in index]))
                few = noises[rng.integers(len(noises), size=16)].float().roll(int(rng.integers(480)), dims=1)
                x = augment(x, few, augmentation)
                if rng.random() < MIXUP:
                    # The same mix for all: the loss stays a plain cross-entropy. Corpora may differ in labels.
                    share, other = float(rng.beta(MIXUP, MIXUP)), torch.randperm(len(x))
                    x = share * x + (1 - share) * x[other]
                    target = share * target + (1 - share) * target[other]
                    n_real = torch.maximum(n_real, n_real[other])
                    possible = possible | possible[other]
                with torch.autocast("cpu", torch.bfloat16):
                    embeddings = net.embed(x)
                embeddings = embeddings.float()
                mask = embedding_mask(n_real, embeddings.shape[1])
                loss = torch.zeros(())
                for pooled, weight in ((mask, 0.6), (sub_window(mask), 0.4)):
                    logits = net.head(embeddings, pooled).masked_fill(~possible, -1e4)
                    loss = loss + weight * functional.cross_entropy(logits, target)
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
                optimiser.step()
                schedule.step()
                decay = min(EMA, 1 - 1 / (epoch * steps + step + 2))
                with torch.no_grad():
                    for mine, its in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                        if mine.dtype.is_floating_point:
                            mine.lerp_(its, 1 - decay)
                losses.append(loss.item())
                progress.update(bar, advance=1)

            # Evaluation
            logits = predict(average, validation)
            truth = np.array([labels.index(c.emotion) for c in validation.clips])
            acted = np.array([c.corpus == "CREMA-D" for c in validation.clips])
            guess = logits.argmax(axis=1)
            row = {
                "epoch": epoch,
                "loss": np.mean(losses),
                "uar": np.mean(list(recalls(truth[acted], guess[acted]).values())),
                "commands_neutral": np.mean(guess[~acted] == labels.index("neutral")),
            }
            progress.update(bar, description=" ".join(f"{k} {v:.3f}" if k != "epoch" else "" for k, v in row.items()))
            log = run / "log.csv"
            new = not log.exists()
            with log.open("a", newline="") as file:
                writer = csv.DictWriter(file, row)
                if new:
                    writer.writeheader()
                writer.writerow(row)

            # Checkpoint
            state = {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch,
            }
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)


if __name__ == "__main__":
    typer.run(main)
