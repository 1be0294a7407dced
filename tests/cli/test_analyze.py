"""`analyze` as a person runs it: many recordings, some of them bad, in this process and in several."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from realtime_ser.cli.analyze import open_joined
from realtime_ser.cli.places import Recording, find_recordings
from realtime_ser.sinks.csv import columns
from realtime_ser.timeline.read import read_timeline
from tests.cli.program import obeying_rights, one_line, program, rows, timeless

Demo = tuple[NDArray[np.int16], int]


@pytest.fixture
def recordings(tmp_path: Path, demo: Demo) -> Path:
    """A folder of three recordings, one of them not audio."""
    samples, rate_hz = demo
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    soundfile.write(folder / "a.wav", samples[rate_hz : 6 * rate_hz], rate_hz)
    soundfile.write(folder / "deep" / "b.FLAC", samples[8 * rate_hz : 14 * rate_hz], rate_hz, format="FLAC")
    (folder / "bad.wav").write_bytes(b"not audio")
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_analyze_goes_on_past_a_bad_file_and_says_so(tmp_path: Path, recordings: Path, jobs: int) -> None:
    out = tmp_path / "all.csv"
    done = program("analyze", recordings, "--csv", out, "--jobs", jobs)
    assert done.returncode == 1
    assert "bad.wav: cannot be read as audio" in done.stderr
    assert "2 of 3 recordings analysed" in done.stderr
    assert "1 failed" in done.stderr
    files = [row["file"] for row in rows(out)]
    assert list(dict.fromkeys(files)) == [str(recordings / "a.wav"), str(recordings / "deep" / "b.FLAC")]
    sidecar = json.loads((tmp_path / "all.csv.json").read_text(encoding="utf-8"))
    assert sidecar["source"] == list(dict.fromkeys(files))


@pytest.mark.skipif(os.name != "posix", reason="POSIX rights")
def test_what_may_not_be_read_or_listed_is_told_and_the_rest_goes_on(tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    under, folder, out = obeying_rights(), tmp_path / "in", tmp_path / "all.csv"
    for name in ("a", "secret", "closed/b", "names only/c"):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples[rate_hz : 3 * rate_hz], rate_hz)
    rights = {"secret.wav": 0o000, "closed": 0o000, "names only": 0o444}
    for name, mode in rights.items():
        (folder / name).chmod(mode)
    done = program("analyze", folder, folder / "closed" / "b.wav", "--csv", out, under=under)
    nothing = program("analyze", folder / "closed", "--csv", tmp_path / "none.csv", under=under)
    for name in rights:
        (folder / name).chmod(0o700)
    assert done.returncode == 1
    assert {row["file"] for row in rows(out)} == {str(folder / "a.wav")}
    unread = [folder / name for name in ("names only/c.wav", "secret.wav", "closed/b.wav")]
    assert [line for line in done.stderr.splitlines() if line.startswith("realtime-ser:")] == [
        f"realtime-ser: {folder / 'closed'}: cannot be listed (permission denied): check the right to it",
        *(f"realtime-ser: {path}: cannot be read (permission denied): check the right to it" for path in unread),
    ]
    assert "1 of 4 recordings analysed" in done.stderr
    one_line(nothing, 1, "closed: cannot be listed")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_result_without_a_folder_is_told_and_the_rest_goes_on(tmp_path: Path, recordings: Path, jobs: int) -> None:
    (recordings / "bad.wav").unlink()
    out = tmp_path / "out"
    out.mkdir()
    (out / "deep").write_text("a file in the way of a folder")
    done = program("analyze", recordings, "--out", out, "--jobs", jobs)
    one_line(done, 1, f"{out / 'deep'}: cannot be made a folder (file exists)")
    assert rows(out / "a.wav.csv")
    assert "1 of 2 recordings analysed" in done.stderr


def test_a_part_is_gone_once_it_is_joined(tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    folder, out, underway = tmp_path / "in", tmp_path / "all.csv", tmp_path / "underway"
    folder.mkdir()
    underway.mkdir()
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", np.tile(samples, 1 if i < 2 else 40), rate_hz)
    command = [sys.executable, "-m", "realtime_ser", "analyze", folder, "--csv", out]
    environment = os.environ | {"TMPDIR": str(underway)}
    with subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            deadline = time.monotonic() + 30
            while not any(path.stat().st_size > 5_000 for path in underway.rglob("2.csv.part")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert {path.name.partition(".")[0] for path in underway.rglob("*.csv*")} == {"2"}
            assert {row["file"] for row in rows(out)} == {str(folder / f"{i}.wav") for i in range(2)}
        finally:
            process.kill()


def test_analyze_equals_replay(tmp_path: Path, recordings: Path) -> None:
    program("analyze", recordings / "a.wav", "--csv", tmp_path / "analyze.csv")
    program("replay", recordings / "a.wav", "--speed", "max", "--csv", tmp_path / "replay.csv")
    assert timeless(tmp_path / "analyze.csv") == timeless(tmp_path / "replay.csv")


def test_analyze_into_a_folder_keeps_its_shape(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "out"
    program("analyze", recordings, "--out", out)
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.csv")) == [
        "a.wav.csv",
        str(Path("deep") / "b.FLAC.csv"),
    ]
    one_line(program("analyze", recordings, "--out", out), 1, "exists already")


def test_rows_file_pools_utterances_by_duration(tmp_path: Path, recordings: Path) -> None:
    for kind in ("file", "utterance"):
        program("analyze", recordings / "a.wav", "--csv", tmp_path / f"{kind}.csv", "--rows", kind)
    (whole,) = rows(tmp_path / "file.csv")
    utterances = rows(tmp_path / "utterance.csv")
    assert whole["trigger"] == "file"
    assert {row["trigger"] for row in utterances} == {"utterance"}
    assert float(whole["end"]) == 5
    scores = np.array([[float(row[k]) for k in row if k.startswith("p_")] for row in utterances])
    pooled = np.array([float(whole[k]) for k in whole if k.startswith("p_")])
    assert (pooled >= scores.min(axis=0) - 1e-3).all()
    assert (pooled <= scores.max(axis=0) + 1e-3).all()


def test_analyze_without_a_result_file_prints_a_line_each(recordings: Path) -> None:
    done = program("analyze", recordings / "a.wav")
    assert done.stdout.startswith(str(recordings / "a.wav"))
    assert "s of speech" in done.stdout


def test_nothing_to_analyze_is_wrong_usage(tmp_path: Path) -> None:
    one_line(program("analyze", tmp_path), 2, "no recordings")
    one_line(program("analyze", tmp_path, "--csv", "-"), 2, "--csv needs a file")


def test_resume_begins_where_an_interrupted_folder_ended(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "out"
    program("analyze", recordings, "--out", out)
    whole = (out / "a.wav.csv").read_bytes()
    (out / "deep" / "b.FLAC.csv").rename(out / "deep" / "b.FLAC.csv.part")  # as a killed writer leaves it
    done = program("analyze", recordings, "--out", out, "--resume")
    assert "1 recordings were analysed before" in done.stderr
    assert "1 of 2 recordings analysed" in done.stderr  # the bad one is tried again
    assert (out / "a.wav.csv").read_bytes() == whole
    assert sorted(p.name for p in out.rglob("*.csv*")) == [
        "a.wav.csv",
        "a.wav.csv.json",
        "b.FLAC.csv",
        "b.FLAC.csv.json",
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_resume_and_report_pass_over_empty_lines(tmp_path: Path, recordings: Path, line_end: str) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "all.csv"
    program("analyze", recordings, "--csv", whole)
    header, *lines = whole.read_text(encoding="utf-8").splitlines()
    with out.open("w", encoding="utf-8", newline="") as file:
        file.write(line_end.join([header, "", *lines[:5], "", *lines[5:], "", ""]))
    done = program("analyze", recordings, "--csv", out, "--resume")
    assert "1 recordings were analysed before" in done.stderr
    assert timeless(out) == timeless(whole)
    timeline = read_timeline(out)
    assert (len(timeline), timeline.problems) == (len(lines), ())


@pytest.mark.parametrize("cut", [0, 10, 2_000])
def test_resume_continues_one_timeline_wherever_it_was_cut_off(tmp_path: Path, recordings: Path, cut: int) -> None:
    (recordings / 'c, "quoted".wav').write_bytes((recordings / "a.wav").read_bytes())
    whole, cut_off = tmp_path / "whole.csv", tmp_path / "cut.csv"
    program("analyze", recordings, "--csv", whole)
    program("analyze", recordings, "--csv", cut_off)
    with cut_off.open("rb+") as file:
        file.truncate(file.seek(0, 2) - cut)
    assert program("analyze", recordings, "--csv", cut_off, "--resume").returncode == 1
    assert timeless(cut_off) == timeless(whole)
    made_with = [json.loads(Path(f"{path}.json").read_text(encoding="utf-8")) for path in (whole, cut_off)]
    assert made_with[0]["source"] == made_with[1]["source"]


def test_resume_finds_what_is_done_of_very_many_recordings_at_once(tmp_path: Path) -> None:
    found = [Recording(f"/calls/{i}.wav", f"{i}.wav", 1) for i in range(20_000)]
    out = tmp_path / "all.csv"
    out.write_text("\n".join([",".join(columns(["neutral"])), *(f"{one.place},0.000" for one in found), ""]))
    begun = time.process_time()
    joined, whole = open_joined(out, found, ("neutral",), "new", {})
    assert time.process_time() - begun < 4  # 16 s where each is looked for in all
    joined.close()
    assert len(whole) == len(found) - 1


def test_resume_goes_on_only_with_what_it_began_with(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "all.csv"
    program("analyze", recordings, "--csv", out)
    before = out.read_bytes()
    one_line(program("analyze", recordings, "--csv", out, "--resume", "--hop", "0.5"), 1, "another settings")
    one_line(program("analyze", recordings, "--csv", out, "--resume", "--rows", "file"), 1, "another rows")
    one_line(program("analyze", recordings, "--csv", out, "--resume", "--channel", "1"), 1, "another channels")
    assert out.read_bytes() == before
    notes = tmp_path / "notes.csv"
    notes.write_text("my,own\n1,2\n3,4\n")
    one_line(program("analyze", recordings, "--csv", notes, "--resume"), 1, "is no timeline")
    assert notes.read_text() == "my,own\n1,2\n3,4\n"
    one_line(program("analyze", recordings, "--csv", out, "--resume", "--overwrite"), 2, "--resume excludes")
    one_line(program("analyze", recordings, "--resume"), 2, "--resume needs")


def test_a_folder_of_timelines_is_resumed_only_as_it_was_begun(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "out"
    program("analyze", recordings, "--out", out)
    for place in (out, out.as_uri()):
        one_line(program("analyze", recordings, "--out", place, "--resume", "--window", "2"), 1, "another settings")
        one_line(program("analyze", recordings, "--out", place, "--resume", "--rows", "file"), 1, "another rows")
    (out / "a.wav.csv.json").unlink()
    one_line(program("analyze", recordings, "--out", out, "--resume"), 1, "what the timeline was made with")


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_folders_that_are_links_are_searched_once(tmp_path: Path, recordings: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "there").symlink_to(recordings)
    (recordings / "deep" / "back").symlink_to(linked)
    found = [recording.name for recording in find_recordings([str(linked)], pytest.fail)]
    assert found == ["there/a.wav", "there/bad.wav", "there/deep/b.FLAC"]


def test_the_timeline_of_all_replaces_none_of_the_recordings(tmp_path: Path, recordings: Path) -> None:
    before = (recordings / "a.wav").read_bytes()
    one_line(program("analyze", recordings, "--csv", recordings / "a.wav", "--overwrite"), 2, "is what is to be read")
    assert (recordings / "a.wav").read_bytes() == before


def test_resume_with_nothing_left_does_nothing(tmp_path: Path, recordings: Path) -> None:
    (recordings / "bad.wav").unlink()
    for _ in range(2):
        done = program("analyze", recordings, "--out", tmp_path / "out", "--resume", "--jobs", "2")
        assert done.returncode == 0
    assert "2 recordings were analysed before\n0 of 0 recordings analysed" in done.stderr


def test_recordings_and_results_may_be_urls(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "out"
    done = program("analyze", recordings.as_uri(), "--out", out.as_uri())
    assert "2 of 3 recordings analysed" in done.stderr
    program("analyze", recordings, "--out", tmp_path / "paths")
    for name in ("a.wav", "deep/b.FLAC"):
        found, expected = (timeless(folder / f"{name}.csv") for folder in (out, tmp_path / "paths"))
        assert found == [row | {"file": f"{recordings.as_uri()}/{name}"} for row in expected]
    one_line(program("analyze", recordings.as_uri(), "--out", out.as_uri()), 1, "exists already")
    one_line(program("analyze", "nosuch://there/x.wav"), 1, "cannot be listed")
    one_line(program("analyze", (tmp_path / "empty").as_uri()), 1, "nothing is there")


@pytest.mark.slow
@pytest.mark.parametrize("result", ["--csv", "--out"])
def test_killed_again_and_again_and_resumed_nothing_is_twice_and_nothing_is_missing(
    tmp_path: Path, demo: Demo, result: str
) -> None:
    samples, rate_hz = demo
    folder = tmp_path / "in"
    folder.mkdir()
    names = [f"{i}.flac" for i in range(32)]
    for i, name in enumerate(names):
        soundfile.write(folder / name, np.tile(np.roll(samples, -i * rate_hz), 2), rate_hz)
    out, whole = tmp_path / "result", tmp_path / "whole"
    began = time.monotonic()
    program("analyze", folder, result, whole, "--jobs", "2")
    # However fast the machine is, no quarter of the work ends it, so three kills at least come before the end.
    quarter_s = (time.monotonic() - began) / 4
    command = [sys.executable, "-m", "realtime_ser", "analyze", folder, result, out, "--resume", "--jobs", "2"]
    left = tmp_path / "left"  # what a killed program could not remove
    left.mkdir()
    environment = os.environ | {"TMPDIR": str(left)}
    random = Random(7)
    kills = 0
    while True:
        process = subprocess.Popen(
            [*map(str, command)], stderr=subprocess.PIPE, env=environment, start_new_session=True
        )
        try:
            # Its processes hold its stderr: that this returns says that they have ended as well.
            _, errors = process.communicate(timeout=random.uniform(0.2, 1) * quarter_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate(timeout=20)
            kills += 1
        else:
            assert process.returncode == 0, errors
            break
    assert kills >= 3
    for name in ["."] if result == "--csv" else [f"{name}.csv" for name in names]:
        assert timeless(out / name) == timeless(whole / name)


@pytest.mark.parametrize(("jobs", "first"), [("1", "0.csv.part"), ("2", "0-0.csv")])
def test_an_interrupted_analysis_keeps_what_it_heard_and_says_how_to_go_on(
    tmp_path: Path, demo: Demo, jobs: str, first: str
) -> None:
    samples, rate_hz = demo
    folder, out = tmp_path / "in", tmp_path / "out.csv"
    folder.mkdir()
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", np.tile(samples, 40), rate_hz)
    command = [sys.executable, "-m", "realtime_ser", "analyze", folder, "--csv", out, "--jobs", jobs]
    underway = tmp_path / "underway"
    underway.mkdir()
    environment = os.environ | {"TMPDIR": str(underway)}
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, env=environment)
    # Once the first rows of all are there it is at work, and whichever process came first, those are kept; however fast
    # the machine is, three quarters of an hour are not done by then.
    deadline = time.monotonic() + 30
    while not any(b"measurement" in path.read_bytes() for path in underway.rglob(first)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "0.wav: interrupted after" in errors
    assert "0 of 3 recordings analysed" in errors
    assert "3 not finished; --resume goes on" in errors
    assert {row["file"] for row in rows(out)} == {str(folder / "0.wav")}
