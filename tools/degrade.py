"""What the world does to a recording: noises, rooms, lines, codecs and bad microphones, on 16 kHz samples.

Training hears these baked into views of its clips (`tools/prepare.py`); the evaluation measures under them, with other
rooms and other noises; `tools/augment.py show` draws them. All take and give float32 of shape (n,), full scale 1.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyroomacoustics
import soundfile
import soxr
from numpy.typing import NDArray

from realtime_ser._librosa import load_librosa
from realtime_ser.settings import RATE_HZ

Samples = NDArray[np.float32]

TELEPHONE_HZ = 8000
TELEPHONE_BAND_HZ = (300.0, 3400.0)


def _full_scale(samples: NDArray[np.floating]) -> Samples:
    """What a converter does with what is too loud."""
    return np.clip(samples, -1, 1).astype(np.float32)


def gain(samples: Samples, gain_db: float) -> Samples:
    """Louder or quieter; nothing limits it, as in a recording in floating point."""
    return (samples * 10 ** (gain_db / 20)).astype(np.float32)


def overdrive(samples: Samples, gain_db: float) -> Samples:
    """Louder, limited at full scale, as a microphone turned up too far."""
    return _full_scale(gain(samples, gain_db))


def clip_peaks(samples: Samples, over_db: float) -> Samples:
    """Cut off what lies above `-over_db` re the peak, as an overdriven microphone does; the level stays."""
    limit = np.abs(samples).max(initial=0) * 10 ** (-over_db / 20)
    return np.clip(samples, -limit, limit)


def add_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Noise, repeated to the length, at an SNR in power over the whole clip."""
    noise = np.resize(noise, len(samples))
    ratio = np.mean(np.square(samples)) / max(float(np.mean(np.square(noise))), 1e-12)
    return _full_scale(samples + noise * np.sqrt(ratio * 10 ** (-snr_db / 10)))


def white_noise(n: int, rng: np.random.Generator) -> Samples:
    return rng.standard_normal(n).astype(np.float32)


def babble(voices: Sequence[Samples]) -> Samples:
    """Several voices at once, each at the same power, as long as the longest."""
    n = max(map(len, voices))
    return sum(np.resize(v, n) / max(float(np.sqrt(np.mean(np.square(v)))), 1e-6) for v in voices).astype(np.float32)


def music(n: int, rng: np.random.Generator) -> Samples:
    """A synthetic stand-in: four-note chords of decaying harmonics, a beat of noise, changing twice a second."""
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    chords = []
    while len(chords) * len(t) < n:
        root_hz = 110 * 2 ** (rng.integers(0, 13) / 12)
        notes = root_hz * 2 ** (np.array([0, rng.choice([3, 4]), 7, 12]) / 12)
        harmonics = np.arange(1, 9)
        tones = np.sin(2 * np.pi * notes[:, None, None] * harmonics[:, None] * t) / harmonics[:, None]
        beat = rng.standard_normal(len(t)) * np.exp(-t * 40)
        chords.append(tones.sum(axis=(0, 1)) * np.exp(-t * 3) + beat)
    return np.concatenate(chords)[:n].astype(np.float32)


def cough(rng: np.random.Generator) -> Samples:
    """A synthetic stand-in, 0.5 s: the glottis opens with a burst of noise, air flows, and mostly the voice ends it.

    These three phases and about how long they last: Korpáš, Sadloňová and Vrabec, Analysis of the cough sound, 1996.
    """
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    burst = np.minimum(t / 0.003, 1) * np.exp(-t / rng.uniform(0.015, 0.03))
    flow = rng.uniform(0.15, 0.4) * np.exp(-t / rng.uniform(0.06, 0.12))
    noise = tilt(filter_band(white_noise(len(t), rng), 300, 6000), rng.uniform(-4, -1))
    since_s = t - rng.uniform(0.2, 0.3)
    swell = np.where(since_s > 0, np.minimum(since_s / 0.02, 1) * np.exp(-since_s / 0.05), 0)
    turns = np.cumsum(rng.uniform(180, 350) * np.exp(-t)) / RATE_HZ  # its pitch falls
    harmonics = np.arange(1, 15)[:, None]
    voice = (np.sin(2 * np.pi * harmonics * turns) / harmonics).sum(axis=0)
    sound = noise / np.abs(noise).max() * (burst + flow) + rng.choice((0, 0.2, 0.4)) * swell * voice
    return (sound / np.abs(sound).max()).astype(np.float32)


def filter_band(samples: Samples, low_hz: float = 0, high_hz: float = RATE_HZ / 2) -> Samples:
    """Keep only `low_hz` to `high_hz`."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def tilt(samples: Samples, db_per_octave: float) -> Samples:
    """A microphone's colour: a slope about 1 kHz, at most 20 dB either way; the power stays."""
    spectrum = np.fft.rfft(samples)
    hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE_HZ), 50)
    spectrum *= 10 ** (np.clip(db_per_octave * np.log2(hz / 1000), -20, 20) / 20)
    tilted = np.fft.irfft(spectrum, len(samples))
    power = np.mean(np.square(samples)) / max(float(np.mean(np.square(tilted))), 1e-12)
    return _full_scale(tilted * np.sqrt(power))


def impulse_response(rng: np.random.Generator, rt60_s: tuple[float, float] = (0.2, 0.8)) -> Samples:
    """Of a random shoebox room, talker and microphone, by the image method (Allen and Berkley, 1979)."""
    size_m = rng.uniform((3, 2.5, 2.3), (8, 6, 3.5))
    absorption, order = pyroomacoustics.inverse_sabine(rng.uniform(*rt60_s), size_m)
    walls = pyroomacoustics.Material(absorption)
    room = pyroomacoustics.ShoeBox(size_m, fs=RATE_HZ, materials=walls, max_order=min(order, 12))
    talker, microphone = rng.uniform(0.5, size_m - 0.5), rng.uniform(0.5, size_m - 0.5)
    room.add_source(talker)
    room.add_microphone(microphone)
    room.compute_rir()
    response = room.rir[0][0]
    begin = int(np.abs(response).argmax())  # so that the clip does not move
    return (response[begin:] / np.abs(response).max()).astype(np.float32)


def reverberate(samples: Samples, response: Samples) -> Samples:
    """In a room; the power stays."""
    n = len(samples) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(samples, n) * np.fft.rfft(response, n), n)[: len(samples)]
    power = np.mean(np.square(samples)) / max(float(np.mean(np.square(wet))), 1e-12)
    return _full_scale(wet * np.sqrt(power))


def _through(samples: Samples, rate_hz: int, format_: str, subtype: str, **options: float) -> Samples:
    """Encode and decode with libsndfile, at a rate of its own."""
    file = io.BytesIO()
    narrow = samples if rate_hz == RATE_HZ else soxr.resample(samples, RATE_HZ, rate_hz)
    # Beyond full scale libsndfile's μ-law reads outside its table.
    soundfile.write(file, _full_scale(narrow), rate_hz, format=format_, subtype=subtype, **options)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    wide = decoded if rate_hz == RATE_HZ else soxr.resample(decoded, rate_hz, RATE_HZ)
    return np.resize(wide, len(samples)).astype(np.float32)


def telephone(samples: Samples) -> Samples:
    """A landline: 300 to 3400 Hz, 8 kHz, μ-law (ITU-T G.711)."""
    return _through(filter_band(samples, *TELEPHONE_BAND_HZ), TELEPHONE_HZ, "WAV", "ULAW")


def mobile(samples: Samples) -> Samples:
    """An old mobile: 8 kHz, GSM 06.10 full rate."""
    return _through(samples, TELEPHONE_HZ, "WAV", "GSM610")


def voice_message(samples: Samples) -> Samples:
    """Opus at its lowest quality."""
    return _through(samples, RATE_HZ, "OGG", "OPUS", compression_level=1.0)


def change_speed(samples: Samples, factor: float) -> Samples:
    """Tempo and pitch together."""
    return soxr.resample(samples, factor * RATE_HZ, RATE_HZ).astype(np.float32)


def shift_pitch(samples: Samples, semitones: float) -> Samples:
    """Pitch alone."""
    return load_librosa().effects.pitch_shift(samples, sr=RATE_HZ, n_steps=semitones).astype(np.float32)
