"""The audio comes back from the FLAC, in time with the timeline, even if the program is killed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from realtime_ser.errors import SinkError
from realtime_ser.sinks.recording import FlacRecording, Recorded
from realtime_ser.sources.file import FileSource

TONE = (0.5 * np.sin(np.arange(8_000) / 5)).astype(np.float32)[:, None]


def test_samples_and_losses_are_as_long_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "r.flac"
    recording = FlacRecording(path, 8_000, 1, overwrite=False)
    recording.write(Recorded(8_000, TONE))
    # The device was away, and came back at another rate.
    recording.write(Recorded(16_000, np.repeat(TONE, 2, axis=0), lost_s=100))
    recording.close()
    samples, rate_hz = soundfile.read(path)
    assert rate_hz == 8_000
    assert len(samples) == pytest.approx(102 * 8_000, abs=1_000)
    np.testing.assert_allclose(samples[:8_000], TONE[:, 0], atol=1e-4)
    assert not samples[8_000 : 101 * 8_000].any()
    assert samples[101 * 8_000 :].std() == pytest.approx(TONE.std(), rel=0.1)


def test_a_killed_recording_can_be_heard(tmp_path: Path) -> None:
    path = tmp_path / "r.flac"
    child = os.fork()
    if not child:
        recording = FlacRecording(path, 8_000, 1, overwrite=False)
        for _ in range(20):
            recording.write(Recorded(8_000, TONE))
        os._exit(1)
    os.waitpid(child, 0)
    heard = np.concatenate(list(FileSource(path)))
    assert len(heard) > 19 * 8_000


def test_what_exists_is_kept_and_a_full_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.flac"
    path.write_bytes(b"mine")
    with pytest.raises(SinkError, match="exists already"):
        FlacRecording(path, 8_000, 1, overwrite=False)
    assert path.read_bytes() == b"mine"
    with pytest.raises(SinkError, match="cannot be recorded to"):
        FlacRecording(tmp_path / "none" / "r.flac", 8_000, 1, overwrite=False)
    with pytest.raises(SinkError, match="/dev/full"):
        record_noise(Path("/dev/full"))


def record_noise(path: Path) -> None:
    recording = FlacRecording(path, 8_000, 1, overwrite=True)
    for _ in range(50):
        recording.write(Recorded(8_000, np.random.default_rng(0).uniform(-1, 1, (8_000, 1)).astype(np.float32)))
