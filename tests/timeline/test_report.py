"""The page in a real headless Chromium: it draws, zooms, plays, and complains of nothing."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from realtime_ser.errors import TimelineError
from realtime_ser.timeline.read import Timeline, read_timeline
from realtime_ser.timeline.report import report
from realtime_ser.timeline.segments import lanes
from realtime_ser.timeline.sound import listen
from realtime_ser.timeline.still import draw_still
from tests.cli.program import one_line, program
from tests.timeline.test_statistics import HEADER, by_utterance, silent, spoken

pytest.importorskip("plotly")
pytest.importorskip("matplotlib")

Demo = tuple[NDArray[np.int16], int]
HOURS = [
    row
    for at_s in range(0, 7000, 250)
    for row in (*(silent(at_s + k / 4, at_s + (k + 1) / 4) for k in range(996)), spoken(at_s + 249, at_s + 250, "calm"))
]
UTTERANCES = [by_utterance(1, 2, "calm", 0.1), by_utterance(8, 9, "calm", 0.1)]
MARKER = f"a.wav,1,1,marker,{19 * ','}hello"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--mute-audio", "--autoplay-policy=no-user-gesture-required"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def size(browser: Any, width: int, scheme: str) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    wish = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)


def until(browser: Any, script: str, limit_s: float = 20) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := browser.execute_script(f"return {script}")):
        assert time.monotonic() < deadline, f"never true: {script}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def page(written: tuple[Path, Path], demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The call and its recording, which is as long as the timeline."""
    folder = tmp_path_factory.mktemp("report")
    samples, rate_hz = demo
    soundfile.write(folder / "call.wav", samples[: 31 * rate_hz], rate_hz)
    path, timeline = folder / "call.html", read_timeline(written[0])
    path.write_text(report([timeline], listen(folder / "call.wav", timeline)), encoding="utf-8")
    return path


DRAWN = "['lane0', 'lane1'].every((id) => document.getElementById(id)._fullLayout !== undefined)"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_draws_both_lanes_without_an_error_or_a_request(browser: Any, page: Path, width: int, scheme: str) -> None:
    size(browser, width, scheme)
    browser.get(page.as_uri())
    until(browser, DRAWN)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    requested = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in requested if not name.startswith("data:")] == []
    text = browser.find_element("tag name", "body").text
    assert "call, one.wav, channel 1" in text
    assert "call, one.wav, channel 2" in text
    assert "Coverage" in text
    shown = browser.execute_script("return document.getElementById('lane0').layout.annotations.map((a) => a.text)")
    assert '⚑ he said "no"'.replace('"', "&quot;") in shown
    assert "▨ a test" in shown
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "beside"), [(1280, True), (390, False)])
def test_timelines_stand_side_by_side_where_there_is_room(
    browser: Any, written: tuple[Path, Path], tmp_path: Path, width: int, beside: bool
) -> None:
    timeline, path = read_timeline(written[0]), tmp_path / "two.html"
    path.write_text(report([timeline, timeline]), encoding="utf-8")
    size(browser, width, "light")
    browser.get(path.as_uri())
    until(browser, DRAWN)
    left = browser.execute_script("return [...document.querySelector('.lanes').children].map((e) => e.offsetLeft)")
    assert len(left) == 2
    assert (left[0] < left[1]) == beside
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_zooming_in_shows_more(browser: Any, page: Path) -> None:
    size(browser, 1280, "light")
    browser.get(page.as_uri())
    until(browser, DRAWN)
    step = "(() => { const x = document.getElementById('lane0').data[0].x; return x[1] - x[0]; })()"
    before = browser.execute_script(f"return {step}")
    browser.execute_script("Plotly.relayout('lane0', {'xaxis.range[0]': 2, 'xaxis.range[1]': 6})")
    until(browser, f"{step} < {before / 3}")
    seen = browser.execute_script("return document.getElementById('lane0').data[0].x")
    assert seen[0] == pytest.approx(2)
    assert seen[-1] == pytest.approx(6)
    browser.execute_script("Plotly.relayout('lane0', {'xaxis.autorange': true})")
    until(browser, f"{step} > {before * 0.9}")
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_speech_that_is_shorter_than_a_pixel_has_lines_and_a_time(browser: Any, tmp_path: Path) -> None:
    table, path = tmp_path / "t.csv", tmp_path / "t.html"
    table.write_text("\n".join([HEADER, *HOURS]) + "\n")
    path.write_text(report([read_timeline(table)]), encoding="utf-8")
    size(browser, 1280, "light")
    browser.get(path.as_uri())
    until(browser, "document.getElementById('lane0')._fullLayout !== undefined")
    for name in ("calm", "arousal"):
        trace = f"document.getElementById('lane0').data.filter((t) => t.name === '{name}' && !t.stackgroup)[0]"
        x, y = browser.execute_script(f"const t = {trace}; return [t.x, t.y]")
        ends = [
            (x[i], x[i + 1]) for i in range(len(x) - 1) if y[i] is not None and y[i] == y[i + 1] and x[i] < x[i + 1]
        ]
        assert len(ends) == 28
    browser.execute_script("Plotly.Fx.hover('lane0', {xval: 3749}, ['xy'])")
    told = until(browser, "[...document.querySelectorAll('.hoverlayer .legendtext')].map((t) => t.textContent)")
    assert re.match(r"1:02:\d\d\.\d$", told[0])
    assert [text for text in told if "calm" in text] == ["calm : 50%"]
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_the_cursor_goes_with_the_sound(browser: Any, page: Path) -> None:
    size(browser, 1280, "light")
    browser.get(page.as_uri())
    until(browser, DRAWN)
    until(browser, "document.querySelector('audio').readyState >= 3")
    assert browser.execute_script("return document.querySelector('audio').duration") == pytest.approx(31, abs=0.2)
    browser.execute_script("const a = document.querySelector('audio'); a.currentTime = 10; a.play()")
    until(browser, "document.querySelector('audio').currentTime > 10.5")
    browser.execute_script("document.querySelector('audio').pause()")
    place = """(() => {
        const axis = document.getElementById('lane0')._fullLayout.xaxis;
        const left = parseFloat(document.querySelector('.cursor').style.left);
        return [axis.p2l(left - axis._offset), document.querySelector('audio').currentTime];
    })()"""
    at_s, playing_s = browser.execute_script(f"return {place}")
    assert at_s == pytest.approx(playing_s, abs=0.3)
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_a_name_cannot_bring_a_script(browser: Any, written: tuple[Path, Path], tmp_path: Path) -> None:
    evil = tmp_path / "evil.csv"
    name = "</script><script>document.title='pwned'</script>"
    evil.write_text(written[0].read_text().replace('"call, one.wav"', name).replace("a test", f"<img src=x>{name}"))
    path = tmp_path / "evil.html"
    path.write_text(report([read_timeline(evil)]), encoding="utf-8")
    browser.get(path.as_uri())
    until(browser, DRAWN)
    assert browser.title == "Emotion timeline: evil.csv"
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_labels_that_are_markup_are_shown_as_they_are(browser: Any, written: tuple[Path, Path], tmp_path: Path) -> None:
    evil, path = tmp_path / "evil.jsonl", tmp_path / "evil.html"
    names = "<a href='http://evil.invalid'>neutral</a>", "<img src=x onerror=document.title='owned'>", "<!--<script>"
    text = written[1].read_text(encoding="utf-8")
    for label, name in zip(("neutral", "happy", "sad"), names, strict=True):
        text = text.replace(f'"{label}"', f'"{name}"')
    evil.write_text(text, encoding="utf-8")
    path.write_text(report([read_timeline(evil)]), encoding="utf-8")
    browser.get(path.as_uri())
    until(browser, DRAWN)
    assert browser.title == "Emotion timeline: evil.jsonl"
    assert browser.execute_script("return document.querySelectorAll('a[*|href], main img').length") == 0
    assert browser.execute_script("return document.scripts.length") == 2
    assert "onerror" in browser.find_element("tag name", "body").text
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_the_browser_runs_no_script_that_is_not_the_pages_own(browser: Any, page: Path, tmp_path: Path) -> None:
    path = tmp_path / "holed.html"
    hole = "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/x'><p onclick=\"x\">"
    path.write_text(page.read_text(encoding="utf-8").replace("<main>", f"<main>{hole}"), encoding="utf-8")
    browser.get(path.as_uri())
    until(browser, DRAWN)
    assert browser.title == "Emotion timeline: call.csv"
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert refused
    assert all("Content Security Policy" in message for message in refused)


@pytest.mark.slow
def test_the_pages_data_is_the_timelines(page: Path, written: tuple[Path, Path], browser: Any) -> None:
    timeline: Timeline = read_timeline(written[0])
    browser.get(page.as_uri())
    until(browser, DRAWN)
    ends = browser.execute_script("return Array.from(LANES[0].end)")
    scores = np.array(browser.execute_script("return Array.from(LANES[0].scores)")).reshape(len(ends), -1) / 250
    rows = timeline.hops & (timeline.channel == 1) & (timeline.state != "no_speech")
    at = {round(end, 3): row for end, row in zip(ends, scores.tolist(), strict=True)}
    found = [at[round(float(np.float32(end)), 3)] for end in timeline.end_s[rows]]
    np.testing.assert_allclose(found, timeline.scores_smooth[rows], atol=0.0021)


def lanes_of(page: str) -> list[dict[str, Any]]:
    """What it draws."""
    line = next(line for line in page.splitlines() if "const LANES = " in line)
    found: list[dict[str, Any]] = json.loads(line.split("const LANES = ")[1].rstrip(";"))
    return found


def test_utterances_are_drawn_where_there_are_no_hops(written: tuple[Path, Path], tmp_path: Path) -> None:
    timeline = read_timeline(written[0])
    utterances = timeline.part(~timeline.hops & (timeline.channel == 1))
    assert len(lanes(utterances)[0].rows) > 3
    (lane,) = lanes_of(report([utterances]))
    shown = np.frombuffer(base64.b64decode(lane["scores"]), np.uint8).reshape(-1, len(timeline.labels)) / 250
    scores = utterances.scores[utterances.trigger == "utterance"]
    np.testing.assert_allclose(shown[shown.any(axis=1)], scores, atol=0.0021)
    for name, drawn in (("utterances", utterances), ("nothing", utterances.part(utterances.event == "gap"))):
        draw_still(drawn, tmp_path / f"{name}.svg")
    assert (tmp_path / "utterances.svg").stat().st_size > (tmp_path / "nothing.svg").stat().st_size + 1_000


@pytest.mark.parametrize(
    ("rows", "stretches"),
    [(HOURS, 28), (UTTERANCES, 2), ([MARKER], 0)],
    ids=["hours", "utterances", "a marker"],
)
def test_a_still_shows_all_speech_and_no_other(tmp_path: Path, rows: list[str], stretches: int) -> None:
    image = pytest.importorskip("matplotlib.image")
    table, still = tmp_path / "t.csv", tmp_path / "t.png"
    table.write_text("\n".join([HEADER, *rows]) + "\n")
    draw_still(read_timeline(table), still)
    pixels = image.imread(still)
    green = pixels[..., 1] > pixels[..., 0] + 0.1  # "calm"
    begins = np.diff(green, axis=1, prepend=False) & green
    for panel in np.split(begins, [len(begins) // 2]):  # the band, and the lines
        assert panel.sum(axis=1)[panel.shape[0] // 10 :].max() == stretches


def test_audio_of_another_length_is_refused(written: tuple[Path, Path], demo: Demo, tmp_path: Path) -> None:
    samples, rate_hz = demo
    soundfile.write(tmp_path / "short.wav", samples[: 5 * rate_hz], rate_hz)
    soundfile.write(tmp_path / "long.wav", samples[: 40 * rate_hz], rate_hz)
    timeline = read_timeline(written[0])
    utterances = timeline.part(~timeline.hops)
    for drawn in (timeline, utterances):
        with pytest.raises(TimelineError, match=r"is 5\.0 s long, the timeline"):
            listen(tmp_path / "short.wav", drawn)
    with pytest.raises(TimelineError, match=r"is 40\.0 s long, the timeline"):
        listen(tmp_path / "long.wav", timeline)
    sound = listen(tmp_path / "long.wav", utterances)
    assert sound.duration_s == pytest.approx(40)
    (first, _) = lanes_of(report([utterances], sound))
    assert (first["heard"], first["duration"]) == (sound.duration_s, sound.duration_s)
    two = replace(utterances, file=np.array([f"{channel}.wav" for channel in utterances.channel], object))
    with pytest.raises(TimelineError, match="holds 2 recordings"):
        listen(tmp_path / "long.wav", two)


def test_the_command_writes_page_and_pictures_once(written: tuple[Path, Path], tmp_path: Path) -> None:
    out, png, svg = (tmp_path / f"r{suffix}" for suffix in (".html", ".png", ".svg"))
    command = ("report", written[0], written[1], "-o", out, "--png", png, "--svg", svg)
    assert program(*command).stdout.splitlines() == [str(out), str(png), str(svg)]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in svg.read_bytes()
    assert out.read_text(encoding="utf-8").count('class="plot"') == 4
    one_line(program(*command), 1, "exists already")
    one_line(program("report", written[0], "-o", tmp_path / "x.html", "--png", tmp_path / "x.gif"), 2, "ends in .png")
    one_line(program("report", written[0], "-o", written[0], "--overwrite"), 2, "is what is to be read")
    one_line(program("report", tmp_path / "none.csv"), 1, "no such file")
    one_line(program("report", tmp_path / "a.wav"), 2, "give timelines")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.html", "r.png", "r.svg"]
