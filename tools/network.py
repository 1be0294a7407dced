"""The network: a causal residual CNN that embeds speech as it arrives, and a pooling head.

Trained and streamed by the same code. Every convolution looks only back in time and takes what it needs of the past
as a cache, so a clip in one piece and a clip in chunks of 250 ms give the same embeddings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomllib
import torch
from torch import Tensor, nn
from torch.nn import functional

N_MELS = 64
CHUNK_FRAMES = 16
"""Frames of 15.6 ms in 0.25 s, the finest hop."""
FIRST_CHUNKS = 4
"""An utterance is embedded once 1 s of it is there: that much tells its level and its microphone's colour."""
CALL_CHUNKS = 4
"""Any call takes up to so many."""
FRAMES_PER_EMBEDDING = 4
LOUDNESS_EXPONENT = 0.3
"""Loudness grows with this power of intensity (Stevens, 1957): what weighs a frame in the running mean."""
FORGET = 0.97
"""Of the running mean, per chunk: a time constant of 8.2 s."""
SCALE_DB = 12.0
LIMIT = 4.0
"""Normalised frames are in units of 12 dB, at most ±4."""


class RunningMean(nn.Module):
    """Two views of the frames, normalised by their loudness-weighted mean so far.

    The first has each band's mean subtracted: level and a microphone's colour drop out. The second only the mean over
    all bands: level drops out, the voice's own colour stays. A gain cancels exactly. The chunks of an utterance's first
    call are normalised by a mean that holds them all, the look-ahead of the encoder; every later chunk by one that
    holds all up to its own end, however many come in one call.
    """

    state_size = N_MELS + 1

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`frames` (batch, 16 n, 64) in dB with n up to 4, `state` (batch, 65); gives (batch, 2, 16 n, 64), the next.

        Every sum is a product of matrices or term by term: onnxruntime adds each stream's numbers in the same order,
        alone or in a batch, chunk by chunk or several at once.
        """
        weight = torch.pow(10.0, frames.mean(dim=2, keepdim=True) * (LOUDNESS_EXPONENT / 10))
        weighted = torch.cat((frames, torch.ones_like(weight)), dim=2)
        chunks = weighted.reshape(-1, frames.shape[1] // CHUNK_FRAMES, CHUNK_FRAMES, N_MELS + 1)
        sums = (weight.reshape(-1, chunks.shape[1], 1, CHUNK_FRAMES) @ chunks)[:, :, 0]
        nothing = torch.zeros_like(sums[:, :1])
        each = torch.cat((sums, *[nothing] * (CALL_CHUNKS - 1)), dim=1)[:, :CALL_CHUNKS].unbind(dim=1)
        so_far = [FORGET * state + each[0]]
        for chunk in each[1:]:
            so_far.append(FORGET * so_far[-1] + chunk)
        first_call = state[:, None, N_MELS:] == 0
        states = torch.where(first_call, sum(each)[:, None], torch.stack(so_far, dim=1)[:, : sums.shape[1]])
        mean = (states[:, :, :N_MELS] / states[:, :, N_MELS:])[:, :, None]
        chunks = chunks[:, :, :, :N_MELS]
        views = torch.stack((chunks - mean, chunks - mean.mean(dim=3, keepdim=True)), dim=1).flatten(2, 3)
        return (views / SCALE_DB).clamp(-LIMIT, LIMIT), states[:, -1]


class CausalConv(nn.Module):
    """Conv2d over (time, mel) that never looks ahead, batch norm behind it; its past comes and goes as a cache."""

    def __init__(self, c_in: int, c_out: int, time: int, mel: int, stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.shape, self.stride = (c_out, c_in, time, mel), stride
        # A matrix, for Muon orthogonalises matrices.
        self.weight = nn.Parameter(torch.empty(c_out, c_in * time * mel))
        nn.init.kaiming_normal_(self.weight)
        self.norm = nn.BatchNorm2d(c_out)
        self.past = time - stride[0]

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        past = functional.pad(x, (0, 0, self.past, 0)) if cache is None else torch.cat((cache, x), dim=2)
        weight = self.weight.view(self.shape)
        y = functional.conv2d(past, weight, None, self.stride, padding=(0, self.shape[3] // 2))
        return self.norm(y), past[:, :, -self.past :]


class Encoder(nn.Module):
    """Log-mel frames in dB → embeddings, 16 a second.

    `forward(frames, state)`: frames (batch, 4 n, 64); state (batch, state_size), zeros at an utterance's start.
    Returns embeddings (batch, n, dim) and the state for the next call. The first call holds 1 s (an utterance
    shorter than that: all of it), every later one 0.25 to 1 s; that is what training sees too (`embed`).
    """

    def __init__(self, widths: tuple[int, int, int, int], blocks: tuple[int, int, int, int], dim: int) -> None:
        super().__init__()
        self.mean = RunningMean()
        shapes = [(2, widths[0], 3, 5, (1, 2))]
        roles = ["plain"]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if stage:
                # Twice in two of the three: 16 embeddings a second.
                stride = (1, 2) if stage == 3 else (2, 2)
                shapes.append((widths[stage - 1], width, 2 + stride[0] if stride[0] == 2 else 3, 3, stride))
                roles.append("plain")
            shapes += [(width, width, 3, 3, (1, 1))] * (2 * count)
            roles += ["open", "close"] * count
        self.layers = nn.ModuleList(CausalConv(*shape) for shape in shapes)
        self.roles = roles
        for layer, role in zip(self.layers, roles, strict=True):
            if role == "close":
                nn.init.zeros_(layer.norm.weight)  # a block begins as the identity (He et al., 2018)
        bands = N_MELS
        self.cache_shapes = []
        for layer, (c_in, _, _, _, stride) in zip(self.layers, shapes, strict=True):
            self.cache_shapes.append((c_in, layer.past, bands))
            bands //= stride[1]
        self.project = nn.Linear(widths[-1] * bands, dim)
        self.dim = dim
        self.cache_size = sum(c * t * f for c, t, f in self.cache_shapes)
        self.state_size = RunningMean.state_size + self.cache_size

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        mean_state, flat = state.split((RunningMean.state_size, self.cache_size), dim=1)
        views, mean_state = self.mean(frames, mean_state)
        embeddings, flat = self.stream(views, flat)
        return embeddings, torch.cat((mean_state, flat), dim=1)

    def stream(self, views: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised frames (batch, 2, 4 n, 64) and all caches (batch, cache_size) → embeddings, the next caches."""
        caches = flat.split([c * t * f for c, t, f in self.cache_shapes], dim=1)
        shaped = [cache.reshape(-1, *shape) for cache, shape in zip(caches, self.cache_shapes, strict=True)]
        embeddings, after = self.convolve(views, shaped)
        return embeddings, torch.cat([cache.flatten(1) for cache in after], dim=1)

    def convolve(self, x: Tensor, caches: list[Tensor] | list[None]) -> tuple[Tensor, list[Tensor]]:
        """Normalised frames (batch, 2, 4 n, 64) → embeddings and the caches behind them."""
        after = []
        skip = x
        for layer, role, cache in zip(self.layers, self.roles, caches, strict=True):
            if role == "open":
                skip = x
            x, cache = layer(x, cache)
            x = functional.relu(x + skip if role == "close" else x)
            after.append(cache)
        return self.project(x.permute(0, 2, 1, 3).flatten(2)), after

    def embed(self, frames: Tensor) -> Tensor:
        """Whole utterances (batch, n * 16, 64), as the stream would: (batch, n * 4, dim)."""
        state = frames.new_zeros(len(frames), RunningMean.state_size)
        views = []
        first = FIRST_CHUNKS * CHUNK_FRAMES
        for block in (frames[:, :first], *frames[:, first:].split(CALL_CHUNKS * CHUNK_FRAMES, dim=1)):
            if block.shape[1]:
                view, state = self.mean(block, state)
                views.append(view)
        x = torch.cat(views, dim=2).contiguous(memory_format=torch.channels_last)
        return self.convolve(x, [None] * len(self.layers))[0]


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
        sum_of = torch.ones_like(embeddings[:, None, :, 0])
        mean = sum_of @ (weight * embeddings)
        variance = sum_of @ (weight * (embeddings - mean).square())
        pooled = torch.cat((mean, (variance + 1e-5).sqrt()), dim=2)[:, 0]
        return self.classify(self.dropout(self.norm(pooled)))


class SpeechEmotionNet(nn.Module):
    """Encoder and head, as trained."""

    def __init__(
        self,
        n_labels: int,
        widths: tuple[int, int, int, int] = (24, 48, 80, 96),
        blocks: tuple[int, int, int, int] = (1, 1, 2, 2),
        dim: int = 160,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(widths, blocks, dim)
        self.head = Head(dim, n_labels)
        self.n_labels = n_labels

    def embed(self, frames: Tensor) -> Tensor:
        """Frames (batch, n * 16, 64) in dB, from an utterance's start → embeddings (batch, n * 4, dim)."""
        return self.encoder.embed(frames)


class Encoders(nn.Module):
    """Encoders side by side, behind one running mean: an `Encoder` with their states and embeddings joined."""

    def __init__(self, encoders: list[Encoder]) -> None:
        super().__init__()
        self.mean = RunningMean()
        self.encoders = nn.ModuleList(encoders)
        self.dims = [e.dim for e in encoders]
        self.sizes = [RunningMean.state_size, *(e.cache_size for e in encoders)]
        self.dim, self.state_size = sum(self.dims), sum(self.sizes)

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        mean_state, *flats = state.split(self.sizes, dim=1)
        views, mean_state = self.mean(frames, mean_state)
        embeddings, after = zip(*map(Encoder.stream, self.encoders, [views] * len(flats), flats), strict=True)
        return torch.cat(embeddings, dim=2), torch.cat((mean_state, *after), dim=1)


class Heads(nn.Module):
    """The mean logits of heads that have each its part of the embeddings."""

    def __init__(self, heads: list[Head], dims: list[int]) -> None:
        super().__init__()
        self.heads, self.dims = nn.ModuleList(heads), dims

    def forward(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        parts = embeddings.split(self.dims, dim=2)
        return torch.stack([head(part, mask) for head, part in zip(self.heads, parts, strict=True)]).mean(dim=0)


class Ensemble(nn.Module):
    """Networks of the same labels as one (Hansen and Salamon, 1990); used like a trained `SpeechEmotionNet`."""

    def __init__(self, nets: list[SpeechEmotionNet]) -> None:
        super().__init__()
        self.encoder = Encoders([net.encoder for net in nets])
        self.head = Heads([net.head for net in nets], self.encoder.dims)
        self.n_labels = nets[0].n_labels

    def embed(self, frames: Tensor) -> Tensor:
        """As `SpeechEmotionNet.embed`."""
        return torch.cat([encoder.embed(frames) for encoder in self.encoder.encoders], dim=2)


def load_network(run: Path) -> tuple[SpeechEmotionNet, dict[str, Any]]:
    """The averaged weights of a run and its config."""
    settings = tomllib.loads((run / "config.toml").read_text())
    net = SpeechEmotionNet(len(settings["labels"]), **settings["network"])
    net.load_state_dict(torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["average"])
    return net.eval(), settings
