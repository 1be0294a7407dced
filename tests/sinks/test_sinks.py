"""Rows are exactly the schema; nothing in a cell can hurt; a killed writer's file can be continued."""

from __future__ import annotations

import codecs
import csv
import io
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from realtime_ser.errors import SinkError
from realtime_ser.events import Event, Gap, Marker, Measurement, SessionCreated, SpeechEnded, Warning
from realtime_ser.sinks.background import Background
from realtime_ser.sinks.csv import CsvSink, columns, keep_whole_files
from realtime_ser.sinks.jsonl import JsonLinesSink

LABELS = ("neutral", "happy")
COMMON = {"session_id": "s", "seq": 1, "start_s": 1.0, "end_s": 2.25}
SPOKEN = Measurement(
    **COMMON,
    trigger="hop",
    state="speech",
    utterance=1,
    label="happy",
    label_raw="happy",
    confidence=0.75,
    scores={"neutral": 0.2, "happy": 0.8},
    scores_smooth={"neutral": 0.25, "happy": 0.75},
    arousal=-0.00001,
    valence=0.5,
    level_dbfs=-20.04,
    snr_db=31.0,
    clipped=3,
    latency_ms=1.2345,
    wall_time="2026-01-01T00:00:00.000Z",
)
CREATED = SessionCreated(
    session_id="s",
    seq=0,
    start_s=0,
    end_s=0,
    model_id="m",
    model_sha256="abc",
    model_licence="none",
    labels=LABELS,
    settings={},
    versions={},
    source="x",
    affect="",
    wall_time="",
)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_are_the_designs_and_the_channel() -> None:
    assert ",".join(columns(["a", "b"])) == (
        "file,start,end,event,trigger,state,utterance,label,label_raw,confidence,arousal,valence,"
        "p_a,p_b,s_a,s_b,level_dbfs,snr_db,clipped,latency_ms,wall_time,channel,note"
    )


def test_a_measurements_row_has_its_decimals(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv", LABELS, file="a.wav")
    sink.write(SPOKEN)
    sink.close()
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == (
        "a.wav,1.000,2.250,measurement,hop,speech,1,happy,happy,0.7500,0.0000,0.5000,"
        "0.2000,0.8000,0.2500,0.7500,-20.0,31.0,3,1.23,2026-01-01T00:00:00.000Z,,"
    )


def test_what_does_not_exist_is_empty_never_zero(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv", LABELS, file="a.wav")
    sink.write(Measurement(**COMMON, trigger="hop", state="no_speech", scores={}, scores_smooth={}))
    sink.write(replace(SPOKEN, scores={"neutral": float("nan"), "happy": 0.5}, level_dbfs=float("-inf")))
    silent, odd = read(tmp_path / "t.csv")
    filled = {"file", "start", "end", "event", "trigger", "state", "clipped"}
    assert {k for k, v in silent.items() if v} == filled
    assert (odd["p_neutral"], odd["level_dbfs"]) == ("", "")


def test_gaps_warnings_and_markers_are_rows_with_a_note(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv", LABELS, file="a.wav")
    sink.write(Gap(**COMMON, cause="overflow", lost_samples=20_000))
    sink.write(Warning(**COMMON, code="clipped", message="too loud", remedy="lower"))
    sink.write(Marker(**COMMON, text="here"))
    assert [(r["event"], r["note"]) for r in read(tmp_path / "t.csv")] == [
        ("gap", "overflow: 20000 samples lost"),
        ("warning", "clipped: too loud; lower"),
        ("marker", "here"),
    ]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", "\x1b[2Jgone", "two\nlines", "tab\tbed", "\r=1", 'say "no", ok']
)
def test_no_text_is_a_formula_a_line_or_a_control_sequence(tmp_path: Path, text: str) -> None:
    sink = CsvSink(tmp_path / "t.csv", LABELS, file=text)
    sink.write(Marker(**COMMON, text=text))
    raw = (tmp_path / "t.csv").read_text()
    assert len(raw.splitlines()) == 2
    assert not any(ord(c) < 32 for c in raw.replace("\n", ""))
    for cell in (read(tmp_path / "t.csv")[0][k] for k in ("file", "note")):
        assert cell[0] not in "=+-@"


def test_every_row_is_on_disk_at_once(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv", LABELS, file="a.wav")
    for n in range(1, 4):
        sink.write(SPOKEN)
        assert len(read(tmp_path / "t.csv")) == n


def test_append_mends_an_unfinished_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    sink = CsvSink(path, LABELS, file="a.wav")
    sink.write(SPOKEN)
    sink.close()
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[1][:20])  # killed in the middle of a row
    sink = CsvSink(path, LABELS, file="a.wav", mode="append")
    sink.write(SPOKEN)
    sink.close()
    assert path.read_text() == whole + whole.splitlines()[1] + "\n"


def test_append_refuses_other_labels_another_model_and_what_is_no_timeline(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    sink = CsvSink(path, LABELS, file="a.wav")
    sink.write(CREATED)
    sink.close()
    with pytest.raises(SinkError, match="labels"):
        CsvSink(path, ("neutral", "sad"), file="a.wav", mode="append")
    other = CsvSink(path, LABELS, file="a.wav", mode="append")
    with pytest.raises(SinkError, match="another model"):
        other.write(replace(CREATED, model_sha256="def"))
    path.write_bytes(b"\xff\xfe no timeline")
    with pytest.raises(SinkError, match="no timeline"):
        CsvSink(path, LABELS, file="a.wav", mode="append")


def test_existing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("mine")
    for sink in (lambda: CsvSink(path, LABELS, file=""), lambda: JsonLinesSink(path)):
        with pytest.raises(SinkError, match="exists already"):
            sink()
    assert path.read_text() == "mine"


def test_sidecar_says_what_the_rows_were_made_with(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv", LABELS, file="a.wav")
    sink.write(CREATED)
    fields = json.loads((tmp_path / "t.csv.json").read_text())
    assert (fields["schema"], fields["model_id"], fields["model_sha256"]) == (1, "m", "abc")
    assert fields["columns"] == columns(LABELS)


def test_only_whole_utterances_if_so_wanted(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv", LABELS, file="a.wav", rows="utterance")
    pooled = replace(SPOKEN, trigger="utterance")
    events = (SPOKEN, pooled, SpeechEnded(**COMMON, utterance=1, duration_s=1.25, measurement=pooled))
    for event in (*events, Marker(**COMMON, text="x")):
        sink.write(event)
    assert [(r["event"], r["trigger"]) for r in read(tmp_path / "t.csv")] == [
        ("measurement", "utterance"),
        ("marker", ""),
    ]


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("old\n" * 1_000)
    CsvSink(path, LABELS, file="", mode="overwrite").close()
    assert path.read_text() == ",".join(columns(LABELS)) + "\n"


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_append_mends_a_header_that_was_cut_off(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "t.csv"
    whole = ",".join(columns(LABELS)) + "\n"
    path.write_text(whole[:kept])
    CsvSink(path, LABELS, file="", mode="append").close()
    assert path.read_text() == whole


def test_append_and_resume_go_on_in_what_a_spreadsheet_saved(tmp_path: Path) -> None:
    path = part(tmp_path / "t.csv", "ä.wav")
    saved = codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(saved)
    sink = CsvSink(path, LABELS, file="b.wav", mode="append")
    sink.write(SPOKEN)
    sink.close()
    assert path.read_bytes().startswith(saved)
    assert keep_whole_files(path, LABELS) == ["ä.wav"]
    assert path.read_bytes() == saved


@pytest.mark.parametrize("row", [b"a\rb.wav,0.000\n", b'"' + b"x" * 200_000 + b'"\n'])
def test_what_is_no_row_is_told_and_nothing_cut_off(tmp_path: Path, row: bytes) -> None:
    path = part(tmp_path / "t.csv", "a.wav")
    path.write_bytes(saved := path.read_bytes() + row)
    with pytest.raises(SinkError, match="has a row that is none"):
        keep_whole_files(path, LABELS)
    assert path.read_bytes() == saved


def test_a_timeline_whose_lines_do_not_end_as_ours_is_not_cut_off(tmp_path: Path) -> None:
    path = part(tmp_path / "t.csv", "a.wav")
    saved = path.read_bytes().replace(b"\n", b"\r")
    path.write_bytes(saved)
    with pytest.raises(SinkError, match="is no timeline"):
        CsvSink(path, LABELS, file="b.wav", mode="append")
    assert path.read_bytes() == saved


def part(path: Path, file: str, created: SessionCreated = CREATED) -> Path:
    sink = CsvSink(path, LABELS, file=file)
    sink.write(replace(created, source=file))
    sink.write(SPOKEN)
    sink.close()
    return path


def test_parts_are_joined_under_one_header_and_one_sidecar(tmp_path: Path) -> None:
    joined = CsvSink(tmp_path / "all.csv", LABELS, file="")
    for name in ("a.wav", "b.wav", "c.wav"):
        joined.join(part(tmp_path / f"{name}.csv", name))
    joined.close()
    assert [r["file"] for r in read(tmp_path / "all.csv")] == ["a.wav", "b.wav", "c.wav"]
    fields = json.loads((tmp_path / "all.csv.json").read_text())
    assert (fields["source"], fields["model_sha256"]) == (["a.wav", "b.wav", "c.wav"], "abc")


def test_a_part_of_another_model_is_not_joined_to_a_timeline_that_was_there(tmp_path: Path) -> None:
    path = part(tmp_path / "t.csv", "a.wav")
    before = path.read_bytes()
    joined = CsvSink(path, LABELS, file="", mode="append")
    with pytest.raises(SinkError, match="another model"):
        joined.join(part(tmp_path / "p.csv", "b.wav", replace(CREATED, model_sha256="def")))
    joined.close()
    assert path.read_bytes() == before


def test_json_lines_are_json_without_nan() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")  # as on Windows
    sink = JsonLinesSink(stream)
    sink.write(replace(SPOKEN, arousal=float("nan")))
    sink.write(Marker(**COMMON, text="ärger 怒り\n"))
    sink.close()
    content = stream.buffer.getvalue().decode()
    assert "怒り" in content
    assert not stream.closed
    first, second = (json.loads(line) for line in content.splitlines())
    assert first["type"] == "measurement"
    assert first["arousal"] is None
    assert first["scores"] == {"neutral": 0.2, "happy": 0.8}
    assert second["text"] == "ärger 怒り\n"


def test_json_lines_go_on_behind_their_own_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    sink = JsonLinesSink(path)
    sink.write(CREATED)
    sink.close()
    path.write_text(path.read_text() + '{"type":"meas')  # killed in the middle of a line
    sink = JsonLinesSink(path, "append")
    sink.write(Marker(**COMMON, text=""))
    sink.close()
    assert [json.loads(line)["type"] for line in path.read_text().splitlines()] == ["session.created", "marker"]
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())  # saved by an editor
    JsonLinesSink(path, "append").close()
    foreign = tmp_path / "notes.txt"
    for content in (b"one line, without an end", b'{"type":"other"}\n', b"\xff\xfe"):
        foreign.write_bytes(content)
        with pytest.raises(SinkError, match="holds no events"):
            JsonLinesSink(foreign, "append")
        assert foreign.read_bytes() == content


class Slow:
    """A sink whose disk hangs until released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.events: list[Event] = []
        self.closed = False

    def write(self, event: Event) -> None:
        self.release.wait()
        self.events.append(event)

    def close(self) -> None:
        self.closed = True


def test_a_hanging_disk_delays_nobody_and_loses_nothing() -> None:
    slow = Slow()
    sink = Background(slow, "t.csv")
    sent = [Marker(**(COMMON | {"seq": n}), text="") for n in range(1_000)]
    for event in sent:
        sink.write(event)  # returns although nothing can be written yet
    assert slow.events == []
    slow.release.set()
    sink.close()
    assert slow.events == sent
    assert slow.closed
