"""Augmentation of batches, on the fly and on whatever device they lie: what the world does to a voice, then its frames.

Functions of samples take and give float32 `(batch, samples)`, those of frames dB, float32 `(batch, frames, bands)`. The
latter work on mel power, where filtering is multiplication per band and uncorrelated noise adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.features import POWER_FLOOR, FeatureSettings, mel_filterbank

FEATURES = FeatureSettings()
TAPS = 8
"""Of the interpolation, to either side."""
PHASES = 512
"""Its weights are those of the nearest of so many places between two samples: white noise is off by -60 dB."""


@dataclass(frozen=True)
class AugmentSettings:
    """Of each kind, the share of clips that it befalls, and what it draws from; from `warp` on all."""

    sped: float = 0.6
    speed: float = 0.15
    """At most so much faster or slower."""
    line: float = 0.12
    room: float = 0.2
    tilt: float = 0.3
    tilt_db_per_octave: float = 3.0
    recorded: float = 0.25
    recorded_snr_db: tuple[float, float] = (0.0, 30.0)
    clip: float = 0.08
    clip_db: tuple[float, float] = (3.0, 15.0)
    """Below the peak."""
    hiss: float = 0.7
    hiss_snr_db: tuple[float, float] = (5.0, 45.0)
    band_limit: float = 0.05
    band_limit_at: tuple[int, int] = (10, 32)
    """The highest band to begin with and the lowest to end with."""
    band_limit_db: tuple[float, float] = (20.0, 60.0)
    band_limit_one_sided: float = 0.0
    """Share of the limited that are so at one end alone."""
    warp: float = 0.1
    """At most such a part of the mel axis more or less."""
    warp_bands: float = 2.0
    range: float = 0.2
    equaliser_tilt_db: float = 4.0
    equaliser_ripple_db: float = 2.0
    mask_bands: int = 10
    mask_frames: int = 13
    mixed: float = 0.3
    """Share of the batches that are mixed up."""
    as_recorded: float = 0.0
    """Share of the batches to which nothing is done at all."""
    spliced: float = 0.0
    """Share of the crops, of all batches, that are pieces of two recordings of the speaker's (`tools/batches.py`)."""


NOTHING = AugmentSettings(
    sped=0, line=0, room=0, tilt=0, recorded=0, clip=0, hiss=0, band_limit=0, warp=0, warp_bands=0, range=0,
    equaliser_tilt_db=0, equaliser_ripple_db=0, mask_bands=0, mask_frames=0, mixed=0,
)  # fmt: skip
"""Crops as they were recorded."""


def draw(low: float, high: float, like: Tensor, *shape: int) -> Tensor:
    """Uniform numbers on the device of `like`."""
    return low + (high - low) * torch.rand(*shape, device=like.device)


def samples_for(n_frames: int) -> int:
    """How many samples so many frames are made of."""
    return (n_frames - 1) * FEATURES.hop_samples + FEATURES.frame_samples


def change_speed(samples: Tensor, factors: Tensor, n_samples: int) -> Tensor:
    """Tempo and pitch together: the first `n_samples`, each clip read `factors` (batch,) times as fast.

    Interpolation with a sinc under a Hann window, as wide as the slower of both rates needs (Smith and Gossett, 1984).
    """
    at = factors[:, None] * torch.arange(n_samples, device=samples.device, dtype=torch.float64)
    near = at.long().clamp(max=samples.shape[1] - 1)
    phase = ((at - near) * PHASES).round().long().clamp(max=PHASES)
    around = functional.pad(samples, (TAPS - 1, TAPS), mode="replicate")
    cutoff = 1 / factors.float().clamp_min(1)[:, None]
    offset = torch.arange(PHASES + 1, device=samples.device) / PHASES
    sped = samples.new_zeros(near.shape)
    for tap in range(2 * TAPS):
        distance = offset - (tap - TAPS + 1)
        weight = cutoff * torch.sinc(cutoff * distance) * torch.cos(torch.pi / 2 * distance / TAPS).square()
        sped.addcmul_(weight.gather(1, phase), around[:, tap:].gather(1, near))
    return sped


def room_and_tilt(samples: Tensor, rooms: Tensor, settings: AugmentSettings) -> Tensor:
    """In one of `rooms` (n, taps), before a microphone that tilts about 1 kHz; each clip's power stays."""
    batch, n = samples.shape
    n_fft = 1 << (n + rooms.shape[1] - 2).bit_length()
    spectrum = torch.fft.rfft(samples, n_fft)
    there = torch.fft.rfft(rooms, n_fft)[torch.randint(len(rooms), (batch,), device=samples.device)]
    in_room = torch.rand(batch, 1, device=samples.device) < settings.room
    hz = torch.fft.rfftfreq(n_fft, 1 / RATE_HZ, device=samples.device).clamp_min(50)
    slope = draw(-settings.tilt_db_per_octave, settings.tilt_db_per_octave, samples, batch, 1)
    slope = slope * (torch.rand(batch, 1, device=samples.device) < settings.tilt)
    colour = torch.pow(10.0, (slope * torch.log2(hz / 1000)).clamp(-20, 20) / 20)
    heard = torch.fft.irfft(spectrum * torch.where(in_room, there, 1) * colour, n_fft)[:, :n]
    ratio = samples.square().mean(dim=1, keepdim=True) / heard.square().mean(dim=1, keepdim=True).clamp_min(1e-12)
    return heard * ratio.sqrt()


def add_recorded(samples: Tensor, noises: Tensor, settings: AugmentSettings) -> Tensor:
    """One of `noises` (n, samples), from anywhere in it, or two other clips of the batch at once."""
    batch, n = samples.shape
    start = torch.randint(noises.shape[1], (batch, 1), device=samples.device)
    index = (start + torch.arange(n, device=samples.device)) % noises.shape[1]
    recorded = noises[torch.randint(len(noises), (batch, 1), device=samples.device), index]
    babble = samples.roll(1, dims=0) + samples.roll(2, dims=0)
    noise = torch.where(torch.rand(batch, 1, device=samples.device) < 0.75, recorded, babble)
    snr_db = draw(*settings.recorded_snr_db, samples, batch, 1)
    ratio = samples.square().mean(dim=1, keepdim=True) / noise.square().mean(dim=1, keepdim=True).clamp_min(1e-12)
    hit = torch.rand(batch, 1, device=samples.device) < settings.recorded
    return samples + hit * noise * (ratio * power(-snr_db)).sqrt()


def clip_peaks(samples: Tensor, settings: AugmentSettings) -> Tensor:
    """An overdriven microphone."""
    over_db = draw(*settings.clip_db, samples, len(samples), 1)
    over_db = over_db * (torch.rand(len(samples), 1, device=samples.device) < settings.clip)
    limit = samples.abs().amax(dim=1, keepdim=True) * torch.pow(10.0, -over_db / 20)
    return torch.minimum(torch.maximum(samples, -limit), limit)


def degrade(samples: Tensor, rooms: Tensor, noises: Tensor, settings: AugmentSettings) -> Tensor:
    """All of the above but speed, in the order in which the world does it."""
    samples = room_and_tilt(samples, rooms, settings)
    samples = add_recorded(samples, noises, settings)
    return clip_peaks(samples, settings)


@cache
def _taper_and_filters(device: torch.device) -> tuple[Tensor, Tensor]:
    f = FEATURES
    filters = mel_filterbank(RATE_HZ, f.frame_samples, f.n_mels, f.fmin_hz, f.fmax_hz)
    return torch.hann_window(f.frame_samples, device=device), torch.from_numpy(filters.T).to(device)


def log_mel(samples: Tensor) -> Tensor:
    """The runtime's frames in dB (`realtime_ser.stages.features`), in float32."""
    taper, filters = _taper_and_filters(samples.device)
    framed = samples.unfold(1, FEATURES.frame_samples, FEATURES.hop_samples) * taper
    return decibel(torch.fft.rfft(framed).abs().square() @ filters)


def power(db: Tensor) -> Tensor:
    return torch.pow(10.0, db / 10)


def decibel(value: Tensor) -> Tensor:
    return 10 * torch.log10(value.clamp_min(POWER_FLOOR))


def warp(db: Tensor, settings: AugmentSettings) -> Tensor:
    """Another vocal tract (Jaitly and Hinton, 2013): the mel axis stretched and shifted."""
    batch, n_frames, bands = db.shape
    stretch = 1 + draw(-settings.warp, settings.warp, db, batch, 1)
    shift = draw(-settings.warp_bands, settings.warp_bands, db, batch, 1)
    at = (torch.arange(bands, device=db.device) * stretch + shift).clamp(0, bands - 1)
    below = at.long().clamp(max=bands - 2)
    index = below[:, None].expand(batch, n_frames, bands)
    return torch.lerp(db.gather(2, index), db.gather(2, index + 1), (at - below)[:, None])


def scale_range(db: Tensor, settings: AugmentSettings) -> Tensor:
    """Gain controls and compressors: each clip's dynamics, about its mean, wider or narrower."""
    mean = db.mean(dim=1, keepdim=True)
    return mean + (db - mean) * (1 + draw(-settings.range, settings.range, db, len(db), 1, 1))


def equalise(db: Tensor, settings: AugmentSettings) -> Tensor:
    """A microphone's colour: random tilt and ripple over the bands."""
    batch, _, bands = db.shape
    axis = torch.linspace(0, 1, bands, device=db.device)
    curve = torch.randn(batch, 1, device=db.device) * settings.equaliser_tilt_db * (2 * axis - 1)
    for k in range(1, 5):
        size = torch.randn(batch, 1, device=db.device) * settings.equaliser_ripple_db
        curve = curve + size * torch.cos(torch.pi * k * axis)
    return db + curve[:, None]


def limit_band(db: Tensor, settings: AugmentSettings) -> Tensor:
    """Cheap lines: attenuate all below a low and above a high cut-off."""
    batch, _, bands = db.shape
    index = torch.arange(bands, device=db.device)
    low = torch.randint(0, settings.band_limit_at[0], (batch, 1), device=db.device)
    high = torch.randint(settings.band_limit_at[1], bands, (batch, 1), device=db.device)
    one_sided = torch.rand(batch, 1, device=db.device) < settings.band_limit_one_sided
    at_the_top = torch.rand(batch, 1, device=db.device) < 0.5
    outside = ((index < low) & ~(one_sided & at_the_top)) | ((index > high) & ~(one_sided & ~at_the_top))
    hit = torch.rand(batch, 1, device=db.device) < settings.band_limit
    loss_db = draw(*settings.band_limit_db, db, batch, 1)
    return db - ((outside & hit) * loss_db)[:, None]


def add_hiss(db: Tensor, settings: AugmentSettings) -> Tensor:
    """Coloured hiss at a random SNR."""
    batch, _, bands = db.shape
    speech = power(db)
    axis = torch.linspace(-1, 1, bands, device=db.device)
    colour = power(torch.randn(batch, 1, device=db.device) * 10 * axis)[:, None]
    noise = colour * torch._standard_gamma(torch.full_like(db, 3.0))
    snr_db = draw(*settings.hiss_snr_db, db, batch, 1, 1)
    ratio = speech.mean(dim=(1, 2), keepdim=True) / noise.mean(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    hit = torch.rand(batch, 1, 1, device=db.device) < settings.hiss
    return decibel(speech + hit * noise * ratio * power(-snr_db))


def mask(db: Tensor, settings: AugmentSettings) -> Tensor:
    """SpecAugment (Park et al., 2019): one stretch of bands and two of frames become the clip's mean."""
    batch, n_frames, bands = db.shape
    mean = db.mean(dim=(1, 2), keepdim=True)

    def stretch(length: int, longest: int) -> Tensor:
        width = torch.randint(0, longest + 1, (batch, 1), device=db.device)
        start = (torch.rand(batch, 1, device=db.device) * (length - width)).long()
        index = torch.arange(length, device=db.device)
        return (index >= start) & (index < start + width)

    hidden = stretch(bands, settings.mask_bands)[:, None, :]
    hidden = hidden | stretch(n_frames, settings.mask_frames)[:, :, None]
    hidden = hidden | stretch(n_frames, settings.mask_frames)[:, :, None]
    return torch.where(hidden, mean, db)


def augment(db: Tensor, settings: AugmentSettings) -> Tensor:
    """All that is done to frames, in the order in which the world does it."""
    db = warp(db, settings)
    db = add_hiss(db, settings)
    db = equalise(db, settings)
    db = limit_band(db, settings)
    db = scale_range(db, settings)
    return mask(db, settings)


if __name__ == "__main__":
    from tools.show import commands

    commands()
