"""Train a model: `python -m tools.train tools/configs/ser-base.toml --corpora DIR --run runs/ser-base`.

`tools/batches.py` has what it hears; here are windows, validation, and `main` with model, loop and checkpoint. Resumes
from the run folder, on a GPU if there is one. `--leave-out NAME` trains a model that tells how strangers would fare.
"""

from __future__ import annotations

import copy
import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import tomllib
import torch
import typer
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from tools import metrics
from tools.augment import AugmentSettings
from tools.batches import Batches, gather
from tools.corpora import CREMA_D_SENTENCES, FOUR, Clip
from tools.network import CHUNK_FRAMES, FRAMES_PER_EMBEDDING, Ensemble, SpeechEmotionNet, load_network
from tools.prepare import Frames
from tools.splits import SPLITS, held_out

matplotlib.use("Agg")
from matplotlib import pyplot

TAUGHT = 0.7
"""With teachers: their share of a target (Hinton et al., 2015)."""
SUB_WINDOW = 0.4
"""Weight of the loss on a random stretch of each crop."""
EMA = 0.998
"""Decay of the averaged weights, per step, if the config says no other."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; after it falls as a cosine."""
VALIDATE_EVERY = 8
"""Epochs."""


def embedding_mask(n_real: Tensor, n_embeddings: int) -> Tensor:
    """True for the embeddings made of real frames, at least one of each clip: shape (batch, n_embeddings)."""
    count = (n_real // FRAMES_PER_EMBEDDING).clamp(min=1)
    return torch.arange(n_embeddings, device=count.device) < count[:, None]


def sub_window(mask: Tensor) -> Tensor:
    """A random stretch of at least 0.5 s of each clip's embeddings: live windows start and end anywhere."""
    count = mask.sum(dim=1)
    width = (count * (0.3 + 0.7 * torch.rand(len(mask), device=mask.device))).long().clamp(min=8)
    width = torch.minimum(width, count)
    start = (torch.rand(len(mask), device=mask.device) * (count - width + 1)).long()
    index = torch.arange(mask.shape[1], device=mask.device)
    return (index >= start[:, None]) & (index < (start + width)[:, None])


@torch.no_grad()
def predict(net: SpeechEmotionNet | Ensemble, frames: Sequence[Frames], batch: int = 32) -> NDArray[np.float32]:
    """Logits for whole clips, shape (clips, labels)."""
    net.eval()
    device = next(net.parameters()).device
    logits = np.empty((len(frames), net.n_labels), np.float32)
    order = np.argsort([len(f) for f in frames])
    for rows in np.array_split(order, max(1, len(order) // batch)):
        whole = [frames[i][: len(frames[i]) // CHUNK_FRAMES * CHUNK_FRAMES or None] for i in rows]
        length = -(-max(map(len, whole)) // CHUNK_FRAMES) * CHUNK_FRAMES
        padded = np.full((len(rows), length, whole[0].shape[1]), -100, np.float32)
        for row, clip in enumerate(whole):
            padded[row, : len(clip)] = clip
        embeddings = net.embed(torch.from_numpy(padded).to(device))
        mask = embedding_mask(torch.tensor([len(w) for w in whole]), embeddings.shape[1])
        logits[rows] = net.head(embeddings, mask.to(device)).cpu().numpy()
    return logits


Measured = Mapping[str, tuple[list[Clip], list[Frames]]]
"""Clips by corpus, with their frames."""


def validate(net: SpeechEmotionNet, sets: Measured, labels: Sequence[str]) -> dict[str, float]:
    """UAR of each set over its own labels, and of the four usual ones; for neutral speech, how much is called so."""
    found = {}
    for name, (clips, frames) in sets.items():
        logits = predict(net, frames)
        truth = np.array([labels.index(str(c.emotion)) for c in clips])
        own = np.unique(truth)
        if len(own) == 1:
            found[f"{name} neutral"] = float(np.mean(logits.argmax(axis=1) == labels.index("neutral")))
            continue
        found[f"{name} uar"] = metrics.uar(truth, own[logits[:, own].argmax(axis=1)])
        four = np.array([labels.index(label) for label in FOUR])
        rows = np.isin(truth, four)
        found[f"{name} uar of four"] = metrics.uar(truth[rows], four[logits[rows][:, four].argmax(axis=1)])
    return found


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """To a CSV, with its header if it is new."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def draw_curves(run: Path) -> None:
    """`curves.png`: loss and validation scores against epochs."""
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    titles = {"loss.csv": "training loss (augmented, mixed up)", "validation.csv": "validation, averaged weights"}
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        if (run / name).exists():
            table = np.genfromtxt(run / name, delimiter=",", names=True, deletechars="")
            for column in (table.dtype.names or ())[1:]:
                panel.plot(table["epoch"], table[column], marker=".", label=column.replace("_", " "))
        panel.set(xlabel="epoch", title=title)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.savefig(run / "curves.png", dpi=120)
    pyplot.close(figure)


def optimisers_of(net: SpeechEmotionNet, options: Mapping[str, Any]) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices inside, AdamW for the rest."""
    matrices, rest = [], []
    for name, parameter in net.named_parameters():
        (matrices if parameter.ndim == 2 and "classify" not in name else rest).append(parameter)
    decay = options["weight_decay"]
    return [
        torch.optim.Muon(matrices, options["muon_rate"], weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, options["adamw_rate"], weight_decay=decay),
    ]


def floats_of(net: torch.nn.Module) -> list[Tensor]:
    """Its weights and its batch norms' statistics."""
    return [value for value in net.state_dict().values() if value.dtype.is_floating_point]


def read_left_out(run: Path) -> list[str]:
    """What a run did without."""
    return (run / "left_out.txt").read_text().splitlines()


def heard_by(run: Path) -> set[str]:
    """The corpora and the sentences that a run has learned from."""
    per_epoch = tomllib.loads((run / "config.toml").read_text())["clips_per_epoch"]
    return {*per_epoch, *CREMA_D_SENTENCES} - set(read_left_out(run))


def weights_for(labels: Sequence[str], start: Path) -> dict[str, Tensor]:
    """The averaged weights of a finished run; a label it does not know begins as the mean of those that it does."""
    weights: dict[str, Tensor] = torch.load(start / "checkpoint.pt", map_location="cpu", weights_only=True)["average"]
    known = tomllib.loads((start / "config.toml").read_text())["labels"]
    for name in ("head.classify.weight", "head.classify.bias"):
        rows = weights[name]
        weights[name] = torch.stack([rows[known.index(x)] if x in known else rows.mean(dim=0) for x in labels])
    return weights


def begin(run: Path, config: str, options: Mapping[str, Any]) -> None:
    """Note in a run folder what it is made with, `config.toml` and `options.json`, and in `left_out.txt` for others.

    Raises
    ------
    typer.BadParameter
        If it has learned with anything else.
    """
    given = {"config": config, **options}
    if (run / "checkpoint.pt").exists():
        begun = {"config": (run / "config.toml").read_text(), "leave-out": read_left_out(run)}
        if (run / "options.json").exists():  # runs of before have none
            begun |= json.loads((run / "options.json").read_text())
        begun["leave-out"] = sorted(begun["leave-out"])
        other = [name for name, value in given.items() if value != begun.get(name, value)]
        if other:
            raise typer.BadParameter(f"{run} was begun with another {' and '.join(other)}; give another --run")
        return
    run.mkdir(parents=True, exist_ok=True)
    (run / "left_out.txt").write_text("".join(f"{name}\n" for name in options["leave-out"]))
    (run / "options.json").write_text(json.dumps(options, indent=1))
    (run / "config.toml").write_text(config)


def main(
    config: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    run: Annotated[Path, typer.Option(help="Run folder: checkpoint, log, curves; resumed if it exists.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    cache: Annotated[Path, typer.Option(help="Where features are kept.")] = Path(".cache/features"),
    leave_out: Annotated[list[str] | None, typer.Option(help="Corpora, or sentences of CREMA-D, to leave out.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    spliced: Annotated[
        float | None, typer.Option(help="Share of the crops that are spliced, instead of the config's.", min=0, max=1)
    ] = None,
    start: Annotated[Path | None, typer.Option(help="A finished run whose averaged weights to start from.")] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="Finished runs whose mean logits, on what the network hears, it learns.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train, resuming where a run folder left off."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Without AVX-512 a processor computes with bfloat16 nine times more slowly than with float32.
    half = device.type == "cuda" or "AVX512" in torch.backends.cpu.get_cpu_capability()
    settings = tomllib.loads(config.read_text())
    options, labels = settings["training"], settings["labels"]
    n_epochs, left_out, teachers_of = epochs or options["epochs"], sorted(leave_out or []), teacher or []
    seed = options["seed"] if seed is None else seed
    augmentation = AugmentSettings(**settings.get("augment", {}))
    if spliced is not None:
        augmentation = replace(augmentation, spliced=spliced)
    per_epoch = settings["clips_per_epoch"]
    known = (*per_epoch, *CREMA_D_SENTENCES)
    if unknown := [name for name in left_out if name not in known]:
        raise typer.BadParameter(f"cannot leave out {', '.join(unknown)}: there are {', '.join(known)}")
    for before in filter(None, [start, *teachers_of]):
        if heard := [name for name in left_out if name in heard_by(before)]:
            raise typer.BadParameter(f"cannot leave out {', '.join(heard)}: {before} has heard it")
    given = {"epochs": n_epochs, "seed": seed, "spliced": augmentation.spliced, "leave-out": left_out}
    given |= {"start": start and str(start), "teacher": [str(path) for path in teachers_of]}
    begin(run, config.read_text(), given)
    torch.manual_seed(seed)

    # Data
    material = gather(corpora, splits, list(per_epoch), labels, cache)
    held = held_out(material.clips, splits)
    foreign = [c.corpus in left_out or c.text in left_out for c in material.clips]
    kept = [i for i in range(len(held)) if not held[i] and not foreign[i]]
    sets = {
        name: (material.part(rows).clips, material.part(rows).frames())
        for name in per_epoch
        if (rows := [i for i, c in enumerate(material.clips) if c.corpus == name and (held[i] or name in left_out)])
    }
    per_epoch = {name: n for name, n in per_epoch.items() if name not in left_out}
    batches = Batches(material.part(kept), corpora, cache, per_epoch, options["batch"], augmentation, device)

    # Model
    net = SpeechEmotionNet(len(labels), **settings["network"]).to(device)
    if start:
        net.load_state_dict(weights_for(labels, start))
    average = copy.deepcopy(net)
    teachers = Ensemble([load_network(r)[0] for r in teachers_of]).to(device).eval() if teachers_of else None
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {len(kept):,} clips, on {device}")
    steps = n_epochs * batches.per_epoch
    optimisers = optimisers_of(net, options)

    def rate(step: int) -> float:
        at = step / steps
        return at / WARM_UP if at < WARM_UP else 0.5 * (1 + math.cos(math.pi * (at - WARM_UP) / (1 - WARM_UP))) + 1e-3

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, rate) for o in optimisers]
    parts = {"net": net, "average": average}
    parts |= {f"optimiser {i}": o for i, o in enumerate(optimisers)}
    parts |= {f"schedule {i}": s for i, s in enumerate(schedules)}
    first = 0
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        first = saved["epoch"] + 1

    # Loop
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("", total=steps, completed=first * batches.per_epoch)
        scores: dict[str, float] = {}
        for epoch in range(first, n_epochs):
            torch.manual_seed(seed * 100_003 + epoch)
            net.train()
            losses = []
            rng = np.random.default_rng((seed, epoch))
            for batch in batches.epoch(rng, options["unacted_smoothing"][2 * epoch >= n_epochs]):
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    embeddings = net.embed(batch.frames)
                    with torch.no_grad():
                        lesson = teachers.embed(batch.frames).float() if teachers else None
                embeddings = embeddings.float()
                mask = embedding_mask(batch.n_real, embeddings.shape[1])
                impossible = ~batch.allowed
                loss = torch.zeros((), device=device)
                for window, weight in ((mask, 1 - SUB_WINDOW), (sub_window(mask), SUB_WINDOW)):
                    wanted = batch.targets
                    if teachers:
                        with torch.no_grad():
                            said = teachers.head(lesson, window).masked_fill(impossible, -1e4).softmax(dim=1)
                        wanted = wanted.lerp(said, TAUGHT)
                    logits = net.head(embeddings, window).masked_fill(impossible, -1e4)
                    loss = loss + weight * functional.cross_entropy(logits, wanted)
                for optimiser in optimisers:
                    optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
                for optimiser, schedule in zip(optimisers, schedules, strict=True):
                    optimiser.step()
                    schedule.step()
                done = epoch * batches.per_epoch + len(losses)
                decay = min(options.get("ema", EMA), 1 - 1 / (done + 2))
                with torch.no_grad():
                    torch._foreach_lerp_(floats_of(average), floats_of(net), 1 - decay)
                losses.append(loss.detach())
                progress.update(bar, advance=1)

            # Validation and checkpoint
            mean_loss = float(torch.stack(losses).mean())
            append_row(run / "loss.csv", {"epoch": epoch, "loss": mean_loss})
            if epoch == n_epochs - 1 or (epoch + 1) % VALIDATE_EVERY == 0:
                scores = validate(average, sets, labels)
                append_row(run / "validation.csv", {"epoch": epoch} | scores)
                draw_curves(run)
            told = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
            progress.update(bar, description=f"loss {mean_loss:.3f} {told}")
            state = {name: part.state_dict() for name, part in parts.items()} | {"epoch": epoch}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)


if __name__ == "__main__":
    typer.run(main)
