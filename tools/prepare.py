"""Corpora → log-mel frames on disk, with the runtime's own gate and features, so that the two cannot drift apart."""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from rich.progress import track

from realtime_ser.settings import RATE_HZ
from realtime_ser.sources.file import FileSource
from realtime_ser.stages.features import FeatureExtractor
from realtime_ser.stages.gate import SpeechClosed, SpeechGate, SpeechOpened

SPEEDS = (1.0, 0.9, 1.1)
"""Every clip is kept at these speeds (pitch and tempo together); the first is the clip as it is."""


def read_mono(path: Path) -> NDArray[np.float32]:
    """A clip at 16 kHz, mono, float32, shape (n,)."""
    source = FileSource(path)
    # What was decoded before a fault counts: libsndfile stumbles over the last packet of some Opus files.
    mono = np.concatenate([block.mean(axis=1) for block in source])
    return mono if source.rate_hz == RATE_HZ else soxr.resample(mono, source.rate_hz, RATE_HZ).astype(np.float32)


def speech_region(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """From the first segment's start to the last one's end, as the gate hears them; all of it if it hears none."""
    gate = SpeechGate()
    outputs = gate.push(samples) + gate.flush()
    starts = [o.start for o in outputs if isinstance(o, SpeechOpened)]
    ends = [o.at for o in outputs if isinstance(o, SpeechClosed)]
    return samples[starts[0] : ends[-1]] if starts else samples


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float16]:
    """Frames in dB, shape (frames, n_mels), float16: 0.03 dB is near enough for training."""
    extractor = FeatureExtractor()
    return np.concatenate((extractor.push(samples), extractor.flush())).astype(np.float16)


def _speech_frames(path: Path) -> list[NDArray[np.float16]]:
    region = speech_region(read_mono(path))
    return [log_mel(region if s == 1 else soxr.resample(region, s * RATE_HZ, RATE_HZ)) for s in SPEEDS]


def _noise_frames(path: Path) -> list[NDArray[np.float16]]:
    return [log_mel(read_mono(path))]


def frames_of(paths: list[Path], cache: Path, noise: bool = False) -> list[list[NDArray[np.float16]]]:
    """Frames of each file at each of `SPEEDS` (noise: as it is), computed once and kept under `cache`."""
    key = hashlib.sha256("\n".join([str(noise), *map(str, paths)]).encode()).hexdigest()[:16]
    file = cache / f"{key}.npz"
    if not file.exists():
        with ProcessPoolExecutor() as pool:
            work = pool.map(_noise_frames if noise else _speech_frames, paths, chunksize=32)
            found = list(track(work, "features", total=len(paths)))
        cache.mkdir(parents=True, exist_ok=True)
        lengths = [[len(frames) for frames in clip] for clip in found]
        np.savez(file, lengths=lengths, frames=np.concatenate([frames for clip in found for frames in clip]))
        del found
    with np.load(file) as saved:
        lengths, frames = saved["lengths"], saved["frames"]
    pieces = iter(np.split(frames, np.cumsum(lengths.ravel())[:-1]))
    return [[next(pieces) for _ in clip] for clip in lengths]
