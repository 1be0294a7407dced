"""The recording behind a timeline: to hear, and as a picture (extra `report`)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from realtime_ser._librosa import load_librosa
from realtime_ser.errors import SettingsError, TimelineError
from realtime_ser.settings import RATE_HZ
from realtime_ser.sources.file import FileSource
from realtime_ser.stages.resample import Resampler
from realtime_ser.timeline.read import Timeline

_MOST_COLUMNS = 3_000
"""Of the spectrogram's picture."""
_LONGEST_PITCH_S = 600.0
"""Pitch of more than ten minutes cannot be read off a screen, and takes long."""
_LENGTH_TOLERANCE_S = 1.0


@dataclass(frozen=True)
class Sound:
    """What page and pictures show of it."""

    mp3: bytes
    spectrogram_png: bytes
    pitch_hz: NDArray[np.float64] | None
    """NaN where there is none."""
    pitch_step_s: float
    duration_s: float


def listen(path: Path, timeline: Timeline) -> Sound:
    """Decode, compress and picture a recording; raises TimelineError if its length is not the timeline's.

    Or if the timeline holds several; SourceError if it cannot be read, SettingsError if Matplotlib is not installed.
    """
    need_matplotlib()
    if (n := len(set(timeline.file))) > 1:
        raise TimelineError(f"{timeline.path}: holds {n} recordings", "analyse the one to hear by itself")
    source = FileSource(path)
    resampler = Resampler(source.rate_hz, source.channels)
    blocks = [resampler.push(block) for block in source]
    samples = np.concatenate([*blocks, resampler.flush()])
    duration_s = len(samples) / RATE_HZ
    check_length(path, duration_s, timeline)
    mp3 = io.BytesIO()
    soundfile.write(mp3, samples, RATE_HZ, format="MP3")
    step = max(RATE_HZ // 100, len(samples) // _MOST_COLUMNS)
    pitch_hz = _pitch(samples, step) if duration_s <= _LONGEST_PITCH_S else None
    return Sound(mp3.getvalue(), _spectrogram(samples, step), pitch_hz, step / RATE_HZ, duration_s)


def need_matplotlib() -> None:
    """Raises SettingsError if it is not installed."""
    if find_spec("matplotlib") is None:
        raise SettingsError("matplotlib is not installed", "pip install 'realtime-ser[report]'")


def check_length(path: Path, duration_s: float, timeline: Timeline) -> None:
    """Raises TimelineError if a recording of this length is not what the timeline was made of."""
    longer_s = duration_s - timeline.duration_s
    # Without hops a timeline ends with its last utterance, whatever silence was behind that.
    if longer_s < -_LENGTH_TOLERANCE_S or (longer_s > _LENGTH_TOLERANCE_S and timeline.hops.any()):
        raise TimelineError(
            f"{path}: is {duration_s:.1f} s long, the timeline {timeline.duration_s:.1f} s",
            "give the recording that the timeline was made of",
        )


def _spectrogram(samples: NDArray[np.float32], step: int) -> bytes:
    """A picture of the mel spectrogram over 80 dB, a column every `step` samples."""
    from matplotlib import image

    librosa = load_librosa()
    mel = librosa.feature.melspectrogram(y=samples, sr=RATE_HZ, n_fft=1024, hop_length=step, n_mels=96, fmax=8000)
    picture = io.BytesIO()
    image.imsave(picture, librosa.power_to_db(mel, ref=np.max, top_db=80)[::-1], cmap="magma", format="png")
    return picture.getvalue()


def _pitch(samples: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    """Probabilistic YIN (Mauch and Dixon, 2014) between 65 and 500 Hz; NaN where nothing is voiced."""
    hz: NDArray[np.float64] = load_librosa().pyin(
        samples, fmin=65, fmax=500, sr=RATE_HZ, frame_length=1024, hop_length=step, resolution=0.2
    )[0]
    return hz
