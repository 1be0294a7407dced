"""Augmentation of log-mel batches, on the fly: what rooms, microphones, lines and noises do to a clip.

All of it works on mel power, where filtering is multiplication per band, uncorrelated noise adds, and a room is a
decaying sum over past frames. Every function takes and gives dB, float32 `(batch, frames, bands)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.features import FeatureSettings

FRAME_S = FeatureSettings().hop_samples / RATE_HZ


@dataclass(frozen=True)
class AugmentSettings:
    """Probabilities per clip, and ranges."""

    warp: float = 0.1
    warp_bands: float = 2.0
    range: float = 0.2
    equaliser_tilt_db: float = 4.0
    equaliser_ripple_db: float = 2.0
    band_limit: float = 0.05
    reverb: float = 0.1
    noise: float = 0.7
    snr_db: tuple[float, float] = (5.0, 45.0)
    mask_bands: int = 10
    mask_frames: int = 13


def power(db: Tensor) -> Tensor:
    return torch.pow(10.0, db / 10)


def decibel(value: Tensor) -> Tensor:
    return 10 * torch.log10(value.clamp_min(1e-10))


def warp(db: Tensor, settings: AugmentSettings) -> Tensor:
    """Another vocal tract (Jaitly and Hinton, 2013): the mel axis stretched and shifted."""
    batch, n_frames, bands = db.shape
    stretch = 1 + settings.warp * (2 * torch.rand(batch, 1) - 1)
    shift = settings.warp_bands * (2 * torch.rand(batch, 1) - 1)
    at = (torch.arange(bands) * stretch + shift).clamp(0, bands - 1)
    below = at.long().clamp(max=bands - 2)
    index = below[:, None].expand(batch, n_frames, bands)
    return torch.lerp(db.gather(2, index), db.gather(2, index + 1), (at - below)[:, None])


def scale_range(db: Tensor, settings: AugmentSettings) -> Tensor:
    """Gain controls and compressors: each clip's dynamics, about its mean, wider or narrower."""
    mean = db.mean(dim=1, keepdim=True)
    return mean + (db - mean) * (1 + settings.range * (2 * torch.rand(len(db), 1, 1) - 1))


def equalise(db: Tensor, settings: AugmentSettings) -> Tensor:
    """A microphone's colour: random tilt and ripple over the bands."""
    batch, _, bands = db.shape
    axis = torch.linspace(0, 1, bands)
    curve = torch.randn(batch, 1) * settings.equaliser_tilt_db * (2 * axis - 1)
    for k in range(1, 5):
        curve = curve + torch.randn(batch, 1) * settings.equaliser_ripple_db * torch.cos(torch.pi * k * axis)
    return db + curve[:, None]


def limit_band(db: Tensor, settings: AugmentSettings) -> Tensor:
    """Cheap lines: attenuate all below a low and above a high cut-off."""
    batch, _, bands = db.shape
    index = torch.arange(bands)
    low = torch.randint(0, 10, (batch, 1))
    high = torch.randint(bands // 2, bands, (batch, 1))
    outside = (index < low) | (index > high)
    hit = torch.rand(batch, 1) < settings.band_limit
    loss_db = 20 + 40 * torch.rand(batch, 1)
    return db - ((outside & hit) * loss_db)[:, None]


def reverberate(db: Tensor, settings: AugmentSettings) -> Tensor:
    """A room: an exponential tail behind each frame, 60 dB down after 0.2 to 0.9 s."""
    batch = len(db)
    decay_s = 0.2 + 0.7 * torch.rand(batch, 1)
    keep = torch.pow(10.0, -6 * FRAME_S / decay_s)
    wet = torch.pow(10.0, -torch.rand(batch, 1) * 1.5) * (1 - keep)
    wet = wet * (torch.rand(batch, 1) < settings.reverb) * 3
    dry = power(db)
    tail = torch.zeros_like(dry[:, 0])
    frames = []
    for frame in dry.unbind(dim=1):
        frames.append(frame + wet * tail)
        tail = keep * tail + frame
    return decibel(torch.stack(frames, dim=1))


def add_noise(db: Tensor, noises: Tensor, settings: AugmentSettings) -> Tensor:
    """Recorded noise, babble of the batch's other clips, or coloured hiss, at a random SNR.

    `noises`: dB, shape (n, frames of at least `db`'s, bands), drawn for this batch.
    """
    batch, n_frames, bands = db.shape
    speech = power(db)
    recorded = power(noises[torch.randint(len(noises), (batch,)), :n_frames])
    babble = sum(speech[torch.randperm(batch)] for _ in range(4))
    axis = torch.linspace(-1, 1, bands)
    colour = power(torch.randn(batch, 1) * 10 * axis)[:, None]
    hiss = colour * torch._standard_gamma(torch.full_like(db, 3.0))
    kind = torch.rand(batch, 1, 1)
    noise = torch.where(kind < 0.4, recorded, torch.where(kind < 0.6, babble, hiss))
    low, high = settings.snr_db
    snr_db = low + (high - low) * torch.rand(batch, 1, 1)
    ratio = speech.mean(dim=(1, 2), keepdim=True) / noise.mean(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    hit = (torch.rand(batch, 1, 1) < settings.noise).float()
    return decibel(speech + hit * noise * ratio * power(-snr_db))


def mask(db: Tensor, settings: AugmentSettings) -> Tensor:
    """SpecAugment (Park et al., 2019): one stretch of bands and two of frames become the clip's mean."""
    batch, n_frames, bands = db.shape
    mean = db.mean(dim=(1, 2), keepdim=True)

    def stretch(length: int, longest: int) -> Tensor:
        width = torch.randint(0, longest + 1, (batch, 1))
        start = (torch.rand(batch, 1) * (length - width)).long()
        index = torch.arange(length)
        return (index >= start) & (index < start + width)

    hidden = stretch(bands, settings.mask_bands)[:, None, :]
    hidden = hidden | stretch(n_frames, settings.mask_frames)[:, :, None]
    hidden = hidden | stretch(n_frames, settings.mask_frames)[:, :, None]
    return torch.where(hidden, mean, db)


def augment(db: Tensor, noises: Tensor, settings: AugmentSettings) -> Tensor:
    """All of the above, in the order in which the world does it."""
    db = warp(db, settings)
    db = reverberate(db, settings)
    db = add_noise(db, noises, settings)
    db = equalise(db, settings)
    db = limit_band(db, settings)
    db = scale_range(db, settings)
    return mask(db, settings)


if __name__ == "__main__":
    from tools.show import commands

    commands()
