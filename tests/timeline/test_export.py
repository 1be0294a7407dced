"""Each format is read back by its own maintained reader, and says the same."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime_ser.errors import SettingsError, SinkError, TimelineError
from realtime_ser.timeline.export import FORMATS, export
from realtime_ser.timeline.read import Timeline, read_timeline
from realtime_ser.timeline.report import report
from realtime_ser.timeline.segments import Segment, lanes, segments
from realtime_ser.timeline.statistics import statistics
from tests.cli.program import one_line, program

Demo = tuple[NDArray[np.int16], int]


@pytest.fixture(scope="module")
def timeline(written: tuple[Path, Path]) -> Timeline:
    return read_timeline(written[0])


@pytest.fixture(scope="module")
def spoken(timeline: Timeline) -> list[Segment]:
    """Labelled and abstained stretches of both channels."""
    found = [s for lane in lanes(timeline) for s in segments(timeline, lane) if s.state in ("speech", "abstain")]
    assert len(found) > 5
    assert {s.channel for s in found} == {1, 2}
    return found


def text_of(segment: Segment) -> str:
    return f"{segment.channel}: {segment.label or 'unsure'}"


def test_audacity(timeline: Timeline, spoken: list[Segment], tmp_path: Path) -> None:
    export(timeline, "audacity", tmp_path / "t.txt")
    rows = [line.split("\t") for line in (tmp_path / "t.txt").read_text().splitlines()]
    assert all(len(start.split(".")[1]) == len(end.split(".")[1]) == 6 for start, end, _ in rows)
    expected = sorted((round(s.start_s, 6), round(s.end_s, 6), text_of(s)) for s in spoken)
    assert sorted((float(a), float(b), c) for a, b, c in rows if ": " in c and c[0].isdigit()) == expected
    assert sum(c.startswith("gap: a test") for *_, c in rows) == 2
    assert [c for *_, c in rows if c.startswith("marker")] == ['marker: he said "no"'] * 2
    assert rows == sorted(rows, key=lambda row: float(row[0]))


def test_textgrid(timeline: Timeline, spoken: list[Segment], tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid")
    export(timeline, "textgrid", tmp_path / "t.TextGrid")
    grid = textgrid.openTextgrid(str(tmp_path / "t.TextGrid"), includeEmptyIntervals=True)
    kinds = ("utterance", "label", "state")
    assert set(grid.tierNames) == {f"{kind} {channel}" for kind in kinds for channel in (1, 2)} | {"marker"}
    for name in grid.tierNames:
        tier = grid.getTier(name)
        if name == "marker":
            continue
        edges = [(e.start, e.end) for e in tier.entries]
        assert edges[0][0] == 0
        assert edges[-1][1] == pytest.approx(timeline.duration_s)
        assert all(a[1] == b[0] for a, b in pairwise(edges))  # no holes
    for channel in (1, 2):
        heard = [(e.start, e.end, e.label) for e in grid.getTier(f"label {channel}").entries if e.label]
        merged: list[tuple[float, float, str]] = []
        for s in (s for s in spoken if s.channel == channel and s.label):
            touches = merged and merged[-1][2] == s.label and s.start_s - merged[-1][1] < 1e-6
            start = merged.pop()[0] if touches else s.start_s
            merged.append((start, s.end_s, s.label))
        assert [h[2] for h in heard] == [m[2] for m in merged]
        np.testing.assert_allclose([h[:2] for h in heard], [m[:2] for m in merged], atol=1e-6)


@pytest.mark.parametrize(("format_", "name"), [("webvtt", "t.vtt"), ("srt", "t.srt")])
def test_captions(timeline: Timeline, spoken: list[Segment], tmp_path: Path, format_: str, name: str) -> None:
    webvtt = pytest.importorskip("webvtt")
    export(timeline, format_, tmp_path / name)
    captions = (webvtt.read if format_ == "webvtt" else webvtt.from_srt)(str(tmp_path / name))
    expected = sorted(spoken, key=lambda s: s.start_s)
    assert [c.text for c in captions] == [f"{text_of(s)} {s.confidence:.0%}" for s in expected]
    times = [(c.start_in_seconds, c.end_in_seconds) for c in captions]
    np.testing.assert_allclose(times, [(int(s.start_s), int(s.end_s)) for s in expected], atol=1)
    assert captions[0].start.endswith(f"{round(1000 * expected[0].start_s) % 1000:03}")


def test_elan(timeline: Timeline, spoken: list[Segment], tmp_path: Path) -> None:
    elan = pytest.importorskip("pympi.Elan")
    export(timeline, "elan", tmp_path / "t.eaf")
    eaf = elan.Eaf(str(tmp_path / "t.eaf"))
    for channel in (1, 2):
        read = sorted(eaf.get_annotation_data_for_tier(f"label {channel}"))
        mine = [s for s in spoken if s.channel == channel and s.label]
        assert [r[:3] for r in read] == [(round(1000 * s.start_s), round(1000 * s.end_s), s.label) for s in mine]
    assert {r[2] for r in eaf.get_annotation_data_for_tier("marker")} == {'he said "no"'}


def test_audformat(timeline: Timeline, spoken: list[Segment], tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    export(timeline, "audformat", tmp_path / "db")
    database = audformat.Database.load(str(tmp_path / "db"))
    assert list(database.tables) == ["emotion.1", "emotion.2"]
    for channel in (1, 2):
        frame, mine = database[f"emotion.{channel}"].get().reset_index(), [s for s in spoken if s.channel == channel]
        assert frame["file"].tolist() == ["call, one.wav"] * len(mine)
        np.testing.assert_allclose(frame["start"].dt.total_seconds(), [s.start_s for s in mine], atol=1e-6)
        np.testing.assert_allclose(frame["end"].dt.total_seconds(), [s.end_s for s in mine], atol=1e-6)
        np.testing.assert_allclose(frame["arousal"], [s.arousal for s in mine])
        assert frame["label"].astype(object).where(frame["label"].notna(), "").tolist() == [s.label for s in mine]


def test_the_same_in_both_channels_is_in_both_tables(timeline: Timeline, tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    one = timeline.part(timeline.channel == 1)
    columns = {f.name: getattr(one, f.name) for f in fields(one) if isinstance(getattr(one, f.name), np.ndarray)}
    dual = replace(one, **{name: np.concatenate((values, values)) for name, values in columns.items()})
    dual.channel[len(one) :] = 2
    export(dual, "audformat", tmp_path / "dual")
    database = audformat.Database.load(str(tmp_path / "dual"))
    assert database["emotion.1"].df.equals(database["emotion.2"].df)
    export(replace(one, channel=0 * one.channel), "audformat", tmp_path / "mono")
    database = audformat.Database.load(str(tmp_path / "mono"))
    assert list(database.tables) == ["emotion"]


def test_emotionml(timeline: Timeline, spoken: list[Segment], tmp_path: Path) -> None:
    etree = pytest.importorskip("lxml.etree")
    export(timeline, "emotionml", tmp_path / "t.emotionml")
    root = etree.parse(str(tmp_path / "t.emotionml")).getroot()
    space = "{http://www.w3.org/2009/10/emotionml}"
    assert root.tag == f"{space}emotionml"
    vocabularies = {v.get("id"): [i.get("name") for i in v] for v in root.iter(f"{space}vocabulary")}
    assert vocabularies == {"labels": list(timeline.labels), "affect": ["arousal", "valence"]}
    emotions = list(root.iter(f"{space}emotion"))
    assert [e.find(f"{space}reference").get("uri") for e in emotions] == [
        f"call%2C%20one.wav#t={s.start_s:.3f},{s.end_s:.3f}&track={s.channel}" for s in spoken
    ]
    for emotion, s in zip(emotions, spoken, strict=True):
        assert [c.get("name") for c in emotion.iter(f"{space}category")] == ([s.label] if s.label else [])
        values = {d.get("name"): float(d.get("value")) for d in emotion.iter(f"{space}dimension")}
        assert values["arousal"] == pytest.approx((s.arousal + 1) / 2, abs=1e-4)


def test_emotionml_names_are_tokens_and_the_w3c_schema_agrees(timeline: Timeline, tmp_path: Path) -> None:
    etree = pytest.importorskip("lxml.etree")
    odd = ("very angry", "so-so", *timeline.labels[2:])
    label = np.array(["very angry" if found else "" for found in timeline.label], object)
    export(replace(timeline, labels=odd, label=label), "emotionml", tmp_path / "t.emotionml")
    document = etree.parse(str(tmp_path / "t.emotionml"))
    names = {e.get("name") for e in document.iter("{*}category", "{*}item")}
    assert {"very_angry", "so-so"} <= names
    assert "very angry" not in names
    # The W3C's schema is not ours to ship: whoever has it says where it lies.
    if schema := os.environ.get("EMOTIONML_XSD"):
        etree.XMLSchema(etree.parse(schema)).assertValid(document)


def test_rttm(timeline: Timeline, spoken: list[Segment], tmp_path: Path) -> None:
    export(timeline, "rttm", tmp_path / "t.rttm")
    rows = [line.split() for line in (tmp_path / "t.rttm").read_text().splitlines()]
    assert all(len(row) == 10 and row[0] == "SPEAKER" for row in rows)
    assert [(int(r[2]), float(r[3]), r[7]) for r in rows] == [
        (s.channel, round(s.start_s, 3), s.label or "unsure") for s in spoken
    ]


def test_parquet(timeline: Timeline, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    export(timeline, "parquet", tmp_path / "t.parquet")
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    for name, values in timeline.columns().items():
        if values.dtype == object:
            assert frame[name].astype(object).where(frame[name].notna(), "").tolist() == values.tolist()
        else:
            np.testing.assert_array_equal(frame[name].fillna(0).to_numpy(), np.nan_to_num(values))


@pytest.mark.parametrize("format_", FORMATS)
def test_an_empty_timeline_can_be_written_in_every_format(
    written: tuple[Path, Path], tmp_path: Path, format_: str
) -> None:
    empty = tmp_path / "t.csv"
    empty.write_text(written[0].read_text().splitlines(keepends=True)[0])
    export(read_timeline(empty), format_, tmp_path / "out")
    assert (tmp_path / "out").exists()


def test_what_exists_is_kept_and_nothing_half_written_is_left(timeline: Timeline, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("mine")
    with pytest.raises(SinkError, match="exists already"):
        export(timeline, "audacity", path)
    export(timeline, "audacity", path, overwrite=True)
    with pytest.raises(SettingsError, match="there are: audacity"):
        export(timeline, "word", path)
    with pytest.raises(SinkError, match="cannot be written"):
        export(timeline, "audacity", tmp_path / "none" / "t.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize("format_", ["audacity", "parquet"])
def test_a_folder_in_the_place_of_a_file_is_kept(timeline: Timeline, tmp_path: Path, format_: str) -> None:
    folder = tmp_path / "Documents"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(SinkError, match="Documents: is a folder: name a file"):
        export(timeline, format_, folder, overwrite=True)
    assert (folder / "mine.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["Documents"]


@pytest.mark.parametrize("names", [["mine.txt"], ["db.yaml", "mine.wav"], []])
def test_a_folder_with_anything_but_a_database_is_kept(timeline: Timeline, tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("mine")
    with pytest.raises(SinkError, match="is no folder with an audformat database alone"):
        export(timeline, "audformat", folder, overwrite=True)
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SinkError, match="is no folder"):
        export(timeline, "audformat", tmp_path / "file", overwrite=True)


def test_a_database_is_replaced_once_the_new_one_is_in_its_place(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audformat = pytest.importorskip("audformat")
    path = tmp_path / "db"
    export(timeline, "audformat", path)
    channels = ["emotion.1", "emotion.2"]
    assert list(audformat.Database.load(str(path)).tables) == channels
    first = timeline.part(timeline.channel == 1)
    move = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".realtime-ser-") and self.name == "db":
            raise OSError(5, "Input/output error")
        return move(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fails)
        with pytest.raises(SinkError, match=r"cannot be written \(input/output error\)"):
            export(first, "audformat", path, overwrite=True)
    assert list(audformat.Database.load(str(path)).tables) == channels
    export(first, "audformat", path, overwrite=True)
    assert list(audformat.Database.load(str(path)).tables) == channels[:1]
    monkeypatch.chdir(path)
    export(timeline, "audformat", Path(), overwrite=True)
    assert list(audformat.Database.load(str(path)).tables) == channels
    assert [p.name for p in tmp_path.iterdir()] == ["db"]


def test_several_recordings_need_a_choice_where_there_is_room_for_one(timeline: Timeline, tmp_path: Path) -> None:
    timeline.file[-1], before = "other.wav", timeline.file[-1]
    try:
        with pytest.raises(TimelineError, match="holds 2 recordings"):
            export(timeline, "textgrid", tmp_path / "t.TextGrid")
        export(timeline, "parquet", tmp_path / "t.parquet")
    finally:
        timeline.file[-1] = before


def test_utterances_are_exported_where_there_are_no_hops(timeline: Timeline, tmp_path: Path) -> None:
    whole = timeline.trigger == "utterance"
    export(timeline.part(~timeline.hops), "audacity", tmp_path / "t.txt")
    rows = [line.split("\t") for line in (tmp_path / "t.txt").read_text().splitlines()]
    texts = [
        f"{c}: {label or 'unsure'}" for c, label in zip(timeline.channel[whole], timeline.label[whole], strict=True)
    ]
    assert sorted((float(end), text) for _, end, text in rows if text[0].isdigit()) == sorted(
        zip(timeline.end_s[whole].tolist(), texts, strict=True)
    )


def test_each_session_of_an_appended_timeline_is_exported_by_its_name(demo: Demo, tmp_path: Path) -> None:
    samples, rate_hz = demo
    table, labels = tmp_path / "t.csv", tmp_path / "t.labels.txt"
    for seconds, more in ((6, ()), (4, ("--append",))):
        raw = samples[: seconds * rate_hz].tobytes()
        command = ("replay", "-", "--rate", rate_hz, "--speed", "max", "--csv", table, *more)
        assert program(*command, stdin=raw).returncode == 0
    timeline = read_timeline(table)
    first, second = lanes(timeline)
    assert second.file == f"{first.file} (2)"
    assert statistics(timeline).audio_s == pytest.approx(10, abs=0.5)  # up to the last hop
    assert report([timeline]).count('class="plot"') == 2
    one_line(program("export", table, "--to", "audacity"), 1, "holds 2 recordings", f"such as {second.file!r}")
    ends = []
    for lane in (first, second):
        assert program("export", table, "--to", "audacity", "--recording", lane.file, "--overwrite").returncode == 0
        ends.append([float(line.split("\t")[1]) for line in labels.read_text().splitlines()])
    assert all(found == sorted(found) for found in ends)
    assert 4 < ends[0][-1] <= 6
    assert ends[1][-1] <= 4


def test_rttm_tells_two_sessions_apart(timeline: Timeline, tmp_path: Path) -> None:
    half = timeline.file.copy()
    half[timeline.channel == 2] += " (2)"
    export(replace(timeline, file=half), "rttm", tmp_path / "t.rttm")
    rows = [line.split() for line in (tmp_path / "t.rttm").read_text().splitlines()]
    assert {(row[1], row[2]) for row in rows} == {("call,_one", "1"), ("call,_one_(2)", "2")}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("anna/1.wav", "ben/1.wav"), ("anna/1", "ben/1")),
        (("day/a.wav", "day/a.flac"), ("a.wav", "a.flac")),
        (("/x/day one/1.wav", "/x/2.wav"), ("1", "2")),
        (("1.wav", "day/1.wav"), ("1", "day/1")),
        (("x/day/1.wav", "y/day/1.wav"), ("x/day/1", "y/day/1")),
    ],
)
def test_recordings_of_one_name_stay_two(
    timeline: Timeline, tmp_path: Path, files: tuple[str, str], names: tuple[str, str]
) -> None:
    both = replace(timeline, file=np.array([files[channel - 1] for channel in timeline.channel], object))
    export(both, "rttm", tmp_path / "t.rttm")
    rows = [line.split() for line in (tmp_path / "t.rttm").read_text().splitlines()]
    assert {(row[2], row[1]) for row in rows} == {("1", names[0]), ("2", names[1])}
    page = report([both])
    for file, name in zip(files, names, strict=True):
        assert f"<h2>{name.removesuffix(Path(file).suffix)}{Path(file).suffix}, channel" in page


def test_the_command_writes_beside_the_timeline_and_refuses_nonsense(written: tuple[Path, Path]) -> None:
    done = program("export", written[0], "--to", "audacity")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name == "call.labels.txt"
    one_line(program("export", written[0], "--to", "audacity"), 1, "exists already")
    one_line(program("export", written[0], "--to", "word"), 2, "give one of audacity")
    one_line(program("export", written[0].parent / "none.csv", "--to", "srt"), 1, "no such file")
    one_line(program("export", written[0], "--to", "srt", "--recording", "x.wav"), 1, "has no recording 'x.wav'")


def test_the_timeline_itself_is_never_replaced(written: tuple[Path, Path]) -> None:
    before = written[0].read_bytes()
    with pytest.raises(SinkError, match="is the timeline itself"):
        export(read_timeline(written[0]), "audacity", written[0], overwrite=True)
    assert written[0].read_bytes() == before
