"""Train the gate's detector: `python -m tools.train_gate --corpora DIR -o realtime_ser/data/gate.onnx`.

Speech that anyone may use (CREMA-D's training speakers, the commands) in noises that anyone may use (half of ESC-10,
and typing, fans and music made by `tools/gate.py` and `tools/degrade.py`), at -5 to 40 dB and some in rooms; a quarter
of the streams has no speech. A quarter of an hour on two cores.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.progress import track
from torch import nn
from torch.nn import functional

from realtime_ser.stages.clean import Cleaner
from realtime_ser.stages.detector import BANDS, CONTEXT_FRAMES, FRAME_SAMPLES, SpectrumContext
from realtime_ser.stages.gate import FloorTracker, level_dbfs
from tools import degrade
from tools.corpora import COMMANDS, load
from tools.degrade import Samples
from tools.gate import Stream, at_level, fan, joined, noises, noisy, typing
from tools.prepare import read_mono
from tools.splits import SPLITS, held_out
from tools.sums import write_sums

STREAMS = 4000
CLIPS_A_STREAM = 5
NO_SPEECH = 0.25
IN_A_ROOM = 0.3
TWO_NOISES = 0.3
TELEPHONE, NARROW = 0.1, 0.25
BEGINS_ANYWHERE = 0.7
"""Recordings begin in the middle of a word, too."""
SNRS_DB = (-5.0, 35.0)
LEVELS_DBFS = (-55.0, -15.0)
EPOCHS = 8
BATCH = 4096
RATE = 2e-3
WIDTHS = (96, 48)


@dataclass(frozen=True)
class Kit:
    """What streams are made of."""

    paths: list[Path]
    noises: list[Samples]
    rooms: list[Samples]


class Detector(nn.Module):
    """Context of shape (batch, 25 * 64) in dB → logit that its last frame is speech."""

    def __init__(self) -> None:
        super().__init__()
        n = CONTEXT_FRAMES * 2 * BANDS
        self.layers = nn.Sequential(
            nn.Linear(n, WIDTHS[0]), nn.SiLU(), nn.Linear(*WIDTHS), nn.SiLU(), nn.Linear(WIDTHS[1], 1)
        )

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return self.layers((context / 10).clamp(-3, 8))


class Exported(nn.Module):
    """With a probability at its end."""

    def __init__(self, net: Detector) -> None:
        super().__init__()
        self.net = net

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.net(context))


def varied(noise: Samples, n: int, rng: np.random.Generator) -> Samples:
    """Another noise of the same kind: from another moment, at another speed and through another microphone."""
    at = np.arange(n) * rng.uniform(0.6, 1.6) + rng.integers(len(noise))
    faster = np.interp(at % (len(noise) - 1), np.arange(len(noise)), noise).astype(np.float32)
    return degrade.tilt(faster / max(float(np.abs(faster).max()), 1e-6), float(rng.uniform(-6, 6)))


_kit: Kit
"""Of a worker process: too large to be sent with each task."""


def _begin_worker(kit: Kit) -> None:
    global _kit
    _kit = kit


def make_stream(number: int, kit: Kit) -> Stream:
    """A stream of speech in noise, or noise alone, at any level."""
    rng = np.random.default_rng((7, number))
    clips = [at_level(read_mono(kit.paths[i])) for i in rng.integers(len(kit.paths), size=CLIPS_A_STREAM)]
    stream = joined(clips, float(rng.uniform(0.2, 2.5)))
    if rng.random() < BEGINS_ANYWHERE:
        first = int(rng.integers(len(stream.speech) // 2))
        stream = Stream(stream.samples[first * FRAME_SAMPLES :], stream.speech[first:])
    n = len(stream.samples)
    if rng.random() < IN_A_ROOM:
        stream = Stream(degrade.reverberate(stream.samples, kit.rooms[rng.integers(len(kit.rooms))]), stream.speech)
    kind = rng.integers(9)
    made = (fan, typing, degrade.music, degrade.white_noise)
    if kind < 5:
        noise = varied(kit.noises[rng.integers(len(kit.noises))], n, rng)
        if rng.random() < TWO_NOISES:
            noise = noise + float(rng.uniform(0.1, 1)) * varied(kit.noises[rng.integers(len(kit.noises))], n, rng)
    else:
        noise = made[kind - 5](n, rng)
    if rng.random() < NO_SPEECH:
        mixed, speech = noise / max(float(np.sqrt(np.mean(np.square(noise)))), 1e-6), np.zeros_like(stream.speech)
    else:
        mixed, speech = noisy(stream, noise, float(rng.uniform(*SNRS_DB))), stream.speech
    # Every room also has its own quiet noise.
    mixed = mixed / np.sqrt(np.mean(np.square(mixed))) + 10 ** (rng.uniform(-60, -20) / 20) * rng.standard_normal(n)
    mixed = mixed / max(float(np.abs(mixed).max()), 1e-6)
    line = rng.random()
    if line < TELEPHONE:
        mixed = degrade.telephone(mixed.astype(np.float32))
    elif line < TELEPHONE + NARROW:
        mixed = degrade.filter_band(mixed.astype(np.float32), rng.uniform(0, 700), rng.uniform(1500, 8000))
    mixed = mixed / np.sqrt(np.mean(np.square(mixed)))
    return Stream((mixed * 10 ** (rng.uniform(*LEVELS_DBFS) / 20)).astype(np.float32), speech)


def contexts(number: int) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Each frame's newest row of the context, shape (frames, 64), and whether it is speech."""
    stream = make_stream(number, _kit)
    frames = Cleaner().push(stream.samples).reshape(-1, FRAME_SAMPLES)
    floor = FloorTracker()
    floors = np.array([floor.push(level) for level in level_dbfs(frames).tolist()])
    return SpectrumContext().push(frames, floors)[:, -2 * BANDS :].astype(np.float16), stream.speech


def main(
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The ONNX file.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    streams: Annotated[int, typer.Option(help="How many streams to make.")] = STREAMS,
) -> None:
    """Make streams, train, export."""
    clips = load(corpora, splits, ["CREMA-D", COMMANDS])
    kept = [c.path for c, held in zip(clips, held_out(clips, splits), strict=True) if not held]
    recorded = [n for kind, ns in noises(corpora, evaluation=False).items() if "made" not in kind for n in ns]
    rng = np.random.default_rng(0)
    kit = Kit(kept, recorded, [degrade.impulse_response(rng) for _ in range(40)])
    with ProcessPoolExecutor(initializer=_begin_worker, initargs=(kit,)) as pool:
        made = pool.map(contexts, range(streams), chunksize=8)
        pairs = list(track(made, "streams", total=streams))

    torch.manual_seed(1)
    rows = torch.from_numpy(np.concatenate([np.pad(r, ((CONTEXT_FRAMES - 1, 0), (0, 0))) for r, _ in pairs]))
    speech = torch.from_numpy(np.concatenate([np.pad(s, (CONTEXT_FRAMES - 1, 0)) for _, s in pairs])).float()
    starts = np.cumsum([0, *(len(r) + CONTEXT_FRAMES - 1 for r, _ in pairs)])[:-1]
    ends = torch.from_numpy(np.concatenate([s + np.arange(len(r)) for s, (r, _) in zip(starts, pairs, strict=True)]))
    reach = torch.arange(CONTEXT_FRAMES)
    net = Detector()
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.01)
    steps = EPOCHS * (len(ends) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        losses = []
        for batch in torch.randperm(len(ends))[: len(ends) // BATCH * BATCH].split(BATCH):
            index = ends[batch][:, None] + reach
            logits = net(rows[index].float().flatten(1)).squeeze(1)
            loss = functional.binary_cross_entropy_with_logits(logits, speech[index[:, -1]])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.4f}")
    example = torch.zeros(1, CONTEXT_FRAMES * 2 * BANDS)
    names = {"input_names": ["context"], "output_names": ["speech"]}
    free = {name: {0: "frames"} for name in ("context", "speech")}
    torch.onnx.export(Exported(net).eval(), (example,), out, dynamo=False, opset_version=17, dynamic_axes=free, **names)
    write_sums(Path(out).parent)


if __name__ == "__main__":
    typer.run(main)
