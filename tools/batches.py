"""Batches to train with: clips and their targets, cut and degraded anew for each batch on the device that trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from realtime_ser.settings import RATE_HZ
from tools.augment import FEATURES, NOTHING, AugmentSettings, augment, change_speed, degrade, draw, log_mel, samples_for
from tools.corpora import LABELS, UNACTED, Clip, load
from tools.network import CHUNK_FRAMES
from tools.prepare import Frames, Speech, frames_of, speech_of, training_noises, training_rooms

CROP_CHUNKS = (3, 12)
"""Training crops: 0.75 to 3 s."""
COPY_PASTE = 0.3
"""Probability that a clip shorter than its crop is followed by another of that corpus (Pappagari et al., 2021)."""
PIECE_S = (0.3, 1.0)
"""Of a spliced crop."""
FADE_SAMPLES = 80
"""5 ms to either side of where two pieces meet."""
VOTE_WEIGHT = 0.1
"""Share of the raters' votes in a CREMA-D target; the rest is the intended emotion."""
MIXUP = 0.3
"""The Beta distribution's parameter."""


def target_of(clip: Clip, labels: Sequence[str]) -> NDArray[np.float32]:
    """Soft target over `labels`: the intended emotion, with the raters' votes mixed in."""
    target = np.zeros(len(labels), np.float32)
    target[labels.index(str(clip.emotion))] = 1
    if clip.votes and sum(clip.votes):
        votes = np.array([clip.votes[LABELS.index(label)] for label in labels], np.float32)
        target = (1 - VOTE_WEIGHT) * target + VOTE_WEIGHT * votes / votes.sum()
    return target


def allowed_of(clips: Sequence[Clip], labels: Sequence[str]) -> NDArray[np.bool_]:
    """For each clip the labels its corpus can tell; a corpus of one emotion must not push up against nothing."""
    by_corpus: dict[str, set[str | None]] = {}
    for clip in clips:
        by_corpus.setdefault(clip.corpus, set()).add(clip.emotion)
    return np.array([[len(own := by_corpus[c.corpus]) == 1 or label in own for label in labels] for c in clips])


@dataclass(frozen=True)
class Material:
    """Clips with their speech, as it is and through a line; targets and possible labels, (clips, labels)."""

    clips: list[Clip]
    speech: list[list[Speech]]
    targets: NDArray[np.float32]
    allowed: NDArray[np.bool_]

    def part(self, rows: Sequence[int]) -> Material:
        return Material(
            [self.clips[i] for i in rows], [self.speech[i] for i in rows], self.targets[rows], self.allowed[rows]
        )

    def frames(self) -> list[Frames]:
        """Those of each whole clip, as it is."""
        return [frames_of(plain) for plain, _ in self.speech]


def gather(corpora: Path, splits: Path, names: Sequence[str], labels: Sequence[str], cache: Path) -> Material:
    """The clips of `names` whose emotion is among `labels`, corpus by corpus, so that each is computed once."""
    clips: list[Clip] = []
    speech: list[list[Speech]] = []
    for name in names:
        own = load(corpora, splits, [name])
        heard = speech_of([c.path for c in own], cache)
        kept = [i for i, c in enumerate(own) if c.emotion in labels]
        clips += [own[i] for i in kept]
        speech += [heard[i] for i in kept]
    return Material(clips, speech, np.stack([target_of(c, labels) for c in clips]), allowed_of(clips, labels))


@dataclass(frozen=True)
class Batch:
    """frames (batch, n, 64) in dB, of which `n_real` (batch,) are no padding; targets and allowed (batch, labels).

    `rows` (batch,) says which clips of the material they are; mixed up, each is of another one too.
    """

    frames: Tensor
    n_real: Tensor
    targets: Tensor
    allowed: Tensor
    rows: NDArray[np.intp]


class Bank:
    """All clips one behind the other on a device, to cut crops from without a loop over clips."""

    def __init__(self, speech: Sequence[Sequence[Speech]], device: torch.device) -> None:
        lengths = np.array([[len(version) for version in clip] for clip in speech])
        ends = np.cumsum(lengths).reshape(lengths.shape)
        self._samples = torch.from_numpy(np.concatenate([version for clip in speech for version in clip])).to(device)
        self._places = torch.from_numpy(np.stack((ends - lengths, lengths), axis=2)).to(device)
        """Start and length of each version of each clip."""

    def cut(self, rows: Tensor, versions: Tensor, behind: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """A random stretch of each clip, if short with the clip `behind` it (-1: none), and how much of it is real.

        All (batch,). Gives float32 (batch, the most of `n_samples`), silence where there is no speech.
        """
        start, length = self._places[rows, versions].unbind(dim=1)
        next_start, next_length = self._places[behind.clamp_min(0), versions].unbind(dim=1)
        joined = (behind >= 0) & (length < n_samples)
        total = length + next_length * joined
        # Of a clip that is joined with another at least half is heard: the target is its own.
        most = torch.where(joined, length // 2, total)
        spare = (total - n_samples).clamp_min(0).minimum(most)
        first = (torch.rand(len(rows), device=spare.device, dtype=torch.float64) * (spare + 1)).long()
        at = first[:, None] + torch.arange(int(n_samples.max()), device=spare.device)
        index = torch.where(at < length[:, None], start[:, None] + at, (next_start - length)[:, None] + at)
        there = at < total[:, None]
        cut = self._samples[torch.where(there, index, 0)] * there
        return cut.float() / 2**15, torch.minimum(total, n_samples)

    def splice(self, rows: Tensor, others: Tensor, versions: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Pieces from anywhere in each clip or, as often, in that of `others` (batch,), one behind the other.

        They fade where they meet, so that no click tells of it. All else as `cut`.
        """
        batch, n, device = len(rows), int(n_samples.max()), rows.device
        start, length = self._places[torch.stack((rows, others), dim=1), versions[:, None]].unbind(dim=2)
        most = n // int(PIECE_S[0] * RATE_HZ) + 1
        source = torch.randint(2, (batch, most), device=device)
        heard = length.gather(1, source)  # of the clip that a piece is from
        size = torch.minimum((draw(*PIECE_S, heard, batch, most) * RATE_HZ).long(), heard)
        first = (torch.rand(batch, most, device=device, dtype=torch.float64) * (heard - size + 1)).long()
        ends = size.cumsum(dim=1).clamp(max=n)
        begins = functional.pad(ends, (1, 0))
        # One more, of silence, behind those of clips that are too short for all of the crop.
        sizes = functional.pad(ends, (0, 1), value=n) - begins
        shift = functional.pad(start.gather(1, source) + first - begins[:, :-1], (0, 1))
        shift = shift.flatten().repeat_interleave(sizes.flatten()).view(batch, n)
        at = torch.arange(n, device=device)
        total = ends[:, -1]
        gain = torch.zeros(batch, n + 2 * FADE_SAMPLES, device=device)
        gain[:, FADE_SAMPLES:-FADE_SAMPLES] = at < total[:, None]
        row, piece = torch.nonzero(ends < total[:, None], as_tuple=True)
        around = torch.arange(2 * FADE_SAMPLES, device=device)
        gain[row[:, None], ends[row, piece, None] + around] = (around - FADE_SAMPLES + 0.5).abs() / FADE_SAMPLES
        index = (shift + at).clamp(max=len(self._samples) - 1)
        spliced = self._samples[index] * gain[:, FADE_SAMPLES:-FADE_SAMPLES]
        return spliced / 2**15, torch.minimum(total, n_samples)


def fill_up(frames: Tensor, n_real: Tensor) -> Tensor:
    """Frames behind the real ones become the clip's background: the fifth percentile of each band."""
    padding = torch.arange(frames.shape[1], device=frames.device) >= n_real[:, None]
    ordered = frames.masked_fill(padding[:, :, None], torch.inf).sort(dim=1).values
    index = (n_real * 5 // 100)[:, None, None].expand(-1, 1, frames.shape[2])
    return torch.where(padding[:, :, None], ordered.gather(1, index), frames)


class Batches:
    """Endless variety from few clips: a crop and what the world does to it are drawn anew each time."""

    def __init__(
        self, material: Material, corpora: Path, cache: Path, per_epoch: Mapping[str, int], size: int,
        settings: AugmentSettings, device: torch.device,
    ) -> None:  # fmt: skip
        self._material, self._size, self._settings, self._device = material, size, settings, device
        self._bank = Bank(material.speech, device)
        self._noises = self._even(n.astype(np.float32) / 2**15 for n in training_noises(corpora, cache))
        rooms = training_rooms()
        longest = max(map(len, rooms))
        self._rooms = self._even(np.pad(room, (0, longest - len(room))) for room in rooms)
        self._targets = material.targets
        self._per_epoch = per_epoch
        self._by_corpus: dict[str, list[int]] = {name: [] for name in per_epoch}
        self._alike: dict[tuple[str, str | None], list[int]] = {}
        self._own: dict[tuple[str, str, str | None], list[int]] = {}
        """Clips by corpus, speaker and emotion."""
        for i, clip in enumerate(material.clips):
            self._by_corpus[clip.corpus].append(i)
            self._alike.setdefault((clip.corpus, clip.emotion), []).append(i)
            self._own.setdefault((clip.corpus, clip.speaker, clip.emotion), []).append(i)

    def _even(self, sounds: Iterable[NDArray[np.float32]]) -> Tensor:
        """Each repeated to the length of the longest."""
        sounds = list(sounds)
        n = max(map(len, sounds))
        return torch.from_numpy(np.stack([np.resize(sound, n) for sound in sounds])).to(self._device)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return sum(self._per_epoch.values()) // self._size

    def epoch(self, rng: np.random.Generator, unacted_smoothing: float) -> Iterator[Batch]:
        """The batches of one epoch."""
        self._targets = self._material.targets.copy()
        unacted = np.array([c.corpus in UNACTED for c in self._material.clips])
        self._targets[unacted] *= 1 - unacted_smoothing
        self._targets[unacted] += unacted_smoothing / self._targets.shape[1]
        drawn = [np.resize(rng.permutation(rows), self._per_epoch[name]) for name, rows in self._by_corpus.items()]
        order = rng.permutation(np.concatenate(drawn))
        for step in range(self.per_epoch):
            yield self._batch(order[step * self._size : (step + 1) * self._size], rng)

    def _batch(self, rows: NDArray[np.intp], rng: np.random.Generator) -> Batch:
        n_frames = int(rng.integers(CROP_CHUNKS[0], CROP_CHUNKS[1] + 1)) * CHUNK_FRAMES
        settings = self._settings
        if settings.as_recorded and rng.random() < settings.as_recorded:
            settings = NOTHING
        frames, n_real = self._crops(rows, n_frames, settings, rng)
        frames = augment(fill_up(frames, n_real), settings)
        targets = torch.from_numpy(self._targets[rows]).to(self._device)
        allowed = torch.from_numpy(self._material.allowed[rows]).to(self._device)
        if rng.random() < settings.mixed:
            # The same mix for all: the loss stays a plain cross-entropy. Corpora may differ in labels.
            share, other = float(rng.beta(MIXUP, MIXUP)), torch.randperm(len(rows), device=self._device)
            frames = share * frames + (1 - share) * frames[other]
            targets = share * targets + (1 - share) * targets[other]
            n_real = torch.maximum(n_real, n_real[other])
            allowed = allowed | allowed[other]
        return Batch(frames, n_real, targets, allowed, rows)

    def _crops(
        self, rows: NDArray[np.intp], n_frames: int, s: AugmentSettings, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Degraded speech as frames, and how many of each crop's are real."""
        n = samples_for(n_frames)
        sped = rng.random(len(rows)) < s.sped
        speed = np.where(sped, rng.uniform(1 - s.speed, 1 + s.speed, len(rows)), 1.0)
        needed = np.ceil(n * speed).astype(np.int64)
        versions = (rng.random(len(rows)) < s.line).astype(np.int64)
        behind = np.array([self._behind(i, rng) for i in rows])
        on_device = (torch.from_numpy(a).to(self._device) for a in (rows, versions, behind, needed))
        samples, n_there = self._bank.cut(*on_device)
        if self._settings.spliced and (hit := np.flatnonzero(rng.random(len(rows)) < self._settings.spliced)).size:
            others = np.array([self._other(i, rng) for i in rows[hit]])
            on_device = (torch.from_numpy(a).to(self._device) for a in (rows[hit], others, versions[hit], needed[hit]))
            spliced, n_spliced = self._bank.splice(*on_device)
            where = torch.from_numpy(hit).to(self._device)
            samples[where] = functional.pad(spliced, (0, samples.shape[1] - spliced.shape[1]))
            n_there[where] = n_spliced
        factors = torch.from_numpy(speed).to(self._device)
        heard = samples[:, :n].clone() if samples.shape[1] >= n else functional.pad(samples, (0, n - samples.shape[1]))
        if sped.any():
            which = torch.from_numpy(np.flatnonzero(sped)).to(self._device)
            heard[which] = change_speed(samples[which], factors[which], n)
        real = (n_there / factors - FEATURES.frame_samples) // FEATURES.hop_samples + 1
        return log_mel(degrade(heard, self._rooms, self._noises, s)), real.long().clamp(1, n_frames)

    def _other(self, row: int, rng: np.random.Generator) -> int:
        """A clip of the same speaker and emotion; where nobody knows who speaks, the same clip."""
        clip = self._material.clips[row]
        own = self._own[clip.corpus, clip.speaker, clip.emotion]
        return row if clip.corpus in UNACTED else own[rng.integers(len(own))]

    def _behind(self, row: int, rng: np.random.Generator) -> int:
        """The clip that follows (CopyPaste), or -1."""
        if rng.random() >= COPY_PASTE:
            return -1
        clip = self._material.clips[row]
        # An emotion followed by neutral speech is still that emotion's window.
        after = "neutral" if rng.random() < 0.2 and (clip.corpus, "neutral") in self._alike else clip.emotion
        alike = self._alike[clip.corpus, after]
        return alike[rng.integers(len(alike))]
