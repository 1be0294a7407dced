"""What a pooled head takes of a window: statistics, from which the level drops out; and how it joins its networks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

torch = pytest.importorskip("torch", reason="PyTorch belongs to the [train] extra")

from tools.network import Head  # noqa: E402
from tools.pooled import PARTS, Networks, PooledHead, beside, network, of_embeddings, of_frames  # noqa: E402


@pytest.fixture
def frames() -> torch.Tensor:
    """A second and a half of frames in dB, two clips."""
    return torch.from_numpy(np.random.default_rng(0).normal(-40, 12, (2, 96, 64)).astype(np.float32))


def statistics(frames: torch.Tensor) -> torch.Tensor:
    return of_frames(*beside(frames).split(PARTS, dim=2))


def test_statistics_are_those_of_numpy(frames: torch.Tensor) -> None:
    x = frames[0].numpy().astype(float)
    loudness = 10 ** (0.03 * x.mean(axis=1, keepdims=True))
    loudness /= loudness.sum()
    x = np.clip((x - 10 * np.log10((10 ** (x / 10)).mean()) + 15) / 12, -4, 4)
    cepstra = scipy.fft.dct(x, axis=1, norm="ortho")[:, :24]
    cepstra[:, 0] *= np.sqrt(2)
    expected = [x.mean(axis=0), (loudness * x).sum(axis=0)]
    for values, weights in ((cepstra, loudness[:, 0]), (cepstra[2:] - cepstra[:-2], loudness[1:-1, 0])):
        covariance = np.cov(values.T, aweights=weights, ddof=0)
        deviation = np.sqrt(covariance.diagonal() + 1e-3)
        correlation = covariance / np.outer(deviation, deviation)
        expected += [deviation, correlation[:12, :12][np.triu_indices(12, 1)]]
    np.testing.assert_allclose(statistics(frames)[0].numpy(), np.concatenate(expected), atol=1e-4)
    y = frames[1].numpy()
    np.testing.assert_allclose(of_embeddings(frames)[1].numpy(), [*y.mean(axis=0), *y.std(axis=0)], atol=1e-3)


def test_how_loud_it_is_changes_nothing(frames: torch.Tensor) -> None:
    torch.testing.assert_close(statistics(frames + 17), statistics(frames), atol=1e-4, rtol=0)


@torch.no_grad()
def test_networks_joined_say_what_they_said_apart(frames: torch.Tensor) -> None:
    given = statistics(frames)
    n = given.shape[1]
    recorded, degraded = ([network(n, 5, 3).eval() for _ in range(2)] for _ in range(2))
    gate = network(n, 4, 3).eval()
    centre, spread = given.mean(dim=0), torch.full((n,), 2.0)
    standard = (given - centre) / spread
    kinds = [sum(net(standard) for net in nets) / len(nets) for nets in (recorded, degraded, [gate])]
    on_frames = Networks(centre, spread, recorded, degraded, [gate])
    torch.testing.assert_close(on_frames(given), tuple(kinds))

    own, embeddings = Head(8, 3).eval(), torch.randn(2, 24, 8)
    on_embeddings = Networks(torch.zeros(16), torch.ones(16), [network(16, 6, 3).eval()])
    head = PooledHead(own, on_embeddings, on_frames, 8, (0.25, 0.75), 0.5)
    harmed, home, away = torch.softmax(kinds[2], dim=1).split(1, dim=1)
    share = 0.25 * (harmed + home) + 0.75 * away
    expected = share * ((1 - harmed) * kinds[0] + harmed * kinds[1])
    expected += (1 - share) * (own(embeddings) + on_embeddings(of_embeddings(embeddings))[0]) / 2
    expected[:, 0] -= 0.5
    torch.testing.assert_close(head(torch.cat((embeddings, beside(frames)), dim=2)), expected)
