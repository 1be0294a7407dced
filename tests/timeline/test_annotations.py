"""What people labelled is found in their files, or refused in a line that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime_ser.errors import TimelineError
from realtime_ser.timeline.annotations import Wanted, read_annotations
from realtime_ser.timeline.compare import compare, of_channel
from realtime_ser.timeline.export import export
from realtime_ser.timeline.read import Timeline, read_timeline
from tests.timeline.conftest import labelled


@pytest.mark.parametrize(
    ("format_", "name"), [("audacity", "t.txt"), ("textgrid", "t.TextGrid"), ("elan", "t.eaf"), ("audformat", "t")]
)
def test_every_format_of_labels_is_read(timeline: Timeline, tmp_path: Path, format_: str, name: str) -> None:
    pytest.importorskip("praatio")
    alone = timeline.part(timeline.event != "marker")
    alone.channel[:] = 0
    export(alone, format_, tmp_path / name)
    read = [a for a in read_annotations(tmp_path / name) if a.label in timeline.labels]
    expected = labelled(timeline)
    assert sum(a.end_s - a.start_s for a in read) == pytest.approx(sum(a.end_s - a.start_s for a in expected), abs=0.05)
    assert compare(timeline, [read]).agreement == 1


@pytest.mark.parametrize(
    ("format_", "name"), [("audacity", "t.txt"), ("textgrid", "t.TextGrid"), ("elan", "t.eaf"), ("audformat", "t")]
)
def test_an_export_of_a_call_is_read_for_each_channel(
    written: tuple[Path, Path], tmp_path: Path, format_: str, name: str
) -> None:
    pytest.importorskip("praatio")
    call = read_timeline(written[0])
    for channel in (1, 2):
        one = of_channel(call, channel)
        export(call, format_, tmp_path / name, overwrite=True)
        told: list[str] = []
        read = read_annotations(tmp_path / name, Wanted(one.labels, one.file[0], channel, tell=told.append))
        found = compare(one, [read])
        assert (found.agreement, found.unknown, found.only_raters_s) == (1, (), 0)
        if format_ in ("textgrid", "elan"):
            assert f"tier 'label {channel}' was read, of 'utterance 1', 'label 1'" in told[0]


WORDS = [(0.0, 1.0, "well"), (1.0, 2.0, "no")]
FEELINGS = [(0.0, 1.0, "Neutral"), (1.0, 2.0, "bored")]


def tiers(folder: Path, suffix: str, **content: list[tuple[float, float, str]]) -> Path:
    """A file of these tiers behind, as others have them, an empty one and (in a TextGrid) one of points."""
    path = folder / f"t{suffix}"
    if suffix == ".eaf":
        elan = pytest.importorskip("pympi.Elan").Eaf()  # has an empty tier "default"
        for name, entries in content.items():
            elan.add_tier(name)
            for start_s, end_s, label in entries:
                elan.add_annotation(name, round(1000 * start_s), round(1000 * end_s), label)
        elan.to_file(str(path))
    else:
        praat = pytest.importorskip("praatio.textgrid")
        grid = praat.Textgrid(0, 3)
        grid.addTier(praat.PointTier("clicks", [(1.0, "neutral")], 0, 3))
        for name, entries in content.items():
            grid.addTier(praat.IntervalTier(name, entries, 0, 3))
        grid.save(str(path), "long_textgrid", includeBlankSpaces=True)
    return path


@pytest.mark.parametrize("suffix", [".TextGrid", ".eaf"])
def test_the_tier_with_labels_is_found_or_asked_for(tmp_path: Path, suffix: str) -> None:
    labels = ("neutral", "angry")
    told: list[str] = []
    wanted = Wanted(labels, tell=told.append)

    def read(path: Path, wanted: Wanted = wanted) -> list[str]:
        return [one.label for one in read_annotations(path, wanted)]

    assert read(tiers(tmp_path, suffix, anna=WORDS)) == ["well", "no"]
    assert not told
    both = tiers(tmp_path, suffix, words=WORDS, anna=FEELINGS)
    assert read(both) == ["Neutral", "bored"]
    assert told == [f"{both}: tier 'anna' was read, of 'words', 'anna'"]
    assert read(both, replace(wanted, tier="words")) == ["well", "no"]
    assert len(told) == 1
    with pytest.raises(TimelineError, match="no labels in a tier 'ben': there are: 'words', 'anna'"):
        read(both, replace(wanted, tier="ben"))
    for content in ({"anna": FEELINGS, "ben": FEELINGS}, {"words": WORDS, "notes": WORDS}):
        with pytest.raises(TimelineError, match=r"several tiers: .* with --tier"):
            read(tiers(tmp_path, suffix, **content))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_another_timeline_is_a_rater_whose_labels_are_its_segments(
    written: tuple[Path, Path], timeline: Timeline, tmp_path: Path, suffix: str
) -> None:
    other = next(path for path in written if path.suffix == suffix)
    wanted = Wanted(timeline.labels, timeline.file[0], 1)
    read = [a for a in read_annotations(other, wanted) if a.label]
    expected = labelled(timeline)
    assert [(a.start_s, a.end_s, a.label) for a in read] == [(a.start_s, a.end_s, a.label) for a in expected]
    assert [a.arousal for a in read] == pytest.approx([a.arousal for a in expected], abs=1e-3)
    with pytest.raises(TimelineError, match="has 2 lanes, none of them 'x'"):
        read_annotations(other, replace(wanted, file="x"))
    told: list[str] = []
    cut = tmp_path / other.name
    cut.write_bytes(other.read_bytes()[:-40])
    assert read_annotations(cut, replace(wanted, tell=told.append))
    assert "cut off" in told[0]


def test_labels_in_a_database_are_those_of_the_recording(timeline: Timeline, tmp_path: Path) -> None:
    pytest.importorskip("audformat")
    other = replace(timeline, file=np.full(len(timeline), "other.wav", object))
    columns = {
        name: np.concatenate([values, getattr(other, name)])
        for name, values in vars(timeline).items()
        if isinstance(values, np.ndarray)
    }
    export(replace(timeline, **columns), "audformat", tmp_path / "t")
    wanted = Wanted(timeline.labels, "other.wav", 1)
    read = read_annotations(tmp_path / "t", wanted)
    assert [a.label for a in read if a.label] == [a.label for a in labelled(timeline)]


@pytest.mark.parametrize("header", ["start,end,label,arousal", "Start, End, Label, Arousal"])
def test_spaces_and_capitals_of_a_table_mean_nothing(tmp_path: Path, header: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n0, 1, angry ,\n1,2,,0.5\n2,3,,\n")
    found = read_annotations(path)
    assert [(a.start_s, a.end_s, a.label) for a in found] == [(0, 1, "angry"), (1, 2, "")]
    assert found[1].arousal == 0.5


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "start,end,label\n0,5,1,5,sad\n", "line 2: has more cells .* decimals with a point"),
        ("t.csv", 'start,end,label\n"0,5",1,sad\n', "line 2: '0,5' is no number; write decimals with a point"),
        ("t.txt", "0,5\t1,5\tsad\n", "'0,5' is no number; write decimals with a point"),
        ("t.csv", "start,end,label\n0,1,s\rad\n", "line 3: 'ad' is no number"),
        ("t.csv", f"start,end,label\n0,1,{'x' * 200_000}\n", "line 2: field larger"),
        ("t.csv", "from,to,label\n0,1,sad\n", "it has no column 'start'"),
        ("t.csv", "start,end,emotion\n0,1,sad\n", "it has no column 'label'"),
    ],
)
def test_labels_that_cannot_be_read_are_told_by_line(tmp_path: Path, name: str, content: str, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    with pytest.raises(TimelineError, match=told):
        read_annotations(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.csv", "start,end,label\r\n0.5,1.25,müde\r\n,,\r\n"), ("t.txt", "0.5\t1.25\tmüde\r\n")],
)
def test_labels_saved_with_a_byte_order_mark_are_read(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8-sig"))
    (label,) = read_annotations(path)
    assert (label.start_s, label.end_s, label.label) == (0.5, 1.25, "müde")


@pytest.mark.parametrize(
    "content",
    [
        "clip;start;end;label;arousal;valence\n001.wav;1250;4250;sad;0,5;\n",
        "clip,start,end,label,arousal,valence;\n001.wav,1.250,4.250,,,;sad\n",  # all in a spreadsheet's first column
    ],
)
def test_labels_separated_by_semicolons_are_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(TimelineError, match="separated by semicolons; save it with commas"):
        read_annotations(path)


@pytest.mark.parametrize("content", ["", "1\t2", "one\ttwo\tsad\n", "\x00"])
def test_what_are_no_labels_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(content)
    with pytest.raises(TimelineError, match=r"labels\.txt: "):
        read_annotations(path)
