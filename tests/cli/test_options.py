"""Channels, profiles and noise suppression from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.cli.program import one_line, program, rows, timeless

Demo = tuple[NDArray[np.int16], int]


@pytest.fixture
def call_wav(tmp_path: Path, demo: Demo) -> Path:
    """One speaker on the left, silence on the right."""
    samples, rate_hz = demo
    speech = samples[27 * rate_hz : 32 * rate_hz]
    room = np.resize(samples[:rate_hz], len(speech))
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack((speech, room), axis=1), rate_hz)
    return path


def test_each_channel_has_its_rows_and_one_its_own(tmp_path: Path, call_wav: Path) -> None:
    each, left = tmp_path / "each.csv", tmp_path / "left.csv"
    done = program("replay", call_wav, "--speed", "max", "--channel", "each", "--csv", each)
    assert done.returncode == 0
    assert "channel 1: 5.0 s of audio" in done.stderr
    assert "channel 2: 5.0 s of audio, 0.0 s of speech: nobody speaks in it" in done.stderr
    assert {row["channel"] for row in rows(each) if row["state"] == "speech"} == {"1"}
    program("replay", call_wav, "--speed", "max", "--channel", "1", "--csv", left)
    assert timeless(left) == [row for row in timeless(each) if row["channel"] == "1"]


def test_analyze_pools_each_channel(tmp_path: Path, call_wav: Path) -> None:
    pooled = tmp_path / "pooled.csv"
    assert program("analyze", call_wav, "--rows", "file", "--channel", "each", "--csv", pooled).returncode == 0
    found = {row["channel"]: row["state"] for row in rows(pooled) if row["trigger"] == "file"}
    assert found["1"] in {"speech", "abstain"}
    assert found["2"] == "no_speech"


@pytest.mark.parametrize("channel", ["0", "3", "left", "-1", "²"])
def test_a_channel_that_is_not_there_is_wrong_usage(call_wav: Path, channel: str) -> None:
    one_line(program("replay", call_wav, "--speed", "max", f"--channel={channel}"), 2, "--channel", "from 1 to 2")


def test_each_of_one_channel_is_wrong_usage(tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    soundfile.write(tmp_path / "mono.wav", samples[:rate_hz], rate_hz)
    one_line(program("replay", tmp_path / "mono.wav", "--channel", "each"), 2, "there is one channel")


def test_calibrate_stores_a_profile_that_replay_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Demo
) -> None:
    for variable in ("XDG_CONFIG_HOME", "HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setitem(os.environ, variable, str(tmp_path))
    samples, rate_hz = demo
    voice = tmp_path / "voice.wav"
    soundfile.write(voice, samples[: 20 * rate_hz], rate_hz)
    one_line(program("replay", voice, "--profile", "anna"), 1, "no profile 'anna'", "calibrate")
    one_line(program("calibrate", "../x", "--from", voice), 1, "profile name")
    short = program("calibrate", "anna", "--from", voice, "--seconds", "60")
    assert short.returncode == 1
    assert "60 s are needed" in short.stderr
    made = program("calibrate", "anna", "--from", voice, "--seconds", "8")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("your neutral speech: ")
    plain, relative = tmp_path / "plain.csv", tmp_path / "relative.csv"
    program("replay", voice, "--speed", "max", "--csv", plain)
    done = program("replay", voice, "--speed", "max", "--csv", relative, "--profile", "anna")
    assert done.returncode == 0, done.stderr
    pairs = list(zip(rows(plain), rows(relative), strict=True))
    assert all(a["p_neutral"] == b["p_neutral"] for a, b in pairs)
    assert any(a["s_neutral"] != b["s_neutral"] for a, b in pairs)
    other = program("replay", voice, "--speed", "max", "--profile", "anna", "--model", "ser-base")
    one_line(other, 1, "was made with ser-research, not this ser-base")
    both = program("replay", voice, "--profile", "anna", "--channel", "each")
    assert both.returncode == 2


def test_denoise_is_another_front_end(tmp_path: Path, call_wav: Path) -> None:
    pytest.importorskip("pywebrtc_audio")
    plain, clean = tmp_path / "plain.csv", tmp_path / "clean.csv"
    program("replay", call_wav, "--speed", "max", "--csv", plain)
    assert program("replay", call_wav, "--speed", "max", "--denoise", "--csv", clean).returncode == 0
    assert timeless(plain) != timeless(clean)


def test_a_higher_confidence_names_less_and_changes_no_score(tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    voice, usual, surer = tmp_path / "voice.wav", tmp_path / "usual.csv", tmp_path / "surer.csv"
    soundfile.write(voice, samples[: 45 * rate_hz], rate_hz)
    program("replay", voice, "--speed", "max", "--csv", usual)
    assert program("replay", voice, "--speed", "max", "--csv", surer, "--min-confidence", "0.6").returncode == 0
    pairs = list(zip(rows(usual), rows(surer), strict=True))
    assert all(a["p_neutral"] == b["p_neutral"] and a["confidence"] == b["confidence"] for a, b in pairs)
    named = [(a["label"], b["label"], float(b["confidence"])) for a, b in pairs if b["label"]]
    assert 0 < len(named) < sum(bool(a["label"]) for a, _ in pairs)
    assert all(a == b and confidence >= 0.6 for a, b, confidence in named)


@pytest.mark.parametrize(("least", "remedy"), [("1", "use 0 to 0.95"), ("-0.1", "use 0 to 0.95"), ("nan", "a number")])
def test_a_confidence_that_nothing_reaches_is_refused(demo: Demo, least: str, remedy: str) -> None:
    one_line(program("replay", "demo", f"--min-confidence={least}"), 2, remedy)
