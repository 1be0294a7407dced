"""A snapshot as a picture of `width` by `height` characters: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from realtime_ser.dashboard.state import SHOWN_S, Point, Snapshot
from realtime_ser.printable import printable

COLOURS = {
    "neutral": "white",
    "happy": "bright_yellow",
    "sad": "dodger_blue1",
    "angry": "bright_red",
    "fearful": "medium_purple1",
    "disgusted": "green3",
    "surprised": "dark_orange",
}
_OTHER_COLOURS = ("cyan", "magenta", "bright_green", "bright_blue", "orange3", "pink1")
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = str.maketrans("▁▂▃▄▅▆▇█░·─━┼┈▲●○→±…", "_-~=+*%#..-=+.^*o>+~")
_TALLEST_TRACE = 4
_LEVEL_RANGE_DB = (-70.0, 0.0)


def colour_of(label: str, labels: tuple[str, ...]) -> str:
    """The emotion's own colour, or one from the palette by its place among the labels."""
    unknown = [other for other in labels if other not in COLOURS]
    return COLOURS.get(label) or _OTHER_COLOURS[unknown.index(label) % len(_OTHER_COLOURS)]


def render(lanes: Sequence[Snapshot], width: int, height: int, ascii_only: bool = False) -> Group:
    """Exactly `height` lines of at most `width` characters; each channel's lane below the other.

    Where there is little room, what is felt, the level, and whether audio is stored come first, then warnings.
    """
    now = lanes[0]
    costs, note, privacy = _status(lanes, width)
    besides = max(1, height - 2 * len(lanes))
    """Lines, were each lane an emotion and a level."""
    head = [_header(now, width), _rule(now, width)][: max(0, besides - 2)]
    foot = [costs, note, privacy] if besides > 4 else [note, privacy][-besides:]
    if height - len(head) - len(foot) > 4 * len(lanes):  # of a trace
        foot.insert(0, _axis(lanes, width))
    free = height - len(head) - len(foot)
    body: list[Text] = []
    for i, lane in enumerate(lanes):
        body += _lane(lane, width, free * (i + 1) // len(lanes) - free * i // len(lanes))
    lines = (head + body + foot)[:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
        if ascii_only:
            line.plain = line.plain.translate(_ASCII)
    return Group(*lines)


def _lane(now: Snapshot, width: int, height: int) -> list[Text]:
    """Exactly `height` lines: the emotion, the level, and as much of the trace as fits."""
    mood, *more = _current(now, width)
    lines = [mood, *more[: max(0, height - 2)], _level(now, width)][: max(0, height)]
    free = height - len(lines)
    rows = max(1, min(_TALLEST_TRACE, free // max(1, len(now.labels))))
    columns = _columns(now, _trace_room(now, width))
    for label in _most_likely(now, max(0, free // rows)):
        lines += _trace(now, label, columns, rows)
    return lines + [Text()] * (height - len(lines))


def _most_likely(now: Snapshot, n: int) -> list[str]:
    """The labels that get a line: all in their order, or where there is room for few, those that lead."""
    few = _leading(now, n)
    return [label for label in now.labels if label in few]


def _leading(now: Snapshot, n: int) -> list[str]:
    scores = now.scores or {}
    return sorted(now.labels, key=lambda label: -scores.get(label, 0.0))[:n]


def _spread(left: Text, right: Text, width: int) -> Text:
    """Left and right ends of one line; the left gives way."""
    room = width - right.cell_len - 1
    if room < 1:
        return right
    left.truncate(room, overflow="ellipsis", pad=True)
    return left + Text(" ") + right


def _header(now: Snapshot, width: int) -> Text:
    seconds = int(now.elapsed_s)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    left = Text.assemble(("realtime-ser ", "bold"), (printable(now.source), "cyan"))
    if now.profile:
        left.append(f"  relative to {printable(now.profile)}", "cyan")
    return _spread(left, Text.assemble((printable(now.model_id) + "  ", "bright_black"), (clock, "bold")), width)


def _rule(now: Snapshot, width: int) -> Text:
    """A line with the licence in it, below the model that it goes with."""
    licence = Text(f" {printable(now.licence)} " if now.licence else "")
    licence.truncate(max(0, width - 2), overflow="ellipsis")
    return Text("─" * (width - licence.cell_len - 1) + licence.plain + "─", style="bright_black")


def _current(now: Snapshot, width: int) -> list[Text]:
    """What is felt, with arousal and valence where they fit beside any label: they neither cut it nor come and go."""
    if now.away:
        mood = Text("  ○ no input", style="bold bright_red")
    elif now.state == "no_speech" and not now.speaking:
        mood = Text("  ○ no speech", style="bright_black")
    elif now.state == "no_speech" or now.scores is None:
        mood = Text("  ● speech    listening …", style="bold")
    elif now.label is None:
        between = " or ".join(map(printable, _leading(now, 2)))
        mood = Text.assemble(("  ● speech    ", "bold"), ("unsure", "italic"), (f"  {between}", "dim"))
    else:
        colour = colour_of(now.label, now.labels)
        name = Text(f" {printable(now.label).upper()} ", style=f"bold black on {colour}")
        mood = Text.assemble(("  ● speech    ", "bold"), name, (f"  {now.confidence or 0:.0%}", "bold"))
    dim = now.state == "no_speech"
    arousal = _centred("arousal", now.arousal, dim)
    valence = _centred("valence", now.valence, dim)
    named = (cell_len(f"  ● speech     {printable(label)}   100% ") for label in now.labels)
    needed = max(named, default=0) + arousal.cell_len
    if now.channel:
        lane = Text(f"  channel {now.channel}", style="bold cyan")
        mood = lane + mood
        needed += lane.cell_len
    if width < needed:
        return [mood]
    return [_spread(mood, arousal, width), _spread(Text(), valence, width)]


def _centred(name: str, value: float | None, dim: bool) -> Text:
    """A bar to either side of zero over [-1, 1]."""
    half = 8
    if value is None:
        return Text.assemble((f"{name} ", "bright_black"), ("─" * half + "┼" + "─" * half, "bright_black"), "      ")
    n = round(abs(value) * half)
    left, right = (n, 0) if value < 0 else (0, n)
    style = "bright_black" if dim else "bold"
    return Text.assemble(
        (f"{name} ", "bright_black"),
        ("─" * (half - left), "bright_black"),
        ("━" * left, style),
        ("┼", "bright_black"),
        ("━" * right, style),
        ("─" * (half - right), "bright_black"),
        (f" {value:+.2f}", style),
    )


def _level(now: Snapshot, width: int) -> Text:
    low, high = _LEVEL_RANGE_DB
    room = max(4, min(40, width - 36))
    level = low if now.level_dbfs is None else now.level_dbfs
    filled = round((min(max(level, low), high) - low) / (high - low) * room)
    colour = "bright_red" if level > -3 else "yellow" if level > -10 else "green"
    value = "  silent" if now.level_dbfs is None else f"{now.level_dbfs:4.0f} dBFS"
    line = Text.assemble(
        ("  level     ", "bright_black"), ("█" * filled, colour), ("░" * (room - filled), "bright_black"), f" {value}"
    )
    if now.snr_db is not None:
        line.append(f"  SNR {round(now.snr_db)} dB", "bright_black")
    return line


def _columns(now: Snapshot, room: int) -> list[Point | None]:
    """For each column of the last minute the point in force there; the latest on the right."""
    points, k = now.points, 0
    columns: list[Point | None] = []
    for column in range(room):
        at_s = now.elapsed_s - SHOWN_S + SHOWN_S * (column + 1) / room
        while k < len(points) and points[k].at_s <= at_s:
            k += 1
        columns.append(points[k - 1] if k else None)
    return columns


def _cells(cells: Iterable[tuple[str, str]]) -> Text:
    """Characters with their styles; a run of one style is one span, or drawing would take many times as long."""
    line = Text()
    for style, run in groupby(cells, key=itemgetter(1)):
        line.append("".join(character for character, _ in run), style)
    return line


def _trace(now: Snapshot, label: str, columns: Sequence[Point | None], rows: int) -> list[Text]:
    colour = colour_of(label, now.labels)
    value = None if now.scores is None else now.scores.get(label)
    leading = label == now.label and now.state == "speech"
    upper: list[list[tuple[str, str]]] = [[] for _ in range(rows)]
    for point in columns:
        score = point.scores.get(label) if point else None
        style = f"dim {colour}" if point and point.state == "abstain" else colour
        eighths = 0 if score is None else max(1, round(score * 8 * rows))
        for row, line in enumerate(upper):
            part = min(8, max(0, eighths - 8 * (rows - 1 - row)))
            empty = "·" if point and row == rows - 1 and score is None else " "
            line.append((_BLOCKS[part], style) if part else (empty, "grey23"))
    name = Text(f"  {printable(label)[:10]:<10}", style=f"bold {colour}" if leading else colour)
    shown = "" if value is None or now.state == "no_speech" else f"{value:4.0%}"
    last = name + _cells(upper[-1]) + Text(f" {shown:>4}", style="bold" if leading else "")
    if now.baseline:
        from_neutral = f"{100 * (value - now.baseline[label]):+4.0f}" if shown and value is not None else ""
        last += Text(f" {from_neutral:>4}", style="bold cyan" if leading else "cyan")
    return [Text(" " * 12) + _cells(line) for line in upper[:-1]] + [last]


def _trace_room(now: Snapshot, width: int) -> int:
    return max(1, width - (23 if now.baseline else 18))


def _axis(lanes: Sequence[Snapshot], width: int) -> Text:
    room = _trace_room(lanes[0], width)
    axis = list("┈" * room)
    start_s = lanes[0].elapsed_s - SHOWN_S
    for back_s in (45, 30, 15):
        text = f"-{back_s}s"
        at = round((1 - back_s / SHOWN_S) * room)
        axis[at : at + len(text)] = text
    for marker_s in lanes[0].markers_s:  # every channel has the same
        at = min(int((marker_s - start_s) / SHOWN_S * room), room - 1)
        if at >= 0:
            axis[at] = "▲"
    end = "  now  ±own" if lanes[0].baseline else " now"
    return Text(" " * 12 + "".join(axis)[:room] + end, style="bright_black")


def _status(lanes: Sequence[Snapshot], width: int) -> list[Text]:
    now = lanes[0]
    lost = (f"{now.lost_s:.1f} s", "bold bright_red") if now.lost_s else ("0 s", "")
    behind = "bold bright_red" if now.lag_s > 1 else ""
    costs = Text.assemble(
        ("  real-time factor ", "bright_black"),
        f"{now.real_time_factor:.3f}",
        ("   lag ", "bright_black"),
        (f"{now.lag_s:.2f} s", behind),
        ("   dropped ", "bright_black"),
        lost,
        ("   utterances ", "bright_black"),
        str(sum(lane.utterances for lane in lanes)),
    )
    note = Text()
    if now.trouble:
        note = Text(f"  ! {printable(now.trouble)}", style="bold bright_red")
    elif recent := [lane for lane in lanes if lane.warning and lane.elapsed_s - lane.warned_s < SHOWN_S]:
        warned = max(recent, key=lambda lane: lane.warned_s)
        where = f"channel {warned.channel}: " if warned.channel else ""
        note = Text(f"  ! {where}{printable(warned.warning)}", style="bright_yellow")
    elif now.csv_path:
        note = Text(f"  timeline → {printable(str(now.csv_path))}", style="bright_black")
    keys = Text.assemble(("  q", "bold"), " quit  ", ("m", "bold"), " mark")
    privacy = Text("No audio is stored or sent.", style="bright_black")
    if now.recording:
        recording = "○ no longer recording" if now.recording_ended else "● RECORDING"
        privacy = Text(f"{recording} to {printable(str(now.recording))}", style="bold bright_red")
        privacy.truncate(max(len(recording) + 1, width - keys.cell_len - 1), overflow="ellipsis")
    return [costs, note, _spread(keys, privacy, width)]
