"""Corpora → log-mel frames on disk, with the runtime's own gate and features, so that the two cannot drift apart.

Every clip is kept in several views: as it is, slower, faster, and twice as rooms, noises, lines and bad microphones
leave it (`tools/degrade.py`). What is cheap on log-mel frames is drawn anew for each batch (`tools/augment.py`).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from rich.progress import track

from realtime_ser.settings import RATE_HZ
from realtime_ser.sources.file import FileSource
from realtime_ser.stages.clean import Cleaner
from realtime_ser.stages.features import FeatureExtractor
from realtime_ser.stages.gate import SpeechClosed, SpeechGate, SpeechOpened
from tools import degrade
from tools.corpora import AUDIO_SUFFIXES, NOISE_CORPUS

SPEEDS = (1.0, 0.9, 1.1)
"""The first views (pitch and tempo together); the very first is the clip as it is."""
DEGRADED_VIEWS = 2
VIEWS = len(SPEEDS) + DEGRADED_VIEWS
ROOMS = 60
VERSION = 5
"""Of what follows; a change makes new cache files."""

Frames = NDArray[np.float16]


@dataclass(frozen=True)
class Kit:
    """What degrades training views: rooms and recorded noises that no evaluation uses."""

    rooms: list[NDArray[np.float32]]
    noises: list[NDArray[np.float32]]


def noise_paths(corpora: Path, evaluation: bool) -> list[Path]:
    """Every other noise recording trains, the rest evaluate."""
    paths = sorted(p for p in (corpora / NOISE_CORPUS).rglob("*") if p.suffix in AUDIO_SUFFIXES)
    return paths[1::2] if evaluation else paths[::2]


def training_kit(corpora: Path) -> Kit:
    rng = np.random.default_rng(0)
    rooms = [degrade.impulse_response(rng) for _ in range(ROOMS)]
    return Kit(rooms, [read_mono(p) for p in noise_paths(corpora, evaluation=False)])


def read_mono(path: Path) -> NDArray[np.float32]:
    """A clip at 16 kHz, mono, float32, shape (n,)."""
    source = FileSource(path)
    # What was decoded before a fault counts: libsndfile stumbles over the last packet of some Opus files.
    mono = np.concatenate([block.mean(axis=1) for block in source])
    return mono if source.rate_hz == RATE_HZ else soxr.resample(mono, source.rate_hz, RATE_HZ).astype(np.float32)


def speech_region(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """From the first segment's start to the last one's end, as the gate hears them; all of it if it hears none."""
    samples = Cleaner().push(samples)
    gate = SpeechGate()
    outputs = [*gate.push(samples), *gate.flush()]
    starts = [o.start for o in outputs if isinstance(o, SpeechOpened)]
    ends = [o.at for o in outputs if isinstance(o, SpeechClosed)]
    return samples[starts[0] : ends[-1]] if starts else samples


def log_mel(samples: NDArray[np.float32]) -> Frames:
    """Frames in dB, shape (frames, n_mels), float16: 0.03 dB is near enough for training."""
    extractor = FeatureExtractor()
    return np.concatenate((extractor.push(samples), extractor.flush())).astype(np.float16)


def degraded(samples: NDArray[np.float32], kit: Kit, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random chain in the order in which the world does it: voice, room, noise, microphone, line."""
    samples = degrade.change_speed(samples, rng.uniform(0.87, 1.15))
    if rng.random() < 0.1:
        samples = degrade.shift_pitch(samples, rng.uniform(-2, 2))
    if rng.random() < 0.5:
        samples = degrade.reverberate(samples, kit.rooms[rng.integers(len(kit.rooms))])
    if rng.random() < 0.6:
        noise = kit.noises[rng.integers(len(kit.noises))]
        samples = degrade.add_noise(samples, np.roll(noise, rng.integers(len(noise))), rng.uniform(0, 30))
    samples = degrade.tilt(samples, rng.uniform(-3, 3))
    match rng.integers(10):
        case 0 | 1:
            return degrade.telephone(samples)
        case 2:
            return degrade.mobile(samples)
        case 3:
            return degrade.voice_message(samples)
        case 4 | 5:
            return degrade.clip_peaks(samples, rng.uniform(3, 15))
        case _:
            return samples


def _views(job: tuple[int, Path], kit: Kit) -> list[Frames]:
    number, path = job
    rng = np.random.default_rng(number)
    samples = read_mono(path)
    region = speech_region(samples)
    views = [log_mel(region if s == 1 else degrade.change_speed(region, s)) for s in SPEEDS]
    views += [log_mel(speech_region(degraded(samples, kit, rng))) for _ in range(DEGRADED_VIEWS)]
    return views


def _plain(job: tuple[int, Path]) -> list[Frames]:
    return [log_mel(read_mono(job[1]))]


def views_of(paths: list[Path], cache: Path, corpora: Path) -> list[list[Frames]]:
    """Frames of the clips of a corpus in `VIEWS` views, computed once and kept under `cache`."""
    return _cached(paths, cache, "views", lambda: partial(_views, kit=training_kit(corpora)))


def noise_frames(corpora: Path, cache: Path) -> list[Frames]:
    """Frames of the noises to train with."""
    return [f for (f,) in _cached(noise_paths(corpora, evaluation=False), cache, "plain", lambda: _plain)]


def _cached(paths: list[Path], cache: Path, kind: str, work) -> list[list[Frames]]:  # type: ignore[no-untyped-def]
    key = hashlib.sha256("\n".join([kind, str(VERSION), *(str(p.absolute()) for p in paths)]).encode()).hexdigest()[:16]
    file = cache / f"{key}.npz"
    if not file.exists():
        with ProcessPoolExecutor() as pool:
            found = list(track(pool.map(work(), enumerate(paths), chunksize=32), kind, total=len(paths)))
        cache.mkdir(parents=True, exist_ok=True)
        lengths = [[len(frames) for frames in clip] for clip in found]
        unfinished = file.with_suffix(".new.npz")
        np.savez(unfinished, lengths=lengths, frames=np.concatenate([frames for clip in found for frames in clip]))
        unfinished.replace(file)
        del found
    with np.load(file) as saved:
        lengths, frames = saved["lengths"], saved["frames"]
    pieces = iter(np.split(frames, np.cumsum(lengths.ravel())[:-1]))
    return [[next(pieces) for _ in clip] for clip in lengths]
