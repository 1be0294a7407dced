"""Train a model: `python -m tools.train tools/configs/ser-base.toml --corpora DIR --splits DIR --run runs/ser-base`.

Read from top to bottom: data, batches, validation, then `main` with model, loop and checkpoint. Resumes from the run
folder, on a GPU if there is one. `--leave-out NAME` trains a model that tells how strangers would fare.
"""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from tools.augment import FEATURES, AugmentSettings, augment, change_speed, degrade, log_mel, samples_for
from tools.corpora import COMMANDS, FOUR, LABELS, Clip, load
from tools.network import CHUNK_FRAMES, FRAMES_PER_EMBEDDING, Ensemble, SpeechEmotionNet, load_network
from tools.prepare import Frames, Speech, frames_of, speech_of, training_noises, training_rooms
from tools.splits import held_out

matplotlib.use("Agg")
from matplotlib import pyplot

CROP_CHUNKS = (3, 12)
"""Training crops: 0.75 to 3 s."""
COPY_PASTE = 0.3
"""Probability that a clip shorter than its crop is followed by another of that corpus (Pappagari et al., 2021)."""
VOTE_WEIGHT = 0.1
"""Share of the raters' votes in a CREMA-D target; the rest is the intended emotion."""
MIXUP = 0.3
"""Probability that a batch is mixed up, and the Beta distribution's parameter."""
TAUGHT = 0.7
"""With teachers: their share of a target (Hinton et al., 2015)."""
SUB_WINDOW = 0.4
"""Weight of the loss on a random stretch of each crop."""
EMA = 0.998
"""Decay of the averaged weights, per step."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; after it falls as a cosine."""
VALIDATE_EVERY = 8
"""Epochs."""


def target_of(clip: Clip, labels: Sequence[str]) -> NDArray[np.float32]:
    """Soft target over `labels`: the intended emotion, with the raters' votes mixed in."""
    target = np.zeros(len(labels), np.float32)
    target[labels.index(str(clip.emotion))] = 1
    if clip.votes and sum(clip.votes):
        votes = np.array([clip.votes[LABELS.index(label)] for label in labels], np.float32)
        target = (1 - VOTE_WEIGHT) * target + VOTE_WEIGHT * votes / votes.sum()
    return target


def allowed_of(clips: Sequence[Clip], labels: Sequence[str]) -> NDArray[np.bool_]:
    """For each clip the labels its corpus can tell; a corpus of one emotion must not push up against nothing."""
    by_corpus: dict[str, set[str | None]] = {}
    for clip in clips:
        by_corpus.setdefault(clip.corpus, set()).add(clip.emotion)
    return np.array([[len(own := by_corpus[c.corpus]) == 1 or label in own for label in labels] for c in clips])


@dataclass(frozen=True)
class Material:
    """Clips with their speech, as it is and through a line; targets and possible labels, (clips, labels)."""

    clips: list[Clip]
    speech: list[list[Speech]]
    targets: NDArray[np.float32]
    allowed: NDArray[np.bool_]

    def part(self, rows: Sequence[int]) -> Material:
        return Material(
            [self.clips[i] for i in rows], [self.speech[i] for i in rows], self.targets[rows], self.allowed[rows]
        )

    def frames(self) -> list[Frames]:
        """Those of each whole clip, as it is."""
        return [frames_of(plain) for plain, _ in self.speech]


def gather(corpora: Path, splits: Path, names: Sequence[str], labels: Sequence[str], cache: Path) -> Material:
    """The clips of `names` whose emotion is among `labels`, corpus by corpus, so that each is computed once."""
    clips: list[Clip] = []
    speech: list[list[Speech]] = []
    for name in names:
        own = load(corpora, splits, [name])
        heard = speech_of([c.path for c in own], cache)
        kept = [i for i, c in enumerate(own) if c.emotion in labels]
        clips += [own[i] for i in kept]
        speech += [heard[i] for i in kept]
    return Material(clips, speech, np.stack([target_of(c, labels) for c in clips]), allowed_of(clips, labels))


@dataclass(frozen=True)
class Batch:
    """frames (batch, n, 64) in dB, of which `n_real` (batch,) are no padding; targets and allowed (batch, labels)."""

    frames: Tensor
    n_real: Tensor
    targets: Tensor
    allowed: Tensor


class Bank:
    """All clips one behind the other on a device, to cut crops from without a loop over clips."""

    def __init__(self, speech: Sequence[Sequence[Speech]], device: torch.device) -> None:
        lengths = np.array([[len(version) for version in clip] for clip in speech])
        ends = np.cumsum(lengths).reshape(lengths.shape)
        self._samples = torch.from_numpy(np.concatenate([version for clip in speech for version in clip])).to(device)
        self._places = torch.from_numpy(np.stack((ends - lengths, lengths), axis=2)).to(device)
        """Start and length of each version of each clip."""

    def cut(self, rows: Tensor, versions: Tensor, behind: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """A random stretch of each clip, if short with the clip `behind` it (-1: none), and how much of it is real.

        All (batch,). Gives float32 (batch, the most of `n_samples`), silence where there is no speech.
        """
        start, length = self._places[rows, versions].unbind(dim=1)
        next_start, next_length = self._places[behind.clamp_min(0), versions].unbind(dim=1)
        joined = (behind >= 0) & (length < n_samples)
        total = length + next_length * joined
        # Of a clip that is joined with another at least half is heard: the target is its own.
        most = torch.where(joined, length // 2, total)
        spare = (total - n_samples).clamp_min(0).minimum(most)
        first = (torch.rand(len(rows), device=spare.device, dtype=torch.float64) * (spare + 1)).long()
        at = first[:, None] + torch.arange(int(n_samples.max()), device=spare.device)
        index = torch.where(at < length[:, None], start[:, None] + at, (next_start - length)[:, None] + at)
        there = at < total[:, None]
        cut = self._samples[torch.where(there, index, 0)] * there
        return cut.float() / 2**15, torch.minimum(total, n_samples)


def fill_up(frames: Tensor, n_real: Tensor) -> Tensor:
    """Frames behind the real ones become the clip's background: the fifth percentile of each band."""
    padding = torch.arange(frames.shape[1], device=frames.device) >= n_real[:, None]
    ordered = frames.masked_fill(padding[:, :, None], torch.inf).sort(dim=1).values
    index = (n_real * 5 // 100)[:, None, None].expand(-1, 1, frames.shape[2])
    return torch.where(padding[:, :, None], ordered.gather(1, index), frames)


class Batches:
    """Endless variety from few clips: a crop and what the world does to it are drawn anew each time."""

    def __init__(
        self, material: Material, corpora: Path, cache: Path, per_epoch: Mapping[str, int], size: int,
        settings: AugmentSettings, device: torch.device,
    ) -> None:  # fmt: skip
        self._material, self._size, self._settings, self._device = material, size, settings, device
        self._bank = Bank(material.speech, device)
        self._noises = self._even(n.astype(np.float32) / 2**15 for n in training_noises(corpora, cache))
        rooms = training_rooms()
        longest = max(map(len, rooms))
        self._rooms = self._even(np.pad(room, (0, longest - len(room))) for room in rooms)
        self._targets = material.targets
        self._per_epoch = per_epoch
        self._by_corpus: dict[str, list[int]] = {name: [] for name in per_epoch}
        self._alike: dict[tuple[str, str | None], list[int]] = {}
        for i, clip in enumerate(material.clips):
            self._by_corpus[clip.corpus].append(i)
            self._alike.setdefault((clip.corpus, clip.emotion), []).append(i)

    def _even(self, sounds: Iterable[NDArray[np.float32]]) -> Tensor:
        """Each repeated to the length of the longest."""
        sounds = list(sounds)
        n = max(map(len, sounds))
        return torch.from_numpy(np.stack([np.resize(sound, n) for sound in sounds])).to(self._device)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return sum(self._per_epoch.values()) // self._size

    def epoch(self, rng: np.random.Generator, unacted_smoothing: float) -> Iterator[Batch]:
        """The batches of one epoch."""
        self._targets = self._material.targets.copy()
        unacted = np.array([c.corpus == COMMANDS for c in self._material.clips])
        self._targets[unacted] *= 1 - unacted_smoothing
        self._targets[unacted] += unacted_smoothing / self._targets.shape[1]
        drawn = [np.resize(rng.permutation(rows), self._per_epoch[name]) for name, rows in self._by_corpus.items()]
        order = rng.permutation(np.concatenate(drawn))
        for step in range(self.per_epoch):
            yield self._batch(order[step * self._size : (step + 1) * self._size], rng)

    def _batch(self, rows: NDArray[np.intp], rng: np.random.Generator) -> Batch:
        n_frames = int(rng.integers(CROP_CHUNKS[0], CROP_CHUNKS[1] + 1)) * CHUNK_FRAMES
        frames, n_real = self._crops(rows, n_frames, rng)
        frames = augment(fill_up(frames, n_real), self._settings)
        targets = torch.from_numpy(self._targets[rows]).to(self._device)
        allowed = torch.from_numpy(self._material.allowed[rows]).to(self._device)
        if rng.random() < MIXUP:
            # The same mix for all: the loss stays a plain cross-entropy. Corpora may differ in labels.
            share, other = float(rng.beta(MIXUP, MIXUP)), torch.randperm(len(rows), device=self._device)
            frames = share * frames + (1 - share) * frames[other]
            targets = share * targets + (1 - share) * targets[other]
            n_real = torch.maximum(n_real, n_real[other])
            allowed = allowed | allowed[other]
        return Batch(frames, n_real, targets, allowed)

    def _crops(self, rows: NDArray[np.intp], n_frames: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Degraded speech as frames, and how many of each crop's are real."""
        s, n = self._settings, samples_for(n_frames)
        sped = rng.random(len(rows)) < s.sped
        speed = np.where(sped, rng.uniform(1 - s.speed, 1 + s.speed, len(rows)), 1.0)
        needed = np.ceil(n * speed).astype(np.int64)
        versions = (rng.random(len(rows)) < s.line).astype(np.int64)
        behind = np.array([self._behind(i, rng) for i in rows])
        on_device = (torch.from_numpy(a).to(self._device) for a in (rows, versions, behind, needed))
        samples, n_there = self._bank.cut(*on_device)
        factors = torch.from_numpy(speed).to(self._device)
        heard = samples[:, :n].clone() if samples.shape[1] >= n else functional.pad(samples, (0, n - samples.shape[1]))
        if sped.any():
            which = torch.from_numpy(np.flatnonzero(sped)).to(self._device)
            heard[which] = change_speed(samples[which], factors[which], n)
        real = (n_there / factors - FEATURES.frame_samples) // FEATURES.hop_samples + 1
        return log_mel(degrade(heard, self._rooms, self._noises, s)), real.long().clamp(1, n_frames)

    def _behind(self, row: int, rng: np.random.Generator) -> int:
        """The clip that follows (CopyPaste), or -1."""
        if rng.random() >= COPY_PASTE:
            return -1
        clip = self._material.clips[row]
        # An emotion followed by neutral speech is still that emotion's window.
        after = "neutral" if rng.random() < 0.2 and (clip.corpus, "neutral") in self._alike else clip.emotion
        alike = self._alike[clip.corpus, after]
        return alike[rng.integers(len(alike))]


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


def main(
    config: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")],
    run: Annotated[Path, typer.Option(help="Run folder: checkpoint, log, curves; resumed if it exists.")],
    cache: Annotated[Path, typer.Option(help="Where features are kept.")] = Path(".cache/features"),
    leave_out: Annotated[list[str] | None, typer.Option(help="Corpora, or sentences of CREMA-D, to leave out.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
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
    n_epochs, left_out = epochs or options["epochs"], leave_out or []
    seed = options["seed"] if seed is None else seed
    if (run / "config.toml").exists() and (run / "config.toml").read_text() != config.read_text():
        raise typer.BadParameter(f"{run} was begun with another config; give another --run")
    torch.manual_seed(seed)

    # Data
    per_epoch = settings["clips_per_epoch"]
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
    augmentation = AugmentSettings(**settings.get("augment", {}))
    batches = Batches(material.part(kept), corpora, cache, per_epoch, options["batch"], augmentation, device)

    # Model
    net = SpeechEmotionNet(len(labels), **settings["network"]).to(device)
    if start:
        net.load_state_dict(torch.load(start / "checkpoint.pt", map_location=device, weights_only=True)["average"])
    average = copy.deepcopy(net)
    teachers = Ensemble([load_network(r)[0] for r in teacher]).to(device).eval() if teacher else None
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
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.toml").write_text(config.read_text())
    (run / "left_out.txt").write_text("".join(f"{name}\n" for name in left_out))

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
                decay = min(EMA, 1 - 1 / (done + 2))
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
