"""A file of any kind that libsndfile reads gives its samples in blocks; what is wrong with one is said by name."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from realtime_ser.errors import SourceError
from realtime_ser.sources.file import FileSource

RATE_HZ = 16_000


def tone(seconds: float = 1.0, rate_hz: int = RATE_HZ, channels: int = 1) -> NDArray[np.float32]:
    """A different pitch in each channel, so that none can be taken for another."""
    at = np.arange(round(seconds * rate_hz))[:, None] / rate_hz
    return (0.5 * np.sin(2 * np.pi * 200 * (1 + np.arange(channels)) * at)).astype(np.float32)


def read(path: Path) -> tuple[FileSource, NDArray[np.float32]]:
    source = FileSource(path)
    blocks = list(source)
    return source, np.concatenate(blocks) if blocks else np.zeros((0, source.channels), np.float32)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """One second, 16-bit mono."""
    soundfile.write(tmp_path / "a.wav", tone(), RATE_HZ)
    return tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-24), ("FLOAT", 0), ("DOUBLE", 0)],
)
def test_every_width_gives_the_same_samples_to_its_own_step(tmp_path: Path, subtype: str, step: float) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE_HZ, subtype)
    source, samples = read(tmp_path / "a.wav")
    assert source.problem is None
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(), rtol=0, atol=step)


@pytest.mark.parametrize("channels", range(1, 9))
def test_every_channel_count_keeps_its_channels_apart(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.2, channels=channels), RATE_HZ, "FLOAT")
    source, samples = read(tmp_path / "a.wav")
    assert source.channels == channels
    np.testing.assert_array_equal(samples, tone(0.2, channels=channels))


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_rate_is_left_as_it_is(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.2, rate_hz), rate_hz, "FLOAT")
    source, samples = read(tmp_path / "a.wav")
    assert (source.rate_hz, source.duration_s) == (rate_hz, pytest.approx(0.2))
    np.testing.assert_array_equal(samples, tone(0.2, rate_hz))


@pytest.mark.parametrize(("name", "tolerance"), [("a.flac", 2**-15), ("a.aiff", 2**-15), ("a.ogg", 0.05)])
def test_other_containers_are_read_too(tmp_path: Path, name: str, tolerance: float) -> None:
    soundfile.write(tmp_path / name, tone(), RATE_HZ)
    source, samples = read(tmp_path / name)
    assert source.problem is None
    np.testing.assert_allclose(samples, tone(), rtol=0, atol=tolerance)


def test_blocks_are_small_whatever_the_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.25), RATE_HZ)
    assert [len(block) for block in FileSource(tmp_path / "a.wav", block_s=0.5)] == [8_000, 8_000, 4_000]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_wav_cut_off_in_its_data_gives_what_is_there_and_says_so(wav: Path, share: float) -> None:
    whole = wav.read_bytes()
    _, samples = read(wav)
    wav.write_bytes(whole[: round(len(whole) * share)])
    source, found = read(wav)
    assert source.problem is not None
    assert "cut off" in source.problem
    assert len(found) == (round(len(whole) * share) - 44) // 2
    np.testing.assert_array_equal(found, samples[: len(found)])


@pytest.mark.parametrize(("claimed", "whole"), [(2**31, None), (2**32 - 2, None), (3_000_000_000, 3_000_000_036)])
def test_a_header_that_promises_too_much_gives_what_is_there_and_says_so(
    wav: Path, claimed: int, whole: int | None
) -> None:
    _, samples = read(wav)
    content = bytearray(wav.read_bytes())
    if whole is not None:
        struct.pack_into("<I", content, 4, whole)
    struct.pack_into("<I", content, content.index(b"data") + 4, claimed)
    wav.write_bytes(content)
    source, found = read(wav)
    assert source.problem is not None
    assert "header lies" in source.problem
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("size", [2**32 - 1, 0x7FFFF024])  # ffmpeg's and sox's
def test_a_header_written_into_a_pipe_knows_no_length_and_is_no_lie(wav: Path, size: int) -> None:
    _, samples = read(wav)
    content = bytearray(wav.read_bytes())
    struct.pack_into("<I", content, 4, size)
    struct.pack_into("<I", content, content.index(b"data") + 4, min(size, 2**32 - 1))
    wav.write_bytes(content)
    source, found = read(wav)
    assert source.problem is None
    np.testing.assert_array_equal(found, samples)


def test_a_header_of_a_recorder_that_died_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(5), RATE_HZ, "PCM_16")
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"data") + 4, 0)
    path.write_bytes(content)
    with pytest.raises(SourceError, match="says that it is empty"):
        FileSource(path)


def test_mp3_is_decoded_without_complaint(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 10 * RATE_HZ)
    soundfile.write(path, noise, RATE_HZ)
    script = f"from realtime_ser.sources.file import FileSource; print(sum(map(len, FileSource({str(path)!r}))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) == len(soundfile.read(path)[0])


def test_a_damaged_flac_gives_what_was_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, 4 * RATE_HZ)
    soundfile.write(path, noise, RATE_HZ)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    source, found = read(path)
    assert source.problem is not None
    assert 0 < len(found) < len(noise)
    np.testing.assert_allclose(found[:RATE_HZ, 0], noise[:RATE_HZ], rtol=0, atol=2**-15)


def test_no_samples_are_no_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE_HZ)
    source, found = read(tmp_path / "a.wav")
    assert (source.problem, len(found)) == (None, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"a shopping list\n" * 100, "cannot be read as audio"),
        (b"RIFF\x24\x00\x00\x00WAVE", "cannot be read as audio"),
        (b"\x00" * 5_000, "cannot be read as audio"),
    ],
)
def test_what_is_no_audio_is_refused_in_one_line_that_names_it(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=reason) as raised:
        FileSource(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder"):
        FileSource(tmp_path)


def test_a_name_in_any_script_is_read(tmp_path: Path, wav: Path) -> None:
    path = wav.rename(tmp_path / "sprache ü 音声.wav")
    assert len(read(path)[1]) == RATE_HZ


@pytest.mark.parametrize("rate_hz", [1, 3_999, 768_001, 2_000_000_000])
def test_a_rate_that_no_audio_has_is_refused_before_a_block_of_it_is_read(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE_HZ)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate_hz)
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"rate of {rate_hz} Hz"):
        FileSource(path)
