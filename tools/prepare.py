"""Corpora → speech on disk, cut by the runtime's own gate, so that training and runtime hear the same stretches.

Every clip is kept twice: as it is, and through a random line or codec (`tools/degrade.py`). All else that the world
does to a voice is drawn anew for each batch (`tools/augment.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

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

LINES = (degrade.telephone, degrade.mobile, degrade.voice_message)
ROOMS = 60
VERSION = 7
"""Of what follows; a change makes new cache files."""

Frames = NDArray[np.float32]
Speech = NDArray[np.int16]


def noise_paths(corpora: Path, evaluation: bool) -> list[Path]:
    """Every other clip of noise trains; of the rest those evaluate that are cut from none of the same recordings."""
    paths = sorted(p for p in (corpora / NOISE_CORPUS).rglob("*") if p.suffix in AUDIO_SUFFIXES)
    if not evaluation:
        return paths[::2]
    heard = {_recording(path) for path in paths[::2]}
    return [path for path in paths[1::2] if _recording(path) not in heard]


def _recording(path: Path) -> str:
    """ESC-10's names are fold, number of the recording at Freesound, and which cut of it: `1-17367-A`."""
    return path.stem.split("-")[1]


def training_rooms() -> list[NDArray[np.float32]]:
    """Impulse responses that no evaluation uses."""
    rng = np.random.default_rng(0)
    return [degrade.impulse_response(rng) for _ in range(ROOMS)]


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
    """The runtime's frames in dB, shape (frames, n_mels)."""
    extractor = FeatureExtractor()
    return np.concatenate((extractor.push(samples), extractor.flush()))


def frames_of(speech: Speech) -> Frames:
    """The runtime's frames of a kept clip."""
    return log_mel(speech.astype(np.float32) / 2**15)


def to_int16(samples: NDArray[np.float32]) -> Speech:
    """Samples as they are kept."""
    return np.clip(np.round(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def _speech(job: tuple[int, Path]) -> list[Speech]:
    number, path = job
    samples = read_mono(path)
    line = LINES[np.random.default_rng(number).integers(len(LINES))]
    return [to_int16(speech_region(samples)), to_int16(speech_region(line(samples)))]


def _noise(job: tuple[int, Path]) -> list[Speech]:
    return [to_int16(read_mono(job[1]))]


def speech_of(paths: Sequence[Path], cache: Path) -> list[list[Speech]]:
    """The speech of a corpus' clips, each as it is and through a line, computed once and kept under `cache`."""
    return _cached(paths, cache, "speech", _speech)


def training_noises(corpora: Path, cache: Path) -> list[Speech]:
    """The noises to train with."""
    return [noise for (noise,) in _cached(noise_paths(corpora, evaluation=False), cache, "noise", _noise)]


def _cached(paths: Sequence[Path], cache: Path, kind: str, work: Callable[[Any], list[Speech]]) -> list[list[Speech]]:
    key = hashlib.sha256("\n".join([kind, str(VERSION), *(str(p.absolute()) for p in paths)]).encode()).hexdigest()[:16]
    file = cache / f"{key}.npz"
    if not file.exists():
        with ProcessPoolExecutor() as pool:
            found = list(track(pool.map(work, enumerate(paths), chunksize=32), kind, total=len(paths)))
        cache.mkdir(parents=True, exist_ok=True)
        lengths = [[len(part) for part in clip] for clip in found]
        unfinished = cache / f"{key}.{os.getpid()}.npz"  # several may be at it
        np.savez(unfinished, lengths=lengths, samples=np.concatenate([part for clip in found for part in clip]))
        unfinished.replace(file)
        del found
    with np.load(file) as saved:
        lengths, samples = saved["lengths"], saved["samples"]
    pieces = iter(np.split(samples, np.cumsum(lengths.ravel())[:-1]))
    return [[next(pieces) for _ in clip] for clip in lengths]
