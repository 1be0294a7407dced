"""No label, name or marker can act on a terminal, a spreadsheet, a page or the program that reads an export."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from realtime_ser.cli.places import joined, leads_inside
from realtime_ser.dashboard import DashboardState, PlainLines, Screen
from realtime_ser.errors import RealtimeSerError, SinkError
from realtime_ser.events import Alert, Event, Gap, Marker, Measurement, SessionCreated, Warning
from realtime_ser.printable import printable
from realtime_ser.sinks.csv import CsvSink
from realtime_ser.sinks.jsonl import JsonLinesSink
from realtime_ser.sources import portaudio
from realtime_ser.timeline.export import FORMATS, export
from realtime_ser.timeline.read import read_timeline
from realtime_ser.timeline.report import report
from realtime_ser.timeline.still import draw_still
from tests.cli.program import program

NASTY = (
    "\x1b]0;owned\x07", "\x1b[2J\x1b[31m", "\x9b31m", "\x9d0;owned\x9c", "\x07\x08\x7f", "a\rb\nc\u2028d\x85e",
    "a\tb\0c", "\u202egnp.exe", "\u2066x", "\udcff", "[red]x[/red]", "[/nonsense]", "[link=http://evil]x", ":bomb:",
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "x;=1+1", "＝1＋1", '"=1"', "',=1,'",
    "<script>document.title='owned'</script>", "</title><script>1</script>", "</script><!--<script>", "<svg onload=x>",
    '" onmouseover="x', "<a href='javascript:x'>y</a>", "$title ${script}", "$\\frac{$", "_hidden", "-->",
    "00:00 --> 99:99", "../../x", "..\\x", "{\\an8}", "% \\ ' \" & < >",
)  # fmt: skip
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
STYLE = re.compile(r"\x1b\[[0-9;]*m")
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
few = settings(max_examples=40)
any_text = st.one_of(st.sampled_from(NASTY), st.text(st.characters(), max_size=30))
COMMON = {"session_id": "s", "seq": 1, "start_s": 1.0, "end_s": 2.25}


def events(*texts: str) -> list[Event]:
    """One of each kind with these texts, in turn, wherever one from outside can be."""
    a, b = texts[0], texts[-1]
    labels = (f"{a}1", f"{b}2", "calm")
    created = SessionCreated(
        session_id="s", seq=0, start_s=0, end_s=0, model_id=a, model_sha256=b, model_licence=b, labels=labels,
        settings={}, versions={}, source=b, affect=a, wall_time=b, profile=a,
    )  # fmt: skip
    scores = dict.fromkeys(labels, 1 / 3)
    spoken = Measurement(
        **COMMON, trigger="hop", state="speech", utterance=1, label=labels[0], label_raw=labels[1], confidence=0.5,
        scores=scores, scores_smooth=scores, arousal=-0.5, valence=0.5, level_dbfs=-20.0, snr_db=-3.0, wall_time=a,
    )  # fmt: skip
    return [
        created, spoken, replace(spoken, start_s=2.25, end_s=2.5, label=labels[1], confidence=0.9),
        Marker(**COMMON, text=a), Warning(**COMMON, code=a, message=b, remedy=a), Alert(**COMMON, rule=b, value=0.5),
        Gap(session_id="s", seq=2, start_s=3, end_s=4, cause=b, lost_samples=16_000),
    ]  # fmt: skip


def written(folder: Path, *texts: str) -> tuple[Path, Path]:
    """A timeline in both forms."""
    told = events(*texts)
    paths = folder / "t.csv", folder / "t.jsonl"
    assert isinstance(told[0], SessionCreated)
    sinks = CsvSink(paths[0], told[0].labels, file=texts[-1], mode="overwrite"), JsonLinesSink(paths[1], "overwrite")
    for sink in sinks:
        for event in told:
            sink.write(event)
        sink.close()
    return paths


@given(any_text)
def test_what_is_printable_has_nothing_to_act_with(text: str) -> None:
    assert not UNPRINTABLE.search(printable(text))
    assert printable(printable(text)) == printable(text)
    assert len(printable(text)) == len(text)


@few
@given(any_text, any_text)
def test_no_cell_is_a_formula_and_no_line_is_forged(tmp_path_factory: pytest.TempPathFactory, a: str, b: str) -> None:
    path, _ = written(tmp_path_factory.mktemp("csv"), a, b)
    text = path.read_bytes().decode()
    assert not UNPRINTABLE.search(text.replace("\n", ""))
    assert text.count("\n") == len(events(a, b))  # a header for the created, which has no row
    numbers = re.compile(r"-?\d+(\.\d+)?$")
    for separator in (",", ";"):  # in many countries a spreadsheet takes the latter
        for row in csv.reader(io.StringIO(text), delimiter=separator):
            assert not [cell for cell in row if FORMULA.match(cell) and not numbers.match(cell.split(",")[0])]
    beside = path.with_name("t.csv.json").read_bytes().decode()
    assert not UNPRINTABLE.search(beside.replace("\n", ""))
    assert json.loads(beside)["model_id"] == a.encode("utf-8", "replace").decode()


@few
@given(any_text, any_text)
def test_json_lines_lose_nothing_and_can_be_looked_at(tmp_path_factory: pytest.TempPathFactory, a: str, b: str) -> None:
    _, path = written(tmp_path_factory.mktemp("jsonl"), a, b)
    text = path.read_bytes().decode()
    assert not UNPRINTABLE.search(text.replace("\n", ""))
    told = [json.loads(line) for line in text.splitlines()]
    assert told[3]["text"] == a.encode("utf-8", "replace").decode()
    assert len(told) == len(events(a, b))


@few
@given(any_text, any_text)
def test_plain_lines_and_dashboard_draw_it_as_text(a: str, b: str) -> None:
    lines, screen = io.TextIOWrapper(io.BytesIO(), "utf-8", newline=""), io.StringIO()
    view, state = PlainLines(lines, recording=Path(printable(a).replace("�", "") or "x")), DashboardState(Path("x"))
    told = events(a, b)
    for event in told:
        view.write(event)
        state.update(event)
        console = Console(file=screen, force_terminal=True, width=80, height=30)
        console.print(Screen(state.snapshot()), end="")
    view.close()
    lines.seek(0)
    plain = lines.read()
    for shown in (plain, STYLE.sub("", screen.getvalue())):
        assert not UNPRINTABLE.search(shown.replace("\n", ""))
    assert plain.count("\n") == len(told) + 1
    assert "\x1b]8" not in screen.getvalue()


class Tags(HTMLParser):
    """Every tag of a page with the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attributes)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return written(tmp_path_factory.mktemp("plain"), "word")


@pytest.mark.parametrize("form", [0, 1], ids=["csv", "jsonl"])
def test_a_page_has_the_tags_of_a_harmless_one(plain: tuple[Path, Path], tmp_path: Path, form: int) -> None:
    harmless = Tags(report([read_timeline(plain[form])])).found
    for text in NASTY:
        page = report([read_timeline(written(tmp_path, text)[form])])
        found = Tags(page).found
        assert set(found) <= set(harmless), text
        assert [tag for tag, _ in found].count("script") == 2
        data = page[page.index("const LANES = ") :].splitlines()[0]
        assert "<" not in data
        for lane in json.loads(data.removeprefix("const LANES = ").rstrip(";")):
            assert not [told for told in (*lane["labels"], *(m["text"] for m in lane["markers"])) if "<" in told]


def test_a_timeline_cannot_choose_which_card_a_page_shows(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("what nobody should read")
    _, path = written(tmp_path, str(tmp_path))
    assert "what nobody should read" not in report([read_timeline(path)])
    assert "card and figures" in report([read_timeline(written(tmp_path, "ser-base")[1])])


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "$\\frac{$", "</title><script>1</script>", "_hidden"])
def test_a_picture_has_the_elements_of_a_harmless_one(plain: tuple[Path, Path], tmp_path: Path, text: str) -> None:
    kinds = []
    for source in (plain[1], written(tmp_path, text)[1]):
        draw_still(read_timeline(source), tmp_path / "t.svg")
        kinds.append({element.tag for element in ElementTree.parse(tmp_path / "t.svg").iter()})
    assert kinds[0] >= kinds[1]


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def cues(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    assert "<" not in text
    assert text.count(">") == text.count("-->")
    return text.count("-->")


def fields_of(path: Path) -> list[int]:
    return [len(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]


def tabs(path: Path) -> list[int]:
    return [line.count("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def elements(path: Path) -> list[str]:
    return [element.tag for element in ElementTree.parse(path).iter()]


def tiers(path: Path) -> list[tuple[str, int]]:
    from praatio.textgrid import openTextgrid

    grid = openTextgrid(str(path), includeEmptyIntervals=True)
    return [(name, len(grid.getTier(name).entries)) for name in grid.tierNames]


def rows_of(path: Path) -> int:
    from audformat import Database

    return len(Database.load(str(path))["emotion"])


def columns_of(path: Path) -> int:
    from pyarrow import parquet

    return parquet.read_table(path).num_columns


READ_BACK: dict[str, Callable[[Path], object]] = {
    "audacity": tabs, "textgrid": tiers, "webvtt": cues, "srt": cues, "elan": elements, "audformat": rows_of,
    "emotionml": elements, "rttm": fields_of, "parquet": columns_of,
}  # fmt: skip


@pytest.mark.parametrize("format_", FORMATS)
def test_an_export_has_the_structure_of_a_harmless_one(plain: tuple[Path, Path], tmp_path: Path, format_: str) -> None:
    out = tmp_path / "out"
    export(read_timeline(plain[1]), format_, out)
    harmless = READ_BACK[format_](out)
    for text in NASTY:
        try:
            export(read_timeline(written(tmp_path, text)[1]), format_, out, overwrite=True)
        except RealtimeSerError:
            continue  # refused in one line
        assert READ_BACK[format_](out) == harmless, text
        if format_ not in ("audformat", "parquet"):
            assert not UNPRINTABLE.search(re.sub(r"[\n\t]", "", out.read_bytes().decode()))


@pytest.mark.parametrize("name", ["../x.csv", "a/../../x.csv", "..\\x.csv", ".."])
def test_a_recordings_name_cannot_lead_out_of_the_folder_of_results(tmp_path: Path, name: str) -> None:
    for folder in (str(tmp_path), "memory://results"):
        with pytest.raises(SinkError, match="leads out of"):
            joined(folder, name)


@pytest.mark.parametrize("name", ["C:/x.csv", "C:x.csv", "/x.csv", "//server/share/x.csv", "a\\..\\..\\x.csv"])
def test_a_recordings_name_cannot_lead_to_another_drive(name: str) -> None:
    assert not leads_inside(PureWindowsPath("D:/results"), name)
    assert leads_inside(PureWindowsPath("D:/results"), "calls/monday.csv")


def test_a_devices_name_is_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from realtime_ser.cli.devices import devices

    for text in NASTY:
        named = portaudio.InputDevice(0, text, text, 1, 48_000.0, 0.01, True, True)
        monkeypatch.setattr(portaudio, "list_inputs", lambda named=named: [named])
        devices(as_json=False)
        shown = capsys.readouterr().out
        assert not UNPRINTABLE.search(shown.replace("\n", "")), text
        assert printable(text).split()[0][:8] in shown


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_no_command_lets_a_name_act_on_the_terminal(tmp_path: Path) -> None:
    name = os.fsencode("\x1b]0;owned\x07\u009b31m\u202e[red]").replace(b"/", b"")
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    cut, _ = written(folder, "\x1b]0;owned\x07")
    content = cut.read_bytes()
    cut.write_bytes(content + b'a,"' + name)  # whose end is told as a problem
    (folder / "card.md").write_bytes(b"# " + name + b"\n[x](http://evil)\n")
    commands: list[tuple[object, ...]] = [
        ("report", cut), ("export", cut, "--to", "srt"), ("export", cut, "--to", name.decode()),
        ("compare", cut, folder / "x"), ("replay", folder / "x.wav"), ("analyze", folder), ("models", folder),
        ("replay", "demo", "--profile", name.decode()), ("replay", "demo", "--on", name.decode()),
    ]  # fmt: skip
    for command in commands:
        done = program(*command)
        assert not UNPRINTABLE.search((done.stdout + done.stderr).replace("\n", "")), command
