"""The real program, as a person runs it: good input and bad. No traceback, ever."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.model import DEFAULT_MODEL
from tests.cli.program import one_line, program, rows, timeless

Demo = tuple[NDArray[np.int16], int]


def test_replay_writes_timeline_sidecar_and_totals(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    done = program("replay", "demo", "--speed", "max", "--csv", out)
    assert done.returncode == 0
    assert "s of speech" in done.stderr
    found = rows(out)
    assert {"speech", "no_speech"} <= {row["state"] for row in found}
    assert {row["trigger"] for row in found} == {"hop", "utterance"}
    for row in found:
        scores = [row[k] for k in row if k.startswith("p_")]
        if row["state"] == "no_speech":
            assert set(scores) == {""}
        else:
            assert sum(map(float, scores)) == pytest.approx(1, abs=1e-3)
    ends = [float(row["end"]) for row in found]
    assert ends == sorted(ends)
    sidecar = json.loads((tmp_path / "t.csv.json").read_text(encoding="utf-8"))
    assert sidecar["columns"] == list(found[0])
    assert sidecar["schema"] == 1
    assert sidecar["model_licence"]


def test_speed_does_not_change_the_timeline(tmp_path: Path, speech_wav: Path) -> None:
    paced, unpaced = tmp_path / "paced.csv", tmp_path / "max.csv"
    program("replay", speech_wav, "--speed", "1", "--csv", paced)
    program("replay", speech_wav, "--speed", "max", "--csv", unpaced)
    assert rows(paced)
    assert timeless(paced) == timeless(unpaced)


def test_pace_is_that_of_life(speech_wav: Path) -> None:
    begun = time.monotonic()
    program("replay", speech_wav, "--speed", "2")
    assert time.monotonic() - begun >= 2.4


def test_pipe_gives_what_the_file_gives(tmp_path: Path, speech_wav: Path) -> None:
    samples, rate_hz = soundfile.read(speech_wav, dtype="int16")
    by_file, by_pipe = tmp_path / "file.csv", tmp_path / "pipe.csv"
    program("replay", speech_wav, "--speed", "max", "--csv", by_file)
    done = program("replay", "-", "--rate", rate_hz, "--speed", "max", "--csv", by_pipe, stdin=samples.tobytes())
    assert done.returncode == 0

    def nameless(path: Path) -> list[dict[str, str]]:
        return [row | {"file": ""} for row in timeless(path)]

    assert nameless(by_file) == nameless(by_pipe)


def test_jsonl_on_stdout_is_json_alone(speech_wav: Path) -> None:
    done = program("replay", speech_wav, "--speed", "max", "--jsonl", "-")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["type"] == "session.created"
    assert events[0]["schema"] == 1
    assert events[-1]["type"] == "session.closed"
    assert [e["seq"] for e in events] == list(range(len(events)))


def test_duration_stops_there(speech_wav: Path) -> None:
    done = program("replay", speech_wav, "--speed", "max", "--duration", "2", "--jsonl", "-")
    assert json.loads(done.stdout.splitlines()[-1])["audio_s"] == 2


# Bad input


def test_missing_file(tmp_path: Path) -> None:
    one_line(program("replay", tmp_path / "none.wav"), 1, "none.wav", "no such file")


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_strange_file_names_cannot_hurt(tmp_path: Path, speech_wav: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"\xff\xfe.wav", b"\x1b[2J=1+1.wav", "ümläut [red].wav".encode(), b"two\nlines.wav"):
        (folder / os.fsdecode(name)).write_bytes(speech_wav.read_bytes())
    done = program("analyze", folder, "--csv", tmp_path / "t.csv", "--rows", "file")
    assert done.returncode == 0
    assert len(rows(tmp_path / "t.csv")) == 4
    done = program("replay", folder / os.fsdecode(b"\x1b[2J=1+1.wav"), "--speed", "max")
    assert "\x1b" not in done.stdout
    one_line(program("replay", folder / "\x1b[2Jnone.wav"), 1, "no such file")
    assert program("analyze", folder).returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_character_that_the_output_lacks_stops_nothing(tmp_path: Path, speech_wav: Path, encoding: str) -> None:
    recording = tmp_path / "łódź.wav"
    shutil.copy(speech_wav, recording)
    environment = os.environ | {"PYTHONIOENCODING": encoding}  # as a redirected output on Windows
    for arguments in (("analyze", recording), ("models", DEFAULT_MODEL)):
        command = [sys.executable, "-m", "realtime_ser", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
        assert b"?" in done.stdout or "models" in arguments


def test_folder_where_a_file_is_expected(tmp_path: Path) -> None:
    one_line(program("replay", tmp_path), 1, str(tmp_path), "is a folder")


@pytest.mark.parametrize("content", [b"", b"hello, I am text\n" * 50, b"RIFF\x00\x00"])
def test_what_is_no_audio(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    one_line(program("replay", path), 1, "x.wav")


@pytest.mark.parametrize("command", [("replay", "--speed", "max"), ("analyze",)])
def test_cut_off_wav_is_analysed_as_far_as_it_goes(tmp_path: Path, speech_wav: Path, command: tuple[str, ...]) -> None:
    content = speech_wav.read_bytes()
    cut, out = tmp_path / "cut.wav", tmp_path / "t.csv"
    cut.write_bytes(content[: len(content) * 3 // 5])
    done = program(command[0], cut, *command[1:], "--csv", out)
    one_line(done, 0, "cut.wav", "cut off")
    found = rows(out)
    assert any(row["state"] == "speech" for row in found)
    assert "source_problem" in found[-1]["note"]
    assert float(found[-1]["end"]) == pytest.approx(3, abs=0.05)


def test_header_that_lies_about_its_length(tmp_path: Path, speech_wav: Path) -> None:
    content = bytearray(speech_wav.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = (2**31).to_bytes(4, "little")
    lying = tmp_path / "lie.wav"
    lying.write_bytes(content)
    one_line(program("replay", lying, "--speed", "max"), 0, "lie.wav", "header lies")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_width_finds_the_same_speech(tmp_path: Path, demo: Demo, subtype: str) -> None:
    samples, rate_hz = demo
    path, out = tmp_path / "w.wav", tmp_path / "t.csv"
    soundfile.write(path, samples[rate_hz : 4 * rate_hz] / 32768, rate_hz, subtype)
    assert program("replay", path, "--speed", "max", "--csv", out).returncode == 0
    assert any(row["state"] in ("speech", "abstain") for row in rows(out))


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (11_025, 2), (96_000, 6), (192_000, 8)])
def test_every_rate_and_channel_count(tmp_path: Path, demo: Demo, rate_hz: int, channels: int) -> None:
    import soxr

    samples, own_hz = demo
    mono = soxr.resample(samples[own_hz : 4 * own_hz] / 32768, own_hz, rate_hz)
    path, out = tmp_path / "r.wav", tmp_path / "t.csv"
    soundfile.write(path, np.repeat(mono[:, None], channels, axis=1), rate_hz)
    assert program("replay", path, "--speed", "max", "--csv", out).returncode == 0
    assert any(row["state"] in ("speech", "abstain") for row in rows(out))


def test_nan_and_infinity_are_silence_counted_and_told(tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    bad = samples[: 3 * rate_hz].astype(np.float32) / 32768
    bad[1000:1010] = np.nan
    bad[50_000] = np.inf
    path, out = tmp_path / "n.wav", tmp_path / "t.csv"
    soundfile.write(path, bad, rate_hz, "FLOAT")
    assert program("replay", path, "--speed", "max", "--csv", out).returncode == 0
    notes = [row["note"] for row in rows(out) if row["event"] == "warning"]
    assert len(notes) == 2
    assert "10 samples were NaN or infinite" in notes[0]
    assert not {"nan", "inf", "-inf"} & {cell.lower() for row in rows(out) for cell in row.values()}


@pytest.mark.parametrize("seconds", [0, 3])
def test_no_audio_and_no_speech_are_valid_timelines(tmp_path: Path, seconds: int) -> None:
    path, out = tmp_path / "z.wav", tmp_path / "t.csv"
    soundfile.write(path, np.zeros(16_000 * seconds), 16_000)
    done = program("replay", path, "--speed", "max", "--csv", out)
    assert done.returncode == 0
    assert ("nothing to analyse" if seconds == 0 else "nobody speaks") in done.stderr
    measurements = [row for row in rows(out) if row["event"] == "measurement"]
    assert len(measurements) == 4 * seconds
    assert {row["state"] for row in measurements} <= {"no_speech"}


def test_existing_csv_is_refused_overwritten_or_continued(tmp_path: Path, speech_wav: Path) -> None:
    out = tmp_path / "t.csv"
    program("replay", speech_wav, "--speed", "max", "--csv", out)
    first = out.read_text()
    one_line(program("replay", speech_wav, "--speed", "max", "--csv", out), 1, "exists already", "--append")
    assert out.read_text() == first
    program("replay", speech_wav, "--speed", "max", "--csv", out, "--overwrite")
    once = len(rows(out))
    program("replay", speech_wav, "--speed", "max", "--csv", out, "--append")
    assert len(rows(out)) == 2 * once
    assert timeless(out)[:once] == timeless(out)[once:]


def test_csv_that_cannot_be_written(tmp_path: Path, speech_wav: Path) -> None:
    for path in (tmp_path / "no" / "folder.csv", tmp_path):
        one_line(program("replay", speech_wav, "--speed", "max", "--csv", path), 1, str(path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full: a device that is always full")
def test_full_device_stops_with_a_clear_error(speech_wav: Path) -> None:
    one_line(program("replay", speech_wav, "--speed", "max", "--csv", "/dev/full", "--overwrite"), 1, "disk is full")


def test_disk_that_fills_up_leaves_whole_rows(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small tmpfs here")
    try:
        one_line(program("replay", "demo", "--speed", "max", "--csv", disk / "t.csv"), 1, "disk is full", "intact")
        assert (disk / "t.csv").read_text().endswith("\n")
        assert len(rows(disk / "t.csv")) > 20
    finally:
        subprocess.run(["umount", disk], check=True)


def test_unusable_model_stops_the_program(tmp_path: Path, speech_wav: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no model")
    one_line(program("replay", speech_wav, "--model", tmp_path), 1, "encoder.onnx")
    one_line(program("replay", speech_wav, "--model", "nonsense"), 1, "no such model")
    one_line(program("analyze", speech_wav, "--model", "nonsense"), 1, "no such model")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--speed", "0"),
        ("--speed", "1e-12"),
        ("--speed", "nan"),
        ("--speed", "fast"),
        ("--window", "11"),
        ("--hop", "0.3"),
        ("--duration", "inf"),
        ("--duration", "nan"),
        ("--csv", "-"),
        ("--csv", "a.csv", "--append", "--overwrite"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path: Path, speech_wav: Path, arguments: tuple[str, ...]) -> None:
    one_line(program("replay", speech_wav, *arguments), 2)


@pytest.mark.parametrize("beside", ["t.csv", "t.csv.json", "link.json"])
def test_two_results_in_one_file_are_refused(tmp_path: Path, speech_wav: Path, beside: str) -> None:
    (tmp_path / "link.json").symlink_to("t.csv.json")
    arguments = ("--csv", tmp_path / "t.csv", "--jsonl", tmp_path / beside, "--overwrite")
    one_line(program("replay", speech_wav, *arguments), 2, "two results would be written to it")
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("result", ["--csv", "--jsonl"])
def test_no_result_replaces_the_recording_that_is_heard(tmp_path: Path, speech_wav: Path, result: str) -> None:
    recording = tmp_path / "talk.wav"
    recording.write_bytes(speech_wav.read_bytes())
    one_line(program("replay", recording, result, recording, "--overwrite"), 2, "is what is to be read")
    assert recording.read_bytes() == speech_wav.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_stdin_that_does_not_wait_is_waited_for(tmp_path: Path, speech_wav: Path) -> None:
    samples, rate_hz = soundfile.read(speech_wav, dtype="int16")
    log = tmp_path / "t.jsonl"
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    command = [sys.executable, "-m", "realtime_ser", "replay", "-", "--rate", rate_hz, "--speed", "max", "--jsonl", log]
    with subprocess.Popen([*map(str, command)], stdin=reader, stdout=subprocess.DEVNULL) as process:
        os.close(reader)
        deadline = time.monotonic() + 20
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # it looks into an empty pipe
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(samples.tobytes())
    assert process.returncode == 0
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    assert last["audio_s"] == pytest.approx(5, abs=0.01)


def test_pipe_with_a_senseless_rate_or_no_audio() -> None:
    one_line(program("replay", "-", "--rate", "5", stdin=b"\0\0"), 1, "rate")
    done = program("replay", "-", stdin=b"")
    one_line(done, 0, "no audio arrived")


# A mistake in one option


@pytest.mark.parametrize(
    ("code", "mistake"),
    [
        (2, ("--run", "true")),  # and no --on
        (2, ("--on", "arousal > 0.4", "--run", "'")),
        (2, ("--on", "arousal > 0.4", "--webhook", "example.org")),
        (2, ("--osc", "127.0.0.1")),
        (1, ("--jsonl", "/none/t.jsonl")),
        (1, ("--jsonl", "/")),
    ],
)
@pytest.mark.parametrize("old", ["rows of yesterday\n", None])
def test_a_mistake_in_one_option_neither_empties_nor_makes_a_result(
    tmp_path: Path, speech_wav: Path, code: int, mistake: tuple[str, ...], old: str | None
) -> None:
    out = tmp_path / "t.csv"
    if old:
        out.write_text(old)
    one_line(program("replay", speech_wav, "--csv", out, *(["--overwrite"] if old else []), *mistake), code)
    assert out.exists() == bool(old)
    assert not old or out.read_text() == old


def test_a_result_that_exists_keeps_another_from_being_made(tmp_path: Path, speech_wav: Path) -> None:
    (tmp_path / "t.jsonl").write_text("events of yesterday\n")
    done = program("replay", speech_wav, "--csv", tmp_path / "t.csv", "--jsonl", tmp_path / "t.jsonl")
    one_line(done, 1, "t.jsonl: exists already")
    assert not (tmp_path / "t.csv").exists()


# The rest


def test_models_and_help_answer() -> None:
    assert "default" in program("models").stdout
    assert "fits the contract" in program("models", DEFAULT_MODEL).stdout
    assert "replay" in program("--help").stdout


def test_live_without_a_microphone_says_so() -> None:
    done = program("devices")
    if done.returncode == 0 and done.stdout.count("\n") > 1:
        pytest.skip("this machine has an input device")
    done = program("live", "--duration", "1")
    assert done.returncode == 1
    assert "no microphone" in done.stderr or "PortAudio is not installed" in done.stderr


def test_what_needs_not_be_loaded_at_start_is_not() -> None:
    code = """
import sys
import realtime_ser.cli
early = {"numpy", "onnxruntime"} & set(sys.modules)
assert not early, early  # --help and wrong usage need neither
from realtime_ser import Session
import numpy as np
from realtime_ser.cli import stream, replay, live
s = Session()
s.push(np.zeros(48000, np.int16), 48000); s.flush()
heavy = {"librosa", "matplotlib", "sounddevice", "torch", "scipy", "numba", "pandas"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_in_the_users_folders(tmp_path: Path) -> None:
    """onnxruntime's telemetry would leave a device id and a database there."""
    places = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    done = subprocess.run(
        [sys.executable, "-m", "realtime_ser", "replay", "demo", "--speed", "max", "--duration", "3", "--plain"],
        env={**{k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}, **places},
        capture_output=True,
    )
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())


def test_installed_copy_finds_the_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "realtime_ser", "replay", "demo", "--speed", "max", "--duration", "1"],
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0
    assert demo_path().is_file()
