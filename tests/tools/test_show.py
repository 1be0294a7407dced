"""The picture of augmentations shows what it says."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch belongs to the [train] extra")
pytest.importorskip("pyroomacoustics", reason="rooms belong to the [train] extra")

from tools.show import steadiest


def test_the_noise_that_is_drawn_sounds_while_the_clip_does() -> None:
    rain = 0.1 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    bark = np.where(np.arange(48_000) < 32_000, 0, 5 * rain).astype(np.float32)
    assert steadiest([bark, rain, bark], 20_000) is rain
