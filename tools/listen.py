"""Recordings through the shipped ONNX files and the streaming `Session`, as a user's laptop would hear them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from realtime_ser.events import Event, Measurement
from realtime_ser.session import Session
from realtime_ser.settings import RATE_HZ, SessionSettings, TraceSettings
from realtime_ser.stages.profile import Profile
from realtime_ser.timeline.pool import FilePool
from tools import degrade
from tools.degrade import Samples
from tools.prepare import read_mono

BLOCK_SAMPLES = RATE_HZ // 10

Condition = Callable[[Samples, int], Samples]
"""A clip at 16 kHz and its number → what is left of it. Top-level functions and partials only: they are pickled."""


@dataclass(frozen=True)
class Heard:
    """What `analyze --rows file` would say of a recording."""

    posteriors: NDArray[np.float32] | None
    """Pooled over the recording, shape (labels,); None if nothing was scored."""
    label: str | None
    """None while abstaining or in silence."""


def session_events(
    samples: Samples, model: str, settings: SessionSettings | None = None, profile: Profile | None = None
) -> list[Event]:
    """A session of its own, pushed in blocks of 100 ms."""
    session = Session(model, settings, profile=profile)
    events: list[Event] = []
    for start in range(0, len(samples), BLOCK_SAMPLES):
        events += session.push(samples[start : start + BLOCK_SAMPLES])
    return events + session.flush()


def hear(
    samples: Samples, model: str, settings: SessionSettings | None = None, profile: Profile | None = None
) -> Heard:
    """Run one recording through a session."""
    labels = Session(model).labels
    pooled = FilePool(labels, TraceSettings(), profile).push(session_events(samples, model, settings, profile))
    assert isinstance(pooled, Measurement)  # a flushed session closes
    scores = np.array([pooled.scores[label] for label in labels], np.float32) if pooled.scores else None
    return Heard(scores, pooled.label)


def as_is(samples: Samples, _number: int) -> Samples:
    """No condition."""
    return samples


def _hear_file(job: tuple[int, Path], model: str, condition: Condition, settings: SessionSettings | None) -> Heard:
    number, path = job
    return hear(condition(read_mono(path), number), model, settings)


def processes() -> ProcessPoolExecutor:
    """One for each core, not forked from here: a model that is not bundled runs in a process that is nobody else's."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tools.listen"])
    return ProcessPoolExecutor(mp_context=context)


def hear_all(
    paths: Sequence[Path], model: str, condition: Condition, what: str, settings: SessionSettings | None = None
) -> list[Heard]:
    """Every file under a condition, on all cores."""
    one = partial(_hear_file, model=model, condition=condition, settings=settings)
    with processes() as pool:
        work = pool.map(one, enumerate(paths), chunksize=16)
        return list(track(work, what, total=len(paths)))


def with_noise(samples: Samples, number: int, noises: Sequence[Path], snr_db: float) -> Samples:
    """Recorded noise, another for each clip."""
    return degrade.add_noise(samples, read_mono(noises[number % len(noises)]), snr_db)


def with_white_noise(samples: Samples, number: int, snr_db: float) -> Samples:
    return degrade.add_noise(samples, degrade.white_noise(len(samples), np.random.default_rng(number)), snr_db)


def with_music(samples: Samples, number: int, snr_db: float) -> Samples:
    return degrade.add_noise(samples, degrade.music(len(samples), np.random.default_rng(number)), snr_db)


def with_babble(samples: Samples, number: int, voices: Sequence[Path], snr_db: float) -> Samples:
    """Six other voices."""
    few = np.random.default_rng(number).choice(len(voices), 6, replace=False)
    return degrade.add_noise(samples, degrade.babble([read_mono(voices[i]) for i in few]), snr_db)


def in_the_midst(samples: Samples, sound: Samples) -> Samples:
    """A short sound from the middle of a clip on, its peak as loud as the voice's."""
    start = len(samples) // 2
    sound = sound[: len(samples) - start] * (np.abs(samples).max() / max(float(np.abs(sound).max()), 1e-6))
    mixed = samples.copy()
    mixed[start : start + len(sound)] += sound
    return np.clip(mixed, -1, 1)


def with_cough(samples: Samples, number: int) -> Samples:
    return in_the_midst(samples, degrade.cough(np.random.default_rng(number)))


def with_sneeze(samples: Samples, number: int, sneezes: Sequence[Path]) -> Samples:
    sound = read_mono(sneezes[number % len(sneezes)])
    loudest = int(np.abs(sound).argmax())
    return in_the_midst(samples, sound[max(0, loudest - RATE_HZ // 10) : loudest + RATE_HZ // 2])


def in_a_room(samples: Samples, number: int, rooms: Sequence[Samples]) -> Samples:
    return degrade.reverberate(samples, rooms[number % len(rooms)])


def changed(samples: Samples, _number: int, how: Callable[..., Samples], **options: float) -> Samples:
    """One of `tools.degrade` that needs no chance."""
    return how(samples, **options)


def conditions(noises: Sequence[Path], voices: Sequence[Path]) -> dict[str, Condition]:
    """Of the robustness table, in the manner of audEERING's ser-tests.

    `noises` are ESC-10 files that training has not used, `voices` what babble is mixed from.
    """
    rng = np.random.default_rng(1)  # training's rooms come from 0
    rooms = [degrade.impulse_response(rng) for _ in range(20)]
    sneezes = [p for p in noises if "sneeze" in p.parent.name]
    found: dict[str, Condition] = {}
    for snr_db in (20, 10, 0):
        found[f"white noise, {snr_db} dB"] = partial(with_white_noise, snr_db=snr_db)
        found[f"babble of six, {snr_db} dB"] = partial(with_babble, voices=voices, snr_db=snr_db)
        found[f"music (synthetic), {snr_db} dB"] = partial(with_music, snr_db=snr_db)
        found[f"environment (ESC-10), {snr_db} dB"] = partial(with_noise, noises=noises, snr_db=snr_db)
    found["a cough in the midst (synthetic)"] = with_cough
    found["a sneeze in the midst"] = partial(with_sneeze, sneezes=sneezes)
    found["room, RT60 0.2 to 0.8 s"] = partial(in_a_room, rooms=rooms)
    found["telephone (G.711)"] = partial(changed, how=degrade.telephone)
    found["old mobile (GSM 06.10)"] = partial(changed, how=degrade.mobile)
    found["tilt +3 dB an octave"] = partial(changed, how=degrade.tilt, db_per_octave=3)
    found["tilt -3 dB an octave"] = partial(changed, how=degrade.tilt, db_per_octave=-3)
    found["low-pass, 2 kHz"] = partial(changed, how=degrade.filter_band, high_hz=2000)
    found["high-pass, 500 Hz"] = partial(changed, how=degrade.filter_band, low_hz=500)
    found["clipped 12 dB below the peak"] = partial(changed, how=degrade.clip_peaks, over_db=12)
    found["gain +12 dB, full scale limits"] = partial(changed, how=degrade.overdrive, gain_db=12)
    found["gain +12 dB"] = partial(changed, how=degrade.gain, gain_db=12)
    found["gain -12 dB"] = partial(changed, how=degrade.gain, gain_db=-12)
    return found
