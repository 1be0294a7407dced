"""Draw a clip under every augmentation.

`python -m tools.augment show CLIP --other CLIP --corpora DIR -o augmentations.png`

Waveform and log-mel picture for what works on samples (`tools/degrade.py`; `tools/augment.py` and `tools/batches.py`
do some of it to batches); the log-mel picture alone for what works on frames (`tools/augment.py`, `tools/train.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import torch
import typer
from numpy.typing import NDArray

from realtime_ser.settings import RATE_HZ
from tools import augment, degrade
from tools.augment import AugmentSettings
from tools.batches import Bank
from tools.degrade import Samples
from tools.prepare import log_mel, noise_paths, read_mono, to_int16

matplotlib.use("Agg")
from matplotlib import pyplot

COLUMNS = 4

commands = typer.Typer(help="Look at augmentations.")


@commands.callback()
def _named() -> None:
    """So that `show` is a word to type."""


def steadiest(noises: Iterable[Samples], n: int) -> Samples:
    """The one that is heard in most of its first `n` samples: a dog may bark only once the clip is over."""
    return max(noises, key=lambda noise: float(np.median(np.abs(noise[:n]))))


def waveforms(samples: Samples, other: Samples, noise: Samples, rng: np.random.Generator) -> dict[str, Samples]:
    """Everything that is done to samples."""
    room = degrade.impulse_response(rng)
    n = len(samples)
    return {
        "as it is": samples,
        "noise (ESC-10), 10 dB": degrade.add_noise(samples, noise, 10),
        "white noise, 10 dB": degrade.add_noise(samples, degrade.white_noise(n, rng), 10),
        "babble, 10 dB": degrade.add_noise(samples, degrade.babble([np.roll(other, k * 4000) for k in range(6)]), 10),
        "music, 10 dB": degrade.add_noise(samples, degrade.music(n, rng), 10),
        "room": degrade.reverberate(samples, room),
        "gain -12 dB": degrade.gain(samples, -12),
        "tilt +3 dB an octave": degrade.tilt(samples, 3),
        "telephone (G.711)": degrade.telephone(samples),
        "mobile (GSM)": degrade.mobile(samples),
        "voice message (Opus)": degrade.voice_message(samples),
        "clipped 12 dB below peak": degrade.clip_peaks(samples, 12),
        "speed 1.15": degrade.change_speed(samples, 1.15),
        "pitch +2 semitones": degrade.shift_pitch(samples, 2),
        "time shift, crop": samples[n // 4 : 3 * n // 4],
        "CopyPaste": np.concatenate((samples, other)),
        "spliced": spliced(samples, other),
    }


def spliced(samples: Samples, other: Samples) -> Samples:
    """Pieces of both, as long as the first."""
    torch.manual_seed(0)
    bank = Bank([[to_int16(each)] for each in (samples, other)], torch.device("cpu"))
    first, second = torch.tensor([0]), torch.tensor([1])
    return bank.splice(first, second, first, torch.tensor([len(samples)]))[0][0].numpy()


def frames_of(db: torch.Tensor, other: torch.Tensor) -> dict[str, torch.Tensor]:
    """Everything that is done to log-mel frames, each with certainty and at its strongest."""
    s = AugmentSettings(hiss=1, band_limit=1, hiss_snr_db=(5, 5))
    two = torch.stack((db, other))
    torch.manual_seed(0)
    steps: dict[str, Callable[[], torch.Tensor]] = {
        "frames: vocal tract": lambda: augment.warp(two, s),
        "frames: compressor": lambda: augment.scale_range(two, s),
        "frames: equaliser": lambda: augment.equalise(two, s),
        "frames: narrow band": lambda: augment.limit_band(two, s),
        "frames: hiss": lambda: augment.add_hiss(two, s),
        "frames: SpecAugment": lambda: augment.mask(two, s),
        "frames: mixup, half and half": lambda: (two + two.flip(0)) / 2,
    }
    return {name: step()[0] for name, step in steps.items()}


@commands.command()
def show(
    clip: Path,
    other: Annotated[Path, typer.Option(help="A second clip, for babble, mixup and CopyPaste.")],
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    output: Annotated[Path, typer.Option("-o", help="The picture.")] = Path("augmentations.png"),
) -> None:
    """Draw a clip under every augmentation."""
    samples, second = read_mono(clip), read_mono(other)
    noises = map(read_mono, noise_paths(corpora, evaluation=False))
    heard = waveforms(samples, second, steadiest(noises, len(samples)), np.random.default_rng(0))
    db = torch.from_numpy(log_mel(samples))
    framed = frames_of(db, torch.from_numpy(np.resize(log_mel(second), db.shape)))
    rows = -(-(len(heard) + len(framed)) // COLUMNS)
    figure, panels = pyplot.subplots(2 * rows, COLUMNS, figsize=(4 * COLUMNS, 2.6 * rows), layout="constrained")
    cells = [(panels[2 * (k // COLUMNS), k % COLUMNS], panels[2 * (k // COLUMNS) + 1, k % COLUMNS])
             for k in range(rows * COLUMNS)]  # fmt: skip
    pictures: list[tuple[str, Samples | None, NDArray[np.float32]]] = [
        *((name, wave, log_mel(wave)) for name, wave in heard.items()),
        *((name, None, frames.numpy()) for name, frames in framed.items()),
    ]
    for (upper, lower), (name, wave, frames) in zip(cells, pictures, strict=False):
        if wave is not None:
            upper.plot(np.arange(len(wave)) / RATE_HZ, wave, linewidth=0.4)
            upper.set(ylim=(-1, 1), xlim=(0, len(wave) / RATE_HZ))
        (lower if wave is None else upper).set_title(name, fontsize=9)
        lower.imshow(frames.T, origin="lower", aspect="auto", vmin=-80, vmax=10, cmap="magma")
    for upper, lower in cells:
        for panel in (upper, lower):
            panel.set(xticks=[], yticks=[])
            if not panel.has_data():
                panel.axis("off")
    figure.savefig(output, dpi=90)
