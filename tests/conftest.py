"""What several tests share: the bundled model, and speech to run through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.model import Model, load_model

# A busy machine is no failure: nothing here tests how long something takes.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
SPLITS = CORPORA.parent / "splits"


@pytest.fixture(scope="session")
def model() -> Model:
    """The default model as shipped."""
    return load_model()


@pytest.fixture(scope="session")
def demo() -> tuple[NDArray[np.int16], int]:
    """The bundled recording, int16 of shape (n,), and its rate."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="int16")
    return samples, rate_hz


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The speech corpora, where this machine has them."""
    if not CORPORA.is_dir():
        pytest.skip(f"no corpora at {CORPORA}: the shipped model's accuracy is not checked here")
    return CORPORA


@pytest.fixture(scope="session")
def splits(corpora: Path) -> Path:
    """The split files beside the corpora."""
    return SPLITS
