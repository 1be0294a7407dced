"""A sound server, and speech to play into its microphone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.live.server import Server

Demo = tuple[NDArray[np.int16], int]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Server]:
    """The server, started."""
    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(running: Server) -> dict[str, str]:
    """The environment that leads to a running server."""
    return running.environment


@pytest.fixture
def speech(tmp_path: Path, demo: Demo) -> Path:
    """Three utterances of the demo, after enough of its background for the gate to know it from digital silence."""
    samples, rate_hz = demo
    path = tmp_path / "speech.wav"
    background = np.tile(samples[:rate_hz], 6)
    soundfile.write(path, np.concatenate((background, samples[rate_hz : 14 * rate_hz])), rate_hz)
    return path
