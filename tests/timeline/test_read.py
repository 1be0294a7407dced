"""What was written is read back, and what is damaged is read as far as it goes."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realtime_ser.errors import TimelineError
from realtime_ser.timeline import read
from realtime_ser.timeline.read import read_timeline
from tests.cli.program import one_line, program


def test_both_forms_say_the_same(written: tuple[Path, Path]) -> None:
    table, lines = map(read_timeline, written)
    assert not table.problems
    assert not lines.problems
    assert table.sidecar["model_id"] == lines.sidecar["model_id"] == "ser-research"
    assert len(table) == len(lines) > 200
    for name, mine in table.columns().items():
        its = lines.columns()[name]
        if mine.dtype == object:
            assert mine.tolist() == its.tolist(), name
        else:
            np.testing.assert_allclose(mine, its, atol=0.06 if name in {"level_dbfs", "snr_db"} else 0.006)
    assert set(table.event) == {"measurement", "gap", "marker"}
    assert set(table.channel) == {1, 2}
    assert np.isnan(table.scores[table.state == "no_speech"]).all()
    assert table.note[table.event == "marker"].tolist() == ['he said "no"'] * 2


def test_it_is_a_data_frame_for_who_wants_one(written: tuple[Path, Path]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = read_timeline(written[0]).to_pandas()
    assert list(frame.columns) == written[0].read_text().splitlines()[0].split(",")
    assert frame["end"].max() == pandas.read_csv(written[0])["end"].max()


def test_a_timeline_of_version_0_1_is_read(written: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [line.split(",") for line in written[0].read_text().splitlines() if '"' not in line]
    at = rows[0].index("channel")
    old = tmp_path / "old.csv"
    old.write_text("".join(",".join(row[:at] + row[at + 1 :]) + "\n" for row in rows))
    timeline = read_timeline(old)
    assert len(timeline) == len(rows) - 1
    assert set(timeline.channel) <= {0}
    assert timeline.sidecar == {}


def test_columns_that_somebody_added_are_passed_over(written: tuple[Path, Path], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(written[0])
    frame.insert(len(frame.columns) - 1, "speaker", "Anna")
    frame.to_csv(tmp_path / "t.csv", index=False, encoding="utf-8-sig")  # as spreadsheets do
    found, before = read_timeline(tmp_path / "t.csv").columns(), read_timeline(written[0]).columns()
    assert list(found) == list(before)
    assert found["note"].tolist() == before["note"].tolist()


@pytest.mark.parametrize("form", [0, 1])
def test_a_file_cut_off_in_a_row_is_read_up_to_there(written: tuple[Path, Path], tmp_path: Path, form: int) -> None:
    whole = written[form].read_bytes()
    cut = tmp_path / written[form].name
    # In the midst of a row: half of all bytes may end on one.
    cut.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 30])
    timeline = read_timeline(cut)
    assert 100 < len(timeline) < len(read_timeline(written[form]))
    (problem,) = timeline.problems
    assert "is cut off; it was read up to there" in problem


@pytest.mark.parametrize("row", [0, 50, 60, 99])
def test_a_short_row_before_others_ends_what_is_read(
    written: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    monkeypatch.setattr(read, "_CHUNK_ROWS", 50)
    header, *lines = written[0].read_text().splitlines(keepends=True)
    lines[row] = "mic,0.25\n"
    path = tmp_path / "t.csv"
    path.write_text(header + "".join(lines))
    timeline = read_timeline(path)
    assert len(timeline) == row
    assert timeline.problems == (f"row {row + 2} is cut off; it was read up to there",)


def test_a_measurement_without_a_state_is_told(written: tuple[Path, Path], tmp_path: Path) -> None:
    for file, with_state, without in zip(
        written, (",hop,no_speech,", '"state":"no_speech"'), (",hop,,", '"state":null'), strict=True
    ):
        path = tmp_path / file.name
        path.write_text(file.read_text().replace(with_state, without, 1))
        one_line(program("report", path), 1, "is a damaged timeline (a measurement has no state)")


@pytest.mark.parametrize("form", [0, 1])
def test_what_a_spreadsheet_or_editor_saved_with_a_byte_order_mark_is_read(
    written: tuple[Path, Path], tmp_path: Path, form: int
) -> None:
    path = tmp_path / written[form].name
    path.write_bytes(codecs.BOM_UTF8 + written[form].read_bytes().replace(b"\n", b"\r\n"))
    timeline = read_timeline(path)
    assert timeline.note.tolist() == read_timeline(written[form]).note.tolist()
    assert not timeline.problems


@pytest.mark.parametrize(
    "change", [lambda row: [cell.replace(".", ",") for cell in row], lambda row: [",".join(row), ""]]
)
def test_semicolons_between_cells_are_told(
    written: tuple[Path, Path], tmp_path: Path, change: Callable[[list[str]], list[str]]
) -> None:
    path = tmp_path / "t.csv"
    with written[0].open(encoding="utf-8", newline="") as file, path.open("w", encoding="utf-8", newline="") as saved:
        csv.writer(saved, delimiter=";").writerows(map(change, csv.reader(file)))
    one_line(program("report", path), 1, "was saved with semicolons between its cells")


def test_a_header_alone_is_an_empty_timeline(written: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "t.csv"
    empty.write_text(written[0].read_text().splitlines(keepends=True)[0])
    timeline = read_timeline(empty)
    assert len(timeline) == 0
    assert timeline.duration_s == 0
    assert timeline.scores.shape == (0, 7)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"\n", "is no timeline"),
        (b"hello\n", "is no timeline"),
        (b"a,b,c\n1,2,3\n", "is no timeline"),
        (b"file,start,event\n", "has no column 'end'"),
        (b"\xff\xfe\x00\x01", "is no text"),
        (b'{"type": "measurement"}\n', "is no timeline"),
        (b"{", "is no timeline"),
    ],
)
def test_what_is_no_timeline_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TimelineError, match=told):
        read_timeline(path)


def test_what_cannot_be_a_number_is_told(written: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(written[0].read_text().replace(",hop,", ",hop,").replace("0.", "x.", 1))
    with pytest.raises(TimelineError, match="column"):
        read_timeline(path)
    with pytest.raises(TimelineError, match="no such file"):
        read_timeline(tmp_path / "none.csv")


def test_what_an_appended_session_tells_before_its_first_hop_is_its_own(
    written: tuple[Path, Path], tmp_path: Path
) -> None:
    def row(end_s: float, event: str, channel: int, note: str) -> str:
        trigger, state = ("hop", "no_speech") if event == "measurement" else ("", "")
        return ",".join(["mic", str(end_s), str(end_s), event, trigger, state, *[""] * 25, str(channel), note]) + "\n"

    session = [("warning", 0.1, "begins"), ("measurement", 0.25, ""), ("measurement", 0.5, ""), ("marker", 0.6, "ends")]
    path = tmp_path / "t.csv"
    rows = [row(end_s, event, 1, note) for event, end_s, note in 3 * session]
    rows[5:5] = [row(end_s, event, 2, note) for event, end_s, note in session]
    path.write_text(written[0].read_text().splitlines(keepends=True)[0] + "".join(rows))
    timeline = read_timeline(path)
    assert timeline.file[timeline.channel == 1].tolist() == 4 * ["mic"] + 4 * ["mic (2)"] + 4 * ["mic (3)"]
    assert timeline.file[timeline.channel == 2].tolist() == 4 * ["mic"]


def test_events_of_a_second_session_are_of_its_source(written: tuple[Path, Path], tmp_path: Path) -> None:
    first = written[1].read_text(encoding="utf-8")
    ids = {json.loads(line)["session_id"] for line in first.splitlines()}
    second, same = first.replace('"source":"call, one.wav"', '"source":"other.wav"'), first
    for session_id in ids:
        second, same = second.replace(session_id, session_id[::-1]), same.replace(session_id, f"{session_id}x")
    path = tmp_path / "t.jsonl"
    path.write_text(first + second + same, encoding="utf-8")
    timeline = read_timeline(path)
    n = len(timeline) // 3
    assert timeline.file.tolist() == n * ["call, one.wav"] + n * ["other.wav"] + n * ["call, one.wav (2)"]
