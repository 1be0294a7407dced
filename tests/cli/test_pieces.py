"""A recording heard in pieces gives the timeline of one that was heard whole."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from realtime_ser.cli.pieces import Piece, Span, hear_piece, plans_of
from realtime_ser.cli.places import Recording
from realtime_ser.cli.work import Outcome, Rows, Work, analyze_recording, join_recording
from realtime_ser.session import Beginning
from realtime_ser.settings import RestSettings, SessionSettings
from tests.cli.program import program, timeless
from tests.stages.test_window_model import gives

Demo = tuple[NDArray[np.int16], int]


def talk(path: Path, demo: Demo, repeats: int, format_: str = "WAV") -> Path:
    """The demo with pauses of two seconds in its noise, again and again."""
    samples, rate_hz = demo
    pause = np.random.default_rng(0).normal(0, 3, 2 * rate_hz).astype(np.int16)
    once = np.concatenate(
        [part for i in range(4) for part in (samples[5 * i * rate_hz : 5 * (i + 1) * rate_hz], pause)]
    )
    soundfile.write(path, np.tile(once, repeats), rate_hz, format=format_)
    return path


def order(recording: Path, result: Path, rows: Rows = "hop", **changes: Any) -> Work:
    settings = SessionSettings(rest=RestSettings(every_s=10))
    place = Recording(str(recording), recording.name, recording.stat().st_size)
    return replace(Work(place, str(result), rows, None, settings, "mix", None), **changes)


def in_pieces(work: Work, folder: Path, jobs: int = 2) -> tuple[Outcome, list[Piece]]:
    spans = plans_of([work], jobs)[0].spans
    assert len(spans) > 1
    pieces = [hear_piece(work, span, folder / f"{i}.csv") for i, span in enumerate(spans)]

    def again(span: Span, known: Beginning) -> Piece:
        return hear_piece(work, span, folder / "again.csv", known=known)

    return join_recording(work, spans, iter(pieces), again), pieces


@pytest.mark.parametrize("rows", ["hop", "utterance", "file"])
@pytest.mark.parametrize("format_", ["WAV", "FLAC"])
def test_pieces_make_the_same_timeline(tmp_path: Path, demo: Demo, rows: Rows, format_: str) -> None:
    recording = talk(tmp_path / "a, b.wav", demo, 2, format_)
    whole = analyze_recording(order(recording, tmp_path / "whole.csv", rows))
    joined, pieces = in_pieces(order(recording, tmp_path / "joined.csv", rows), tmp_path)
    assert sum(bool(piece.tallies) for piece in pieces) >= 4
    assert timeless(tmp_path / "joined.csv") == timeless(tmp_path / "whole.csv")
    assert (joined.summary, joined.audio_s, joined.error) == (whole.summary, whole.audio_s, None)
    made_with = json.loads((tmp_path / "joined.csv.json").read_text(encoding="utf-8"))
    assert (made_with["rows"], made_with["channels"]) == (rows, "mix")


def test_what_only_the_whole_tells_is_told_where_it_would_be(
    tmp_path: Path, demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime_ser.stages.monitor._LONG_S", 25.0)
    recording = talk(tmp_path / "t.wav", demo, 2)
    model = str(gives(tmp_path / "m.onnx", np.array([[0.1, 0.9]], np.float32)))
    analyze_recording(order(recording, tmp_path / "whole.csv", model=model))
    in_pieces(order(recording, tmp_path / "joined.csv", model=model), tmp_path)
    found = timeless(tmp_path / "joined.csv")
    assert found == timeless(tmp_path / "whole.csv")
    assert sum("one_label" in row["note"] for row in found) == 1


def test_what_cannot_be_cut_is_heard_whole(tmp_path: Path, demo: Demo) -> None:
    recording = talk(tmp_path / "t.wav", demo, 1)
    work = order(recording, tmp_path / "t.csv")
    whole = [Span(0, None)]

    def spans_of(work: Work) -> list[Span]:
        return plans_of([work], 2)[0].spans

    assert len(spans_of(work)) > 1
    assert spans_of(replace(work, channel="each")) == whole
    assert spans_of(replace(work, settings=SessionSettings())) == whole  # too short
    lossy = tmp_path / "t.ogg"
    soundfile.write(lossy, *soundfile.read(recording))
    assert spans_of(order(lossy, tmp_path / "t.csv")) == whole
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    assert spans_of(order(tmp_path / "bad.wav", tmp_path / "t.csv")) == whole


def test_pieces_are_large_first_and_small_at_the_end(tmp_path: Path, demo: Demo) -> None:
    recording = talk(tmp_path / "t.wav", demo, 4)  # 112 s
    plans = plans_of([order(recording, tmp_path / f"{i}.csv") for i in range(3)], 2)
    for spans in (plan.spans for plan in plans):
        assert spans[0].from_s == 0
        assert spans[-1].until_s is None
        assert all(a.until_s == b.from_s for a, b in pairwise(spans))
    lengths_s = [[b.from_s - a.from_s for a, b in pairwise(plan.spans)] for plan in plans]
    assert lengths_s[0][0] == 40  # an eighth of all, in whole periods
    assert set(lengths_s[-1]) == {10}
    assert all(b <= a for a, b in pairwise(chain.from_iterable(lengths_s)))


def test_pieces_tell_on_the_way_how_much_was_heard(tmp_path: Path, demo: Demo) -> None:
    work = order(talk(tmp_path / "t.wav", demo, 2), tmp_path / "t.csv")
    (plan,) = plans_of([work], 2)
    total_s = 0.0
    for i, span in enumerate(plan.spans):
        told: list[float] = []
        hear_piece(work, span, tmp_path / f"{i}.csv", heard=told.append)
        assert told == sorted(told)
        total_s += told[-1] if told else 0
    assert total_s == pytest.approx(plan.duration_s, abs=0.001)


def test_a_damaged_piece_is_told_and_an_interrupted_one_keeps_what_was_heard(tmp_path: Path, demo: Demo) -> None:
    recording = talk(tmp_path / "t.wav", demo, 2)
    work = order(recording, tmp_path / "t.csv")
    spans = plans_of([work], 2)[0].spans
    first = hear_piece(work, spans[0], tmp_path / "0.csv")
    second = hear_piece(work, spans[1], tmp_path / "1.csv", stopped=lambda: True)
    outcome = join_recording(work, spans, iter([first, second]), lambda s, k: second)
    assert outcome.interrupted
    assert not Path(str(work.result)).exists()
    failed = replace(second, error="t.wav: cannot be read")
    first = hear_piece(work, spans[0], tmp_path / "0.csv")
    assert join_recording(work, spans, iter([first, failed]), lambda s, k: failed).error == "t.wav: cannot be read"


@pytest.mark.parametrize("fault", ["cut off", "damaged"])
def test_a_damaged_recording_ends_where_it_does_for_one_process(tmp_path: Path, demo: Demo, fault: str) -> None:
    recording = talk(tmp_path / "t.flac", demo, 2, "FLAC")
    content = recording.read_bytes()
    at = len(content) * 6 // 10
    recording.write_bytes(content[:at] + (b"" if fault == "cut off" else bytes(20_000) + content[at + 20_000 :]))
    whole = analyze_recording(order(recording, tmp_path / "whole.csv"))
    joined, _ = in_pieces(order(recording, tmp_path / "joined.csv"), tmp_path)
    assert timeless(tmp_path / "joined.csv") == timeless(tmp_path / "whole.csv")
    assert (joined.summary, joined.problem) == (whole.summary, whole.problem)


@pytest.mark.slow
def test_the_program_uses_both_cores_for_one_recording(tmp_path: Path, demo: Demo) -> None:
    recording = talk(tmp_path / "t.flac", demo, 60, "FLAC")  # 28 minutes
    for jobs in (1, 2):
        done = program("analyze", recording, "--csv", tmp_path / f"{jobs}.csv", "--jobs", jobs)
        assert done.returncode == 0, done.stderr
    assert timeless(tmp_path / "1.csv") == timeless(tmp_path / "2.csv")
    assert not list(tmp_path.glob("*.part"))
