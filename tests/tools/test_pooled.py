"""What a pooled head takes of a window: plain statistics, from which the level drops out."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch belongs to the [train] extra")

from tools.pooled import PooledHead, of_embeddings, of_frames  # noqa: E402


@pytest.fixture
def frames() -> torch.Tensor:
    """A second and a half of frames in dB, two clips."""
    return torch.from_numpy(np.random.default_rng(0).normal(-40, 12, (2, 96, 64)).astype(np.float32))


def test_statistics_are_those_of_numpy(frames: torch.Tensor) -> None:
    x = frames[0].numpy().astype(float)
    loudness = 10 ** (0.03 * x.mean(axis=1, keepdims=True))
    loudness /= loudness.sum()
    x = np.clip((x - 10 * np.log10((10 ** (x / 10)).mean()) + 15) / 12, -4, 4)
    loud = (loudness * x).sum(axis=0)
    expected = [x.mean(axis=0), loud, x.std(axis=0), np.sqrt((loudness * (x - loud) ** 2).sum(axis=0))]
    expected.append(np.diff(x, axis=0).std(axis=0))
    np.testing.assert_allclose(of_frames(frames)[0].numpy(), np.concatenate(expected), atol=1e-4)
    y = frames[1].numpy()
    np.testing.assert_allclose(of_embeddings(frames)[1].numpy(), [*y.mean(axis=0), *y.std(axis=0)], atol=1e-3)


def test_how_loud_it_is_changes_nothing(frames: torch.Tensor) -> None:
    torch.testing.assert_close(of_frames(frames + 17), of_frames(frames), atol=1e-4, rtol=0)


@torch.no_grad()
def test_each_branch_has_its_share(frames: torch.Tensor) -> None:
    head = PooledHead(8, 3, [6, 5], 2, 0.25).eval()
    embeddings = torch.cat((torch.randn(2, 24, 8), frames.reshape(2, 24, 256)), dim=2)
    heard, seen = head.statistics(embeddings)
    torch.testing.assert_close(head(embeddings), 0.75 * head.of_embeddings(heard) + 0.25 * head.of_frames(seen))
