"""Each moment is counted once, as what it was."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from realtime_ser.errors import TimelineError
from realtime_ser.timeline.read import read_timeline
from realtime_ser.timeline.report import report
from realtime_ser.timeline.segments import lanes, segments
from realtime_ser.timeline.statistics import episodes, statistics

HEADER = (
    "file,start,end,event,trigger,state,utterance,label,label_raw,confidence,arousal,valence,p_calm,p_wild,s_calm,s_wild,"
    "level_dbfs,snr_db,clipped,latency_ms,wall_time,channel,note"
)


def spoken(start: float, end: float, label: str, arousal: float = 0.0, utterance: int = 1) -> str:
    state = "speech" if label else "abstain"
    scores = "0.5,0.5,0.5,0.5"
    return f"a.wav,{start},{end},measurement,hop,{state},{utterance},{label},calm,0.5,{arousal},0,{scores},-20,30,0,,,,"


def silent(start: float, end: float) -> str:
    return f"a.wav,{start},{end},measurement,hop,no_speech,,,,,,,,,,,-60,,0,,,,"


ROWS = [
    silent(0, 0.25),
    silent(0.25, 0.5),
    spoken(0.4, 1.4, "calm", 0.1),  # the pre-roll was told as silence
    spoken(0.4, 1.65, "calm", 0.2),
    spoken(0.4, 1.9, "wild", 0.9),
    "a.wav,0.4,2,measurement,utterance,speech,1,wild,wild,0.5,0.5,0,0.5,0.5,,,-20,30,0,,,,",
    silent(2.2, 2.45),
    spoken(2.45, 3.45, "wild", 0.8, 2),
    spoken(2.45, 3.7, "", 0.7, 2),
    "a.wav,4,6,gap,,,,,,,,,,,,,,,,,,,lost: 32000 samples lost",
    spoken(6, 7, "calm", 0.0, 3),
]


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


def test_by_hand(by_hand: Path) -> None:
    found = statistics(read_timeline(by_hand))
    assert found.audio_s == 7
    assert found.scored_s == pytest.approx(1.5 + 1.0 + 1.0)
    assert found.abstained_s == pytest.approx(0.25)
    assert found.silent_s == pytest.approx(0.4 + 0.25)
    assert found.lost_s == pytest.approx(2)
    assert found.unscored_s == pytest.approx(7 - 3.5 - 0.25 - 0.65 - 2)
    assert found.shares == pytest.approx({"calm": 2.25 / 3.5, "wild": 1.25 / 3.5})
    assert found.transitions == {("calm", "wild"): 1}  # over the pause, not over the gap
    assert (found.longest["wild"].start_s, found.longest["wild"].end_s) == (1.65, 3.45)
    assert found.longest["wild"].speech_s == pytest.approx(1.25)
    assert found.arousal_mean == pytest.approx((0.1 + 0.2 * 0.25 + 0.9 * 0.25 + 0.8 + 0.7 * 0.25 + 0) / 3.75)
    assert found.arousal_p90 == 0.8  # a fifteenth of the speech is above it


def test_the_longest_stretch_is_that_with_the_most_speech(by_hand: Path) -> None:
    often = [spoken(0, 1, "calm"), silent(1, 600), spoken(600, 601, "calm"), spoken(601, 602, "wild")]
    by_hand.write_text("\n".join([HEADER, *often, spoken(602, 605, "calm")]) + "\n")
    timeline = read_timeline(by_hand)
    longest = statistics(timeline).longest["calm"]
    assert (longest.start_s, longest.end_s, longest.speech_s) == (602, 605, 3)
    assert "<th>calm</th><td>3.0 s from 10.0 min on</td>" in report([timeline])


def test_episodes_go_over_pauses_and_end_at_gaps(by_hand: Path) -> None:
    timeline = read_timeline(by_hand)
    (episode,) = episodes(timeline, timeline.arousal > 0.6, 1.0)
    assert (episode.start_s, episode.end_s) == (1.65, 3.7)
    assert episodes(timeline, timeline.arousal > 0.6, 2.0) == []


def test_a_real_timelines_seconds_add_up_to_its_audio(written: tuple[Path, Path]) -> None:
    timeline = read_timeline(written[0])
    found = statistics(timeline)
    parts = found.scored_s + found.abstained_s + found.silent_s + found.lost_s + found.unscored_s
    assert parts == pytest.approx(found.audio_s)
    closed = [json.loads(line) for line in written[1].read_text().splitlines() if '"session.closed"' in line]
    assert found.audio_s == pytest.approx(sum(e["audio_s"] for e in closed), abs=1.0)
    assert found.lost_s == pytest.approx(2.0)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.unscored_s < 0.2 * found.audio_s
    for lane in lanes(timeline):
        assert (np.diff(lane.start_s) > 0).all()
        assert (lane.start_s[1:] >= lane.end_s[:-1] - 1e-9).all()
        for before, after in pairwise(segments(timeline, lane)):
            assert before.end_s <= after.start_s + 1e-9


def test_speech_begins_where_its_pre_roll_does(by_hand: Path) -> None:
    rows = [silent(0, 0.25), silent(0.25, 0.5), silent(0.5, 0.75), silent(0.75, 1), spoken(0.46, 1.46, "calm")]
    by_hand.write_text("\n".join([HEADER, *rows, spoken(0.46, 1.71, "wild")]) + "\n")
    timeline = read_timeline(by_hand)
    (lane,) = lanes(timeline)
    assert lane.start_s.tolist() == [0, 0.25, 0.46, 1.46]
    assert lane.end_s.tolist() == [0.25, 0.46, 1.46, 1.71]
    found = statistics(timeline)
    assert (found.scored_s, found.silent_s, found.unscored_s) == pytest.approx((1.25, 0.46, 0))


def test_a_real_timeline_is_silent_only_where_no_speech_was_heard_later(written: tuple[Path, Path]) -> None:
    timeline = read_timeline(written[0])
    seconds = Counter[str]()
    for channel in (1, 2):
        # Milliseconds of each state: windows look back only as far as nobody spoke yet.
        rows = np.flatnonzero((timeline.channel == channel) & (timeline.hops | (timeline.event == "gap")))
        told = np.full(round(1000 * timeline.end_s[rows].max()), "", object)
        for row in rows:
            place = told[round(1000 * timeline.start_s[row]) : round(1000 * timeline.end_s[row])]
            place[(place == "") | (place == "no_speech")] = timeline.state[row] or "gap"
        seconds.update(told.tolist())
    found = statistics(timeline)
    parts = (found.scored_s, found.abstained_s, found.silent_s, found.lost_s, found.unscored_s)
    named = [seconds[name] / 1000 for name in ("speech", "abstain", "no_speech", "gap", "")]
    assert parts == pytest.approx(named, abs=0.01)


def test_a_session_that_was_appended_is_a_recording_of_its_own(by_hand: Path) -> None:
    once = statistics(read_timeline(by_hand))
    with by_hand.open("a") as file:
        file.write("\n".join(ROWS) + "\n")
    timeline = read_timeline(by_hand)
    assert [lane.file for lane in lanes(timeline)] == ["a.wav", "a.wav (2)"]
    twice = statistics(timeline)
    for name in ("audio_s", "scored_s", "abstained_s", "silent_s", "lost_s", "unscored_s"):
        assert getattr(twice, name) == pytest.approx(2 * getattr(once, name)), name
    assert twice.shares == pytest.approx(once.shares)
    assert twice.transitions == {("calm", "wild"): 2}
    assert [e.file for e in episodes(timeline, timeline.arousal > 0.6, 1.0)] == ["a.wav", "a.wav (2)"]


def by_utterance(start: float, end: float, label: str, arousal: float) -> str:
    state = "speech" if label else "abstain"
    return f"a.wav,{start},{end},measurement,utterance,{state},1,{label},calm,0.5,{arousal},0,0.5,0.5,,,-20,30,0,,,,"


def test_without_hops_utterances_tell(tmp_path: Path) -> None:
    gap = "a.wav,5,6,gap,,,,,,,,,,,,,,,,,,,lost: 16000 samples lost"
    rows = [by_utterance(1, 3, "calm", 0.1), by_utterance(3.5, 4.5, "", 0.4), gap, by_utterance(6, 9, "wild", 0.8)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([HEADER, *rows, rows[1]]) + "\n")
    timeline = read_timeline(path)
    assert [lane.file for lane in lanes(timeline)] == ["a.wav", "a.wav (2)"]
    found = statistics(timeline.part(timeline.file == "a.wav"))
    assert (found.audio_s, found.scored_s, found.abstained_s, found.silent_s, found.lost_s) == (9, 5, 1, 0, 1)
    assert found.unscored_s == pytest.approx(2)
    assert found.shares == pytest.approx({"calm": 0.4, "wild": 0.6})
    assert found.arousal_mean == pytest.approx((2 * 0.1 + 0.4 + 3 * 0.8) / 6)


def test_rows_of_whole_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{HEADER}\n{by_utterance(0, 9, 'calm', 0.1).replace('utterance', 'file')}\n")
    with pytest.raises(TimelineError, match=r"t\.csv: has rows of whole files alone: analyse with --rows hop"):
        statistics(read_timeline(path))


def test_no_rows_are_no_seconds(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "\n")
    found = statistics(read_timeline(path))
    assert (found.audio_s, found.scored_s, found.shares) == (0, 0, {"calm": 0, "wild": 0})
    assert np.isnan(found.arousal_mean)
