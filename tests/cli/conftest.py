"""What several tests of the program hear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray


@pytest.fixture
def speech_wav(tmp_path: Path, demo: tuple[NDArray[np.int16], int]) -> Path:
    """Five seconds of the demo."""
    samples, rate_hz = demo
    path = tmp_path / "speech.wav"
    soundfile.write(path, samples[rate_hz : 6 * rate_hz], rate_hz)
    return path
