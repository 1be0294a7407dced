"""Raw PCM arrives as it was sent, however the pipe cuts it."""

from __future__ import annotations

import io
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_ser.errors import SourceError
from realtime_ser.sources import Lost
from realtime_ser.sources.pipe import PipeSource


class Cut(io.RawIOBase):
    """Gives its content in pieces of these sizes."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self._content, self._sizes = content, sizes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        n = min(len(buffer), self._sizes.pop(0) if self._sizes else len(self._content), len(self._content))
        buffer[:n], self._content = self._content[:n], self._content[n:]
        return n


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(1, 9), max_size=60), st.integers(1, 3))
def test_the_cuts_of_the_pipe_change_nothing(content: bytes, sizes: list[int], channels: int) -> None:
    source = PipeSource(io.BufferedReader(Cut(content, sizes)), 16_000, channels)
    blocks = list(source)
    whole = len(content) // (2 * channels) * channels
    sent = np.frombuffer(content, "<i2", whole).reshape(-1, channels)
    assert all(b.dtype == np.float32 and b.shape[1] == channels for b in blocks)
    heard = np.concatenate(blocks) if blocks else np.zeros((0, channels))
    np.testing.assert_array_equal(heard * 32768, sent)
    left = len(content) - 2 * whole
    assert source.problem == (f"ended within a sample: {left} bytes left over" if left else None)


def test_a_block_comes_as_soon_as_it_arrives() -> None:
    reader, writer = os.pipe()
    watchdog = threading.Timer(5, os.close, (writer,))  # a source that waits for more would wait for ever
    watchdog.start()
    with os.fdopen(reader, "rb") as stream:
        os.write(writer, np.array([16384, -32768], "<i2").tobytes())
        blocks = iter(PipeSource(stream, 16_000))
        block = next(blocks)
        assert watchdog.is_alive()
        watchdog.cancel()
        os.close(writer)
        assert not isinstance(block, Lost)
        assert block.tolist() == [[0.5], [-1.0]]
        assert next(blocks, None) is None


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_a_pipe_that_another_program_made_non_blocking_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    sent = np.arange(-3000, 3000, dtype="<i2")

    def send() -> None:
        for part in np.split(sent, 3):
            time.sleep(0.1)
            os.write(writer, part.tobytes())
        time.sleep(0.1)
        os.close(writer)

    thread = threading.Thread(target=send)
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        source = PipeSource(stream, 16_000)
        heard = np.concatenate(list(source))
    thread.join()
    np.testing.assert_array_equal(heard[:, 0] * 32768, sent)
    assert source.problem is None


def test_a_pipe_without_audio_is_told() -> None:
    source = PipeSource(io.BufferedReader(io.BytesIO()), 16_000)  # type: ignore[arg-type]
    assert list(source) == []
    assert source.problem == "no audio arrived on stdin"


@pytest.mark.parametrize("rate_hz", [0, -1, 5, 10_000_000])
def test_a_rate_that_no_audio_has_is_refused(rate_hz: int) -> None:
    with pytest.raises(SourceError, match="--rate"):
        PipeSource(io.BufferedReader(io.BytesIO()), rate_hz)  # type: ignore[arg-type]
