"""The picture fits, shows what it must, and nothing in it is interpreted."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from realtime_ser.dashboard import DashboardState, PlainLines, Screen, Snapshot
from realtime_ser.dashboard.__main__ import LABELS, invent
from realtime_ser.events import Event, Gap, Marker, Measurement, SessionCreated, Warning

CREATED = SessionCreated(
    session_id="s", seq=0, start_s=0, end_s=0, model_id="ser-base", model_sha256="", model_licence="free",
    labels=LABELS, settings={}, versions={}, source="call.wav", affect="", wall_time="",
)  # fmt: skip


def invented(steps: int, *more: Event) -> Snapshot:
    state = DashboardState()
    state.update(CREATED)
    for step in range(steps):
        for event in invent(step):
            state.update(event)
    for event in more:
        state.update(event)
    state.progress(steps / 4, 0.02, 0.006, 0)
    return state.snapshot()


def drawn(snapshot: Snapshot, width: int, height: int) -> list[str]:
    return drawn_lanes([snapshot], width, height)


def drawn_lanes(lanes: list[Snapshot], width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    console.print(Screen(*lanes), end="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def plain_lines(*events: Event, recording: Path | None = None) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    lines = PlainLines(stream, recording)
    for event in events:
        lines.write(event)
    lines.close()
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize(("width", "height"), [(60, 16), (80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("steps", [0, 3, 110, 290])
def test_picture_fits_and_shows_what_it_must(width: int, height: int, steps: int) -> None:
    lines = drawn(invented(steps), width, height)
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width
    text = "\n".join(lines)
    assert all(label in text for label in LABELS)
    assert "level" in text
    assert "real-time factor" in text
    assert "No audio is stored or sent." in text


def said(label: str) -> Snapshot:
    """A recorded session in which one emotion is named."""
    return replace(
        invented(110), state="speech", label=label, confidence=1.0, recording=Path("/talks/talk.flac"),
        warning="too quiet", warned_s=27.0,
    )  # fmt: skip


@given(st.integers(12, 130), st.integers(2, 50), st.sampled_from(LABELS), st.integers(1, 3))
def test_where_there_is_little_room_what_matters_stays(width: int, height: int, label: str, channels: int) -> None:
    lanes = [said(label)] if channels == 1 else [replace(said(label), channel=1 + k) for k in range(channels)]
    lines = drawn_lanes(lanes, width, height)
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert "● RECORDING" in text
    if height > 2 * channels:
        if width >= 44:
            assert text.count(f" {label.upper()}   100%") == channels
        assert text.count("  level  ") == channels
    if height > 2 * channels + 1:
        assert "! too" in text if channels == 1 else "! channel" in text
    assert "┈┈" not in text or text.count("▁") > 0  # no axis without a trace


@settings(max_examples=40)
@given(st.integers(12, 130), st.integers(1, 50))
def test_arousal_neither_cuts_an_emotion_nor_comes_and_goes_with_it(width: int, height: int) -> None:
    shown = {"arousal" in "\n".join(drawn(said(label), width, height)) for label in LABELS}
    assert len(shown) == 1
    assert shown == {width >= 63 and height > 1}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_the_same_picture_in_ascii(encoding: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
    snapshot = replace(said("happy"), baseline=dict.fromkeys(LABELS, 0.1), profile="anna")
    Console(width=80, height=24, file=file).print(Screen(snapshot), end="")
    file.seek(0)
    lines = file.read().splitlines()
    assert [len(line) for line in lines] == [cell_len(line) for line in drawn(snapshot, 80, 24)]
    text = "\n".join(lines)
    assert "?" not in text
    assert re.search(r"level +#+\.+ ", text)
    assert re.search(r"surprised +[.]*_+", text)
    assert "* RECORDING" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_licence_stands_below_the_model_it_goes_with(width: int) -> None:
    state = DashboardState()
    state.update(replace(CREATED, model_licence=f"non-commercial research only: trained on {'much ' * 20}"))
    header, rule, *_ = drawn(state.snapshot(), width, 24)
    assert "ser-base" in header
    assert "non-commercial research only" in rule
    assert cell_len(rule) == width


def test_speech_shows_label_and_confidence_silence_does_not() -> None:
    speaking = "\n".join(drawn(invented(110), 100, 30))
    assert "● speech" in speaking
    assert any(label.upper() in speaking for label in LABELS) or "unsure" in speaking
    silent = "\n".join(drawn(invented(125), 100, 30))
    assert "no speech" in silent
    assert not any(label.upper() in silent for label in LABELS)


def test_who_is_unsure_says_between_what() -> None:
    scores = dict(zip(LABELS, (0.4, 0.45, 0.15, *[0.0] * (len(LABELS) - 3)), strict=True))
    unsure = Measurement(
        session_id="s", seq=1, start_s=0, end_s=1, trigger="hop", state="abstain", confidence=0.45,
        scores=scores, scores_smooth=scores,
    )  # fmt: skip
    between = f"{LABELS[1]} or {LABELS[0]}"
    assert f"unsure  {between}" in "\n".join(drawn(invented(0, unsure), 100, 30))
    assert re.search(rf"unsure +{between}", plain_lines(unsure))


def test_silence_is_blank_in_the_trace() -> None:
    line = next(line for line in drawn(invented(66), 80, 24) if line.startswith("  neutral"))
    assert "····" in line


def test_trace_keeps_a_minute() -> None:
    points = invented(1_000).points
    assert points[0].at_s <= points[-1].at_s - 60
    assert points[1].at_s >= points[-1].at_s - 60


def test_gap_is_blank_and_warning_and_marker_are_shown() -> None:
    common = {"session_id": "s", "seq": 9, "start_s": 27.5, "end_s": 27.5}
    snapshot = invented(
        110,
        Marker(**common, text="m"),
        Warning(**common, code="clipped", message="too loud", remedy="lower the level"),
        Gap(**common, cause="overflow", lost_samples=16_000),
    )
    text = "\n".join(drawn(snapshot, 100, 30))
    assert "too loud" in text
    assert "▲" in text
    assert snapshot.points[-1].scores == {}


def warned(at_s: float, message: str, channel: int | None = None) -> Warning:
    return Warning(
        session_id="s", seq=9, start_s=at_s, end_s=at_s, channel=channel, code="c", message=message, remedy="r"
    )


def test_a_warning_is_shown_for_a_minute_and_then_where_the_timeline_goes(tmp_path: Path) -> None:
    state = DashboardState(csv_path=tmp_path / "t.csv")
    state.update(warned(10, "the input has been exact zeros"))
    for elapsed_s, shown in ((10, True), (69, True), (71, False)):
        state.progress(elapsed_s, 0, 0, 0)
        text = "\n".join(drawn(state.snapshot(), 200, 24))
        assert ("exact zeros" in text, "timeline →" in text) == (shown, not shown)


def test_of_several_channels_the_latest_warning_is_shown() -> None:
    states = [DashboardState(channel=channel) for channel in (1, 2)]
    for state, warning in zip(states, (warned(10, "clipped", 1), warned(40, "noisy", 2)), strict=True):
        state.update(warning)
        state.progress(45, 0, 0, 0)
    text = "\n".join(drawn_lanes([state.snapshot() for state in states], 100, 24))
    assert "channel 2: noisy" in text
    assert "clipped" not in text


def test_nothing_is_interpreted_as_markup_or_control() -> None:
    state = DashboardState()
    state.update(replace(CREATED, source="[red]x[/red]\x1b[2J\x07.wav"))
    text = "\n".join(drawn(state.snapshot(), 80, 24))
    assert "[red]x[/red]" in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text


def test_a_recording_is_shown_in_red_and_no_other_claim_is_made(tmp_path: Path) -> None:
    state = DashboardState(recording=tmp_path / "talk.flac")
    state.update(CREATED)
    console = Console(width=200, height=30, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Screen(state.snapshot()), end="")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert re.search(r"\x1b\[1;91m● RECORDING to [^\x1b]*talk\.flac", text)
    assert "No audio is stored" not in text
    assert "RECORDING the audio to" in plain_lines(CREATED, recording=tmp_path / "talk.flac")


@pytest.mark.parametrize("height", [16, 24, 40])
def test_each_channel_has_a_lane(height: int) -> None:
    lanes = [replace(invented(110), channel=1), replace(invented(125), channel=2, warning="too quiet")]
    lines = drawn_lanes(lanes, 100, height)
    assert len(lines) <= height
    text = "\n".join(lines)
    assert text.index("channel 1") < text.index("channel 2")
    assert "channel 2: too quiet" in text


def test_a_profile_shows_the_distance_from_the_own_neutral() -> None:
    snapshot = invented(110)
    assert snapshot.scores is not None
    label = max(snapshot.scores, key=lambda key: snapshot.scores[key])  # type: ignore[index]
    baseline = dict.fromkeys(snapshot.labels, 0.0) | {label: snapshot.scores[label] - 0.12}
    text = "\n".join(drawn(replace(snapshot, baseline=baseline, profile="anna"), 100, 30))
    assert "+12" in text
    assert "±own" in text
    assert "relative to anna" in text


@pytest.mark.parametrize("channels", [(None,), (2,), (1, 2)])
def test_plain_lines_say_once_that_the_audio_is_recorded(tmp_path: Path, channels: tuple[int | None, ...]) -> None:
    created = [replace(CREATED, channel=channel) for channel in channels]
    assert plain_lines(*created, recording=tmp_path / "talk.flac").count("RECORDING the audio to") == 1


def test_unknown_labels_have_colours() -> None:
    state = DashboardState()
    state.update(replace(CREATED, labels=("calm", "bored", "neutral")))
    assert any("bored" in line for line in drawn(state.snapshot(), 80, 24))


def test_reading_and_writing_at_once_is_safe() -> None:
    state = DashboardState()
    state.update(CREATED)
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                drawn(state.snapshot(), 80, 24)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(2_000):
        for event in invent(step):
            state.update(event)
    done.set()
    reader.join()
    assert not failures


def test_plain_lines_tell_changes_alone() -> None:
    scores = {"happy": 0.8, "sad": 0.2}
    measurements = [
        Measurement(
            session_id="s",
            seq=k,
            start_s=k / 4,
            end_s=1 + k / 4,
            trigger="hop",
            state="speech",
            label="happy" if k < 3 else "sad",
            confidence=0.8,
            scores=scores,
            scores_smooth=scores,
            arousal=0.5,
            valence=-0.25,
        )
        for k in range(4)
    ]
    first, second = plain_lines(*measurements).splitlines()
    assert first.split() == "1.00 s happy 0.80 (arousal +0.50 valence -0.25)".split()
    assert second.split()[2] == "sad"
