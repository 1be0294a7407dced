"""Agreement is that of the textbooks, counted where both sides say something."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime_ser.errors import TimelineError
from realtime_ser.timeline.annotations import Annotation
from realtime_ser.timeline.compare import (
    cohens_kappa,
    compare,
    concordance,
    fleiss_kappa,
    most_uncertain,
    random_windows,
)
from realtime_ser.timeline.read import Timeline, read_timeline
from realtime_ser.timeline.sound import check_length
from tests.cli.program import one_line, program
from tests.timeline.conftest import labelled

Demo = tuple[NDArray[np.int16], int]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_cohens_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    learned = pytest.importorskip("sklearn.metrics")
    confusion = np.zeros((4, 4), np.int64)
    for a, b in pairs:
        confusion[a, b] += 1
    expected = learned.cohen_kappa_score(*zip(*pairs, strict=True), labels=range(4))
    np.testing.assert_allclose(cohens_kappa(confusion), expected, atol=1e-9)


def test_fleiss_kappa_is_that_of_his_example() -> None:
    # Fleiss (1971), as worked out in many textbooks: 14 raters, 10 subjects, 5 categories.
    counts = np.array([
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ])  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


def test_concordance_punishes_a_shift_and_a_scale() -> None:
    values = np.linspace(-1, 1, 50)
    assert concordance(values, values) == pytest.approx(1)
    assert concordance(values, -values) == pytest.approx(-1)
    shift = 2 * values.var() / (2 * values.var() + 0.25)
    assert concordance(values, values + 0.5) == pytest.approx(shift)
    assert concordance(values, values / 2) < 0.85


def by_hop(timeline: Timeline) -> list[Annotation]:
    """Its numbers of each quarter of a second, as a rater's."""
    spoken = timeline.part(timeline.hops & (timeline.state != "no_speech"))
    ends = zip(spoken.end_s.tolist(), spoken.arousal.tolist(), strict=True)
    return [Annotation(end_s - 0.25, end_s, "", arousal) for end_s, arousal in ends]


def test_the_timeline_agrees_with_itself(timeline: Timeline) -> None:
    found = compare(timeline, [labelled(timeline)])
    assert found.agreement == 1
    assert found.only_timeline_s == found.only_raters_s == 0
    # A segment's mean stands for its hops, which differ from each other.
    assert 0 < found.arousal_concordance < compare(timeline, [by_hop(timeline)]).arousal_concordance
    assert found.confusion.sum() * 0.25 == found.compared_s > 5


def test_labels_may_be_capitalised_and_those_that_the_model_lacks_are_told(timeline: Timeline) -> None:
    spoken = [replace(a, label=a.label.capitalize()) for a in labelled(timeline)]
    assert compare(timeline, [spoken]).agreement == 1
    first, *others = labelled(timeline)
    assert compare(timeline, [[replace(first, label="Boredom"), *others]]).unknown == ("boredom",)


def test_utterances_are_compared_and_sampled_where_there_are_no_hops(timeline: Timeline) -> None:
    utterances = timeline.part(~timeline.hops)
    assert compare(utterances, [labelled(utterances)]).agreement == 1
    named = utterances.part((utterances.trigger == "utterance") & (utterances.state == "speech"))
    least = named.confidence.argmin()
    assert most_uncertain(utterances, 1) == [(named.start_s[least], named.end_s[least])]


def test_windows_to_rate_are_such_as_the_timeline_names(timeline: Timeline) -> None:
    assert (timeline.state == "abstain").any()
    named = timeline.part(timeline.hops & (timeline.state == "speech"))
    windows = set(zip(named.start_s.tolist(), named.end_s.tolist(), strict=True))
    uncertain = most_uncertain(timeline, 3)
    assert (drawn := random_windows(timeline, 3, uncertain))
    assert windows.issuperset(uncertain + drawn)


def test_where_one_side_is_silent_nothing_is_compared(timeline: Timeline) -> None:
    whole = [Annotation(0, timeline.duration_s, "neutral")]
    found = compare(timeline, [whole])
    assert found.only_raters_s == pytest.approx(timeline.duration_s - found.compared_s, abs=0.5)
    assert found.confusion[1:].sum() == 0
    with pytest.raises(TimelineError, match="shares no labelled moment"):
        compare(timeline, [[Annotation(1_000, 2_000, "neutral")]])


def test_a_label_within_a_longer_one_holds_while_it_lasts(timeline: Timeline) -> None:
    end_s = timeline.duration_s
    outer, inner, first = (
        Annotation(*span) for span in ((0, end_s, "bored", 0.5), (2, 6, "neutral", -0.5), (0, 4, "sad", 0.0))
    )
    cut = [
        Annotation(0, 2, "sad", 0.0),
        Annotation(2, 6, "neutral", -0.5),
        Annotation(6, end_s, "bored", 0.5),
    ]
    expected = compare(timeline, [cut])
    assert expected.confusion.any(axis=1).sum() > 1
    for labels in ([outer, inner, first], [first, inner, outer]):
        found = compare(timeline, [labels])
        assert found.compared_s == expected.compared_s
        assert found.confusion.sum() == expected.confusion.sum()
        assert found.agreement == expected.agreement
        assert found.cohens_kappa == pytest.approx(expected.cohens_kappa)
        assert found.arousal_concordance == pytest.approx(expected.arousal_concordance)


def test_a_majority_of_three_counts_and_their_own_words_have_rows(timeline: Timeline) -> None:
    whole = timeline.duration_s
    raters = [[Annotation(0, whole, label)] for label in ("bored", "bored", "neutral")]
    found = compare(timeline, raters)
    assert found.labels[-1] == "bored"
    assert found.confusion[found.labels.index("bored")].sum() == found.confusion.sum() > 0
    assert found.agreement == 0
    tie = compare(timeline, [[Annotation(0, whole, "bored")], [Annotation(0, whole, "neutral")]])
    assert tie.confusion.sum() == 0
    assert np.isnan(tie.agreement)
    assert tie.tied_s == tie.compared_s > 5


def test_numbers_without_a_label_are_compared_wherever_somebody_speaks(timeline: Timeline) -> None:
    whole = timeline.duration_s
    spoken = timeline.part(timeline.hops & (timeline.state != "no_speech"))
    middle = float(np.median(spoken.arousal))
    numbers = [replace(a, label="", valence=np.nan) for a in labelled(timeline)]
    alone = compare(timeline, [numbers])
    assert alone.compared_s == 0
    assert np.isnan(alone.agreement)
    assert compare(timeline, [by_hop(timeline)]).arousal_concordance == pytest.approx(1, abs=0.01)
    assert np.isnan(alone.valence_concordance)
    assert compare(timeline, [[Annotation(0, whole, "", middle)]]).affect_s > alone.affect_s > 5
    beside = compare(timeline, [numbers, labelled(timeline)])
    assert beside.agreement == 1
    assert beside.compared_s == alone.affect_s


def test_a_sample_can_be_rated_and_compared(tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    voice, table, folder = tmp_path / "v.wav", tmp_path / "v.csv", tmp_path / "rate"
    soundfile.write(voice, samples[20 * rate_hz : 50 * rate_hz], rate_hz)
    program("replay", voice, "--speed", "max", "--csv", table)
    sample = ("compare", table, "--sample", 2, "--audio", voice, "-o", folder)
    assert program(*sample).returncode == 0
    one_line(program(*sample), 1, "give a new folder")
    with (folder / "labels.csv").open(newline="") as file:
        blanks = list(csv.DictReader(file))
    with (folder / "key.csv").open(newline="") as file:
        key = list(csv.DictReader(file))
    assert sorted(row["drawn"] for row in key) == ["random", "random", "uncertain", "uncertain"]
    for row in blanks:
        seconds = float(row["end"]) - float(row["start"])
        assert soundfile.info(folder / row["clip"]).duration == pytest.approx(seconds, abs=0.01)
        assert not row["label"]
    spans = sorted((float(row["start"]), float(row["end"])) for row in blanks)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    one_line(program("compare", table, folder / "labels.csv"), 1, "holds no labels")
    for row in blanks:
        row |= {"label": "neutral", "arousal": "0.5", "valence": "0"}
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(blanks[0]))
        writer.writeheader()
        writer.writerows(blanks)
    told = json.loads(program("compare", table, folder / "labels.csv", "--json").stdout)
    assert told["compared_s"] > 0
    assert "agreement" in program("compare", table, folder / "labels.csv").stdout
    one_line(program("compare", table), 2, "no labels")
    one_line(program("compare", table, tmp_path / "none.txt"), 1, "no such file")


def test_silence_behind_the_last_utterance_is_of_the_recording_too(tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    voice, table, folder = tmp_path / "v.wav", tmp_path / "v.csv", tmp_path / "rate"
    soundfile.write(voice, np.pad(samples[25 * rate_hz : 35 * rate_hz], (0, 4 * rate_hz)), rate_hz)
    program("analyze", voice, "--csv", table, "--rows", "utterance")
    assert program("compare", table, "--sample", 1, "--audio", voice, "-o", folder).returncode == 0
    check_length(voice, 14, read_timeline(table))  # as `report` does


def test_a_sample_of_several_lanes_or_of_other_audio_is_refused(
    written: tuple[Path, Path], timeline: Timeline, demo: Demo, tmp_path: Path
) -> None:
    samples, rate_hz = demo
    names = ("v.wav", "v.csv", "empty.wav", "other.wav", "rate")
    voice, table, empty, other, folder = (tmp_path / name for name in names)
    soundfile.write(voice, samples[27 * rate_hz : 33 * rate_hz], rate_hz)
    soundfile.write(empty, samples[:0], rate_hz)
    sample = ("--sample", 2, "-o", folder, "--audio")
    one_line(program("compare", written[0], *sample, voice), 1, "has 2 channels: 1, 2: name one with --channel")
    second = ("compare", written[0], "--channel", 2, *sample)
    one_line(program(*second, voice), 1, "v.wav: has no channel 2")
    program("replay", voice, "--speed", "max", "--csv", table)
    one_line(program("compare", table, *sample, empty), 1, "empty.wav: has no samples")
    for seconds in (3, 9):
        soundfile.write(other, samples[: seconds * rate_hz], rate_hz)
        one_line(program("compare", table, *sample, other), 1, f"other.wav: is {seconds}.0 s long, the timeline 6.0 s")
    assert not folder.exists()


def test_clips_of_one_channel_hold_nothing_of_the_other(written: tuple[Path, Path], tmp_path: Path) -> None:
    call, folder = tmp_path / "call.wav", tmp_path / "rate"
    tone = np.full(16_000 * 30, 0.25, np.float32)
    soundfile.write(call, np.stack((-tone, tone), axis=1), 16_000, "FLOAT")
    assert program("compare", written[0], "--channel", 2, "--sample", 2, "--audio", call, "-o", folder).returncode == 0
    clips = list(folder.glob("*.wav"))
    assert clips
    for clip in clips:
        samples, _ = soundfile.read(clip)
        assert samples.ndim == 1
        assert np.all(samples > 0)


def test_a_timeline_that_names_nothing_gives_no_clips(written: tuple[Path, Path], tmp_path: Path, demo: Demo) -> None:
    samples, rate_hz = demo
    voice, table, folder = tmp_path / "v.wav", tmp_path / "v.csv", tmp_path / "rate"
    soundfile.write(voice, np.zeros_like(samples[: 6 * rate_hz]), rate_hz)
    program("replay", voice, "--speed", "max", "--csv", table)
    one_line(program("compare", table, "--sample", 2, "--audio", voice, "-o", folder), 1, "names no emotion")
    assert not folder.exists()


def test_one_lane_of_many_is_compared(written: tuple[Path, Path], tmp_path: Path) -> None:
    table, many = written[0], tmp_path / "many.csv"
    labels = tmp_path / "call.txt"
    assert program("export", table, "--to", "audacity", "-o", labels).returncode == 0
    one_line(program("compare", table, labels), 1, "has 2 channels: 1, 2: name one with --channel")
    one_line(program("compare", table, labels, "--channel", 3), 1, "has no channel 3: there are: 1, 2")
    head, *rows = table.read_text().splitlines(keepends=True)
    many.write_text(head + "".join(rows) + "".join(rows).replace("call, one.wav", "b.wav"))
    one_line(program("compare", many, labels), 1, "holds 2 recordings: name one of them with --recording")
    whole = program("compare", many, labels, "--recording", "b.wav", "--channel", 2, "--json")
    told = json.loads(whole.stdout)
    assert told["agreement"] == 1
    assert told["unknown"] == []


def test_what_cannot_be_judged_is_no_disagreement(written: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("neutral", "bored"):
        (tmp_path / name).write_text(f"0\t30\t{name}\n")
    arguments = ("compare", written[0], "--channel", 1, tmp_path / "neutral", tmp_path / "bored")
    told = program(*arguments).stdout
    assert "tied between raters" in told
    assert "agreement –, Cohen's kappa –" in told
    assert json.loads(program(*arguments, "--json").stdout)["agreement"] is None
    assert "\nmoments: people by row, timeline by column\n" in program(*arguments[:5]).stdout
