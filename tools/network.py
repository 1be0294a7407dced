"""The network: a causal residual CNN that embeds speech as it arrives, and a pooling head.

Trained and streamed by the same code. Every convolution looks only back in time and takes what it needs of the past
as a cache, so a clip in one piece and a clip in chunks of 250 ms give the same embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

N_MELS = 64
CHUNK_FRAMES = 25
"""Frames of 10 ms that the streaming encoder takes at once; also the look-ahead of its normalisation."""
FRAMES_PER_EMBEDDING = 5
LOUDNESS_EXPONENT = 0.3
"""Loudness grows with this power of intensity (Stevens, 1957): what weighs a frame in the running mean."""
FORGET = 0.97
"""Of the running mean, per chunk: a time constant of 8.2 s."""


class RunningMean(nn.Module):
    """Subtract each band's loudness-weighted mean so far: level and a microphone's colour drop out.

    The mean of a chunk already holds that chunk, so the first one is normalised too. A gain cancels exactly.
    """

    state_size = N_MELS + 1

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`frames` (batch, chunks * 25, 64) in dB; returns them centred, in units of 12 dB, limited to ±4."""
        batch, n_frames, _ = frames.shape
        chunks = frames.reshape(batch, -1, CHUNK_FRAMES, N_MELS)
        weight = torch.pow(10.0, chunks.mean(dim=3, keepdim=True) * (LOUDNESS_EXPONENT / 10))
        sums = torch.cat(((chunks * weight).sum(dim=2), weight.sum(dim=2)), dim=2)
        totals = []
        for index in range(n_frames // CHUNK_FRAMES):
            state = FORGET * state + sums[:, index]
            totals.append(state)
        total = torch.stack(totals, dim=1)
        mean = total[..., :N_MELS] / total[..., N_MELS:]
        centred = ((chunks - mean[:, :, None]) / 12).clamp(-4, 4)
        return centred.reshape(batch, n_frames, N_MELS), state


class CausalConv(nn.Module):
    """Conv2d over (time, mel) that never looks ahead, batch norm behind it; its past comes and goes as a cache."""

    def __init__(self, c_in: int, c_out: int, time: int, mel: int, stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, (time, mel), stride, padding=(0, mel // 2), bias=False)
        self.norm = nn.BatchNorm2d(c_out)
        self.past = time - stride[0]

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat((cache, x), dim=2)
        return self.norm(self.conv(x)), x[:, :, x.shape[2] - self.past :]


class Encoder(nn.Module):
    """Log-mel frames in dB → embeddings, 20 a second.

    `forward(frames, state)`: frames (batch, n * 25, 64); state (batch, state_size), zeros at a segment's start.
    Returns embeddings (batch, n * 5, dim) and the state for the next chunk.
    """

    def __init__(self, widths: tuple[int, int, int, int], blocks: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        stem, *stages = widths
        self.mean = RunningMean()
        layers = [CausalConv(1, stem, 3, 5, (1, 2))]
        caches = [(1, 2, N_MELS)]
        layers.append(CausalConv(stem, stages[0], 10, 3, (FRAMES_PER_EMBEDDING, 2)))
        caches.append((stem, 5, N_MELS // 2))
        self.roles = ["plain", "plain"]
        bands = N_MELS // 4
        for index, (width, count) in enumerate(zip(stages, blocks, strict=True)):
            if index:
                layers.append(CausalConv(stages[index - 1], width, 3, 3, (1, 2)))
                caches.append((stages[index - 1], 2, bands))
                self.roles.append("plain")
                bands //= 2
            for _ in range(count):
                layers += [CausalConv(width, width, 3, 3), CausalConv(width, width, 3, 3)]
                caches += [(width, 2, bands)] * 2
                self.roles += ["open", "close"]
        self.layers = nn.ModuleList(layers)
        self.cache_shapes = caches
        self.project = nn.Linear(stages[-1] * bands, dim)
        self.dim = dim
        self.state_size = RunningMean.state_size + sum(c * t * f for c, t, f in caches)

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch = frames.shape[0]
        sizes = [RunningMean.state_size] + [c * t * f for c, t, f in self.cache_shapes]
        mean_state, *flat = state.split(sizes, dim=1)
        x, mean_state = self.mean(frames, mean_state)
        x = x[:, None]
        new_state = [mean_state]
        skip = x
        for layer, role, cache, shape in zip(self.layers, self.roles, flat, self.cache_shapes, strict=True):
            if role == "open":
                skip = x
            x, cache = layer(x, cache.reshape(batch, *shape))
            x = functional.relu(x + skip if role == "close" else x)
            new_state.append(cache.reshape(batch, -1))
        x = x.permute(0, 2, 1, 3).flatten(2)
        return self.project(x), torch.cat(new_state, dim=1)


class Head(nn.Module):
    """Embeddings of a window → logits, by attentive statistics pooling (Okabe et al., 2018).

    `forward(embeddings, mask)`: embeddings (batch, n, dim); mask (batch, n), True where there is speech to pool,
    or None for all. Returns logits (batch, labels).
    """

    def __init__(self, dim: int, n_labels: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.Linear(dim, 64), nn.Tanh(), nn.Linear(64, dim))
        self.norm = nn.BatchNorm1d(2 * dim)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(2 * dim, n_labels)

    def forward(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = self.attend(embeddings)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, :, None], -1e4)
        weight = torch.softmax(scores, dim=1)
        mean = (weight * embeddings).sum(dim=1)
        variance = (weight * (embeddings - mean[:, None]).square()).sum(dim=1)
        pooled = torch.cat((mean, (variance + 1e-5).sqrt()), dim=1)
        return self.classify(self.dropout(self.norm(pooled)))


class SpeechEmotionNet(nn.Module):
    """Encoder and head, as trained."""

    def __init__(
        self,
        n_labels: int,
        widths: tuple[int, int, int, int] = (24, 48, 64, 96),
        blocks: tuple[int, int, int] = (1, 2, 2),
        dim: int = 160,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(widths, blocks, dim)
        self.head = Head(dim, n_labels)

    def embed(self, frames: Tensor) -> Tensor:
        """Frames (batch, n * 25, 64) in dB, from a segment's start → embeddings (batch, n * 5, dim)."""
        return self.encoder(frames, frames.new_zeros(len(frames), self.encoder.state_size))[0]
