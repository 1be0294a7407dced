"""What a finished model gets beside its head: small networks on statistics of a window, of its embeddings and frames.

An encoder hears fine patterns, which it learned from few corpora; plain statistics of the spectrum say less, but of
strangers the same as of those that they learned from (docs/model.md). The mean of both says more than either.
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


def _deviations(variances: Tensor) -> Tensor:
    return (variances.clamp_min(0) + 1e-5).sqrt()


# Sums over time are products of matrices: onnxruntime adds each window's numbers in one order, alone or in a batch.


def of_embeddings(embeddings: Tensor) -> Tensor:
    """Means and deviations over (batch, n, dim): (batch, 2 dim)."""
    ones = torch.ones_like(embeddings[:, None, :, 0])
    weights = ones / ones.sum(dim=2, keepdim=True)
    mean = weights @ embeddings
    variance = weights @ (embeddings - mean).square()
    return torch.cat((mean, _deviations(variance)), dim=2).flatten(1)


def of_frames(frames: Tensor, loudness: Tensor, power: Tensor) -> Tensor:
    """Of each band over a window of `beside`, (batch, n, 256), (batch, n, 4) twice → (batch, 320), in units of 12 dB.

    In this order: mean; mean weighed by loudness; deviation; that weighed by loudness; deviation of the frames' steps.

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
    weights = torch.cat((ones / count, loudness / (loudness @ ones.transpose(1, 2))), dim=1)
    means = weights @ x
    variances = weights @ (x * x) - means * means
    steps = x[:, 1:] - x[:, :-1]
    step = (x[:, -1:] - x[:, :1]) / (count - 1)
    step_variance = ones[:, :, 1:] @ (steps * steps) / (count - 1) - step * step
    return torch.cat((means, _deviations(torch.cat((variances, step_variance), dim=1))), dim=1).flatten(1)


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

    The mean of what the model's own head and networks on its embeddings say, and for a `share` networks on the frames.
    Of those some learned from recordings as they were: they know strangers best and are lost behind a telephone. Others
    learned from degraded ones too. They count by how much a third kind finds the window to be as it was recorded.
    """

    def __init__(self, own: Head, embeddings: Networks, frames: Networks, dim: int, share: float) -> None:
        super().__init__()
        self.own, self.embeddings, self.frames, self.dim, self.share = own, embeddings, frames, dim, share

    def forward(self, embeddings: Tensor) -> Tensor:
        heard, *behind = embeddings.split((self.dim, *PARTS), dim=2)
        (again,) = self.embeddings(of_embeddings(heard))
        recorded, degraded, as_recorded = self.frames(of_frames(*behind))
        # A sigmoid, as a softmax: onnxruntime's sigmoid of a few numbers is not quite that of many.
        shares = torch.softmax(torch.cat((as_recorded, torch.zeros_like(as_recorded)), dim=1), dim=1)
        plain = shares[:, :1] * recorded + shares[:, 1:] * degraded
        return self.own(heard).lerp(again, 0.5).lerp(plain, self.share)
