"""A head of small networks on statistics of a window: of an encoder's embeddings, and of the frames beside them.

The encoder hears fine patterns, which it learned from one large corpus; plain statistics of the spectrum say less, but
of strangers the same as of those that they learned from (docs/model.md). The mean of both says more than either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tools.network import FRAMES_PER_EMBEDDING, LIMIT, LOUDNESS_EXPONENT, N_MELS, SCALE_DB

BESIDE = FRAMES_PER_EMBEDDING * N_MELS
"""Values that lie behind each embedding: its own frames in dB."""
NEPER_PER_DB = math.log(10) / 10
"""Of power; onnxruntime's powers take ten times as long as its exponentials."""
STATISTICS = 5
"""Of each band."""
MEAN_UNDER_POWER_DB = 15.0
"""About so far speech's mean in dB lies under its mean power's, so that what is normalised lies about zero."""


def _mean(values: Tensor) -> Tensor:
    """Over (batch, n, …) along n, as a product: onnxruntime adds each window's numbers in one order, alone or not."""
    ones = torch.ones_like(values[:, None, :, 0])
    return (ones @ values)[:, 0] / ones.sum(dim=2)


def of_embeddings(embeddings: Tensor) -> Tensor:
    """Means and deviations over (batch, n, dim): (batch, 2 dim)."""
    mean = _mean(embeddings)
    return torch.cat((mean, (_mean((embeddings - mean[:, None]).square()) + 1e-5).sqrt()), dim=1)


def of_frames(frames: Tensor) -> Tensor:
    """Statistics of each band of frames (batch, n, 64) in dB, shape (batch, 320), in units of 12 dB.

    In this order: mean; mean weighed by loudness; deviation; that weighed by loudness; deviation of the frames' steps.

    The level drops out: from all is taken that of the window's mean power, which bands that a line or a microphone does
    not carry leave as it is.
    """
    loudness = (frames.mean(dim=2, keepdim=True) * (LOUDNESS_EXPONENT * NEPER_PER_DB)).exp()
    loudness = loudness / _mean(loudness)[:, None]
    level = 10 * torch.log10(_mean((frames * NEPER_PER_DB).exp()).mean(dim=1, keepdim=True)) - MEAN_UNDER_POWER_DB
    x = ((frames - level[:, None]) / SCALE_DB).clamp(-LIMIT, LIMIT)
    steps = x[:, 1:] - x[:, :-1]
    mean, loud, step = _mean(x), _mean(loudness * x), _mean(steps)
    variances = (
        _mean((x - mean[:, None]).square()),
        _mean(loudness * (x - loud[:, None]).square()),
        _mean((steps - step[:, None]).square()),
    )
    return torch.cat((mean, loud, *((variance + 1e-5).sqrt() for variance in variances)), dim=1)


class Branch(nn.Module):
    """Networks with one hidden layer that differ in their first weights, and the mean of their logits."""

    def __init__(self, n_inputs: int, width: int, n_labels: int, members: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_inputs))
        self.register_buffer("spread", torch.ones(n_inputs))
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(0.3), nn.Linear(n_inputs, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, n_labels)
            )
            for _ in range(members)
        )

    def forward(self, statistics: Tensor) -> Tensor:
        """(batch, n_inputs) → logits (batch, labels)."""
        standard = (statistics - self.centre) / self.spread
        return torch.stack([member(standard) for member in self.members]).mean(dim=0)


class PooledHead(nn.Module):
    """Embeddings of a window with their frames behind them, (batch, n, dim + 256) → logits (batch, labels)."""

    def __init__(self, dim: int, n_labels: int, widths: Sequence[int], members: int, share: float) -> None:
        super().__init__()
        self.dim, self.share = dim, share
        self.of_embeddings = Branch(2 * dim, widths[0], n_labels, members)
        self.of_frames = Branch(STATISTICS * N_MELS, widths[1], n_labels, members)

    def statistics(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """What the two branches take."""
        heard, beside = embeddings.split((self.dim, BESIDE), dim=2)
        return of_embeddings(heard), of_frames(beside.reshape(beside.shape[0], -1, N_MELS))

    def forward(self, embeddings: Tensor) -> Tensor:
        heard, seen = self.statistics(embeddings)
        return self.of_embeddings(heard).lerp(self.of_frames(seen), self.share)
