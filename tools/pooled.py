"""What a finished model gets beside its head: small networks on statistics of a window, of its embeddings and frames.

An encoder hears fine patterns, which it learned from few corpora; plain statistics of the spectrum say less, but of
strangers the same as of those that they learned from (docs/model.md). Both together say more than either, and which to
believe more depends on the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from realtime_ser.stages.features import POWER_FLOOR
from tools.network import FRAMES_PER_EMBEDDING, LIMIT, LOUDNESS_EXPONENT, N_MELS, SCALE_DB, Head

PARTS = (FRAMES_PER_EMBEDDING * N_MELS, FRAMES_PER_EMBEDDING, FRAMES_PER_EMBEDDING)
"""How many values of each kind lie behind an embedding (`beside`)."""
BESIDE = sum(PARTS)
NEPER_PER_DB = math.log(10) / 10
"""Of power; onnxruntime's powers take ten times as long as its exponentials."""
CEPSTRA = 24
COSINES = torch.cos(torch.pi / N_MELS * torch.outer(torch.arange(N_MELS) + 0.5, torch.arange(CEPSTRA)))
COSINES *= math.sqrt(2 / N_MELS)
"""Bands → cepstral coefficients (DCT-II)."""
ROWS, COLUMNS = torch.triu_indices(12, 12, 1)
"""Of each two of the first 12 coefficients the correlation is heard."""
MEAN_UNDER_POWER_DB = 15.0
"""About so far speech's mean in dB lies under its mean power's, so that what is normalised lies about zero."""


def beside(frames: Tensor) -> Tensor:
    """Frames (batch, 4 n, 64) in dB → (batch, n, 264): four frames in units of 12 dB, their loudness and mean power.

    What each frame gives by itself is computed once, however many windows hold it.
    """
    loudness = (frames.mean(dim=2) * (LOUDNESS_EXPONENT * NEPER_PER_DB)).exp()
    power = (frames * NEPER_PER_DB).exp().mean(dim=2)
    batch, n = frames.shape[0], frames.shape[1] // FRAMES_PER_EMBEDDING
    return torch.cat([each.reshape(batch, n, -1) for each in (frames / SCALE_DB, loudness, power)], dim=2)


# Sums over time are products of matrices: onnxruntime adds each window's numbers in one order, alone or in a batch.


def of_embeddings(embeddings: Tensor) -> Tensor:
    """Means and deviations over (batch, n, dim): (batch, 2 dim)."""
    ones = torch.ones_like(embeddings[:, None, :, 0])
    weights = ones / ones.sum(dim=2, keepdim=True)
    mean = weights @ embeddings
    variance = weights @ (embeddings - mean).square()
    return torch.cat((mean, (variance.clamp_min(0) + 1e-5).sqrt()), dim=2).flatten(1)


def _variation(coefficients: Tensor, weights: Tensor) -> Tensor:
    """(batch, n, 24), weights (batch, 1, n) that add up to one → (batch, 90).

    The deviations, and of each two of the first 12 the correlation.
    """
    mean = weights @ coefficients
    centred = coefficients - mean
    covariance = (centred.transpose(1, 2) @ (centred * weights.transpose(1, 2))).flatten(1)
    variance = covariance[:, :: CEPSTRA + 1]
    deviation = (variance.clamp_min(0) + 1e-3).sqrt()
    correlation = covariance[:, ROWS * CEPSTRA + COLUMNS] / (deviation[:, ROWS] * deviation[:, COLUMNS])
    return torch.cat((deviation, correlation), dim=1)


def of_frames(frames: Tensor, loudness: Tensor, power: Tensor) -> Tensor:
    """Of a window of `beside`, (batch, n, 256), (batch, n, 4) twice → (batch, 308), in units of 12 dB.

    In this order: the mean of each band; the mean weighed by loudness; how the cepstral coefficients vary, and how
    their steps over two frames do, both weighed by loudness (`_variation`).

    The level drops out: from all is taken that of the window's mean power, which bands that a line or a microphone does
    not carry leave as it is.
    """
    frames = frames.reshape(frames.shape[0], -1, N_MELS)
    loudness, power = (each.reshape(frames.shape[0], 1, -1) for each in (loudness, power))
    ones = torch.ones_like(power)
    count = ones.sum(dim=2, keepdim=True)
    # One for each band, for onnxruntime's logarithm of a few numbers is not quite that of many.
    mean_power = (power @ ones.transpose(1, 2) / count).expand(-1, -1, N_MELS)
    level_db = torch.log(mean_power.clamp_min(POWER_FLOOR)) / NEPER_PER_DB - MEAN_UNDER_POWER_DB
    x = (frames - level_db / SCALE_DB).clamp(-LIMIT, LIMIT)
    by_loudness = loudness / (loudness @ ones.transpose(1, 2))
    means = torch.cat((ones / count, by_loudness), dim=1) @ x
    cepstra = x @ COSINES
    steps = cepstra[:, 2:] - cepstra[:, :-2]
    inner, inner_ones = loudness[:, :, 1:-1], ones[:, :, 1:-1]
    by_inner = inner / (inner @ inner_ones.transpose(1, 2))
    return torch.cat((means.flatten(1), _variation(cepstra, by_loudness), _variation(steps, by_inner)), dim=1)


def network(n_inputs: int, width: int, n_outputs: int) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(
        nn.Dropout(0.3), nn.Linear(n_inputs, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, n_outputs)
    )


class Networks(nn.Module):
    """Several networks of some kinds that hear the same, as one; what those of a kind say is averaged.

    Statistics (batch, inputs), which it standardises → for each kind (batch, outputs).
    """

    def __init__(self, centre: Tensor, spread: Tensor, *kinds: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        self.sizes = [nets[0][4].out_features for nets in kinds]
        networks = [net for nets in kinds for net in nets]
        weights = [torch.cat([net[4].weight for net in nets], dim=1) / len(nets) for nets in kinds]
        self.hidden = nn.Linear(len(centre), sum(net[1].out_features for net in networks))
        self.say = nn.Linear(self.hidden.out_features, sum(self.sizes))
        with torch.no_grad():
            self.hidden.weight.copy_(torch.cat([net[1].weight for net in networks]))
            self.hidden.bias.copy_(torch.cat([net[1].bias for net in networks]))
            self.say.weight.copy_(torch.block_diag(*weights))
            self.say.bias.copy_(torch.cat([torch.stack([net[4].bias for net in nets]).mean(dim=0) for nets in kinds]))

    def forward(self, statistics: Tensor) -> tuple[Tensor, ...]:
        hidden = torch.relu(self.hidden((statistics - self.centre) / self.spread))
        return self.say(hidden).split(self.sizes, dim=1)


class PooledHead(nn.Module):
    """Embeddings of a window with `beside` behind them, (batch, n, dim + 264) → logits (batch, labels).

    The mean of what the model's own head and networks on its embeddings say, and for a share networks on the frames.
    Of those some learned from recordings as they were: they know strangers best and are lost behind a telephone. Others
    learned from degraded ones too. A last kind tells degraded windows, those that sound as the encoder's first corpus
    does, `shares[0]` for the frames, and all others, `shares[1]`. Strangers are called neutral too often: from the
    logit of neutral, the first label, is taken `neutral_off`.
    """

    def __init__(
        self, own: Head, embeddings: Networks, frames: Networks, dim: int, shares: Sequence[float], neutral_off: float
    ) -> None:
        super().__init__()
        self.own, self.embeddings, self.frames, self.dim = own, embeddings, frames, dim
        self.least, self.more = shares[0], shares[1] - shares[0]
        offset = torch.zeros(frames.sizes[0])
        offset[0] = neutral_off
        self.register_buffer("offset", offset)

    def forward(self, embeddings: Tensor) -> Tensor:
        heard, *behind = embeddings.split((self.dim, *PARTS), dim=2)
        (again,) = self.embeddings(of_embeddings(heard))
        recorded, degraded, where = self.frames(of_frames(*behind))
        harmed, _, away = torch.softmax(where, dim=1).split(1, dim=1)
        said = self.own(heard).lerp(again, 0.5)
        plain = recorded + harmed * (degraded - recorded)
        return said + (self.least + self.more * away) * (plain - said) - self.offset
