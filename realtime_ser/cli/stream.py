"""What `live` and `replay` share: a source through a session into sinks and a view, at a pace."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from realtime_ser.channels import ChannelSessions
from realtime_ser.cli.options import Mode
from realtime_ser.dashboard import Dashboard, PlainLines
from realtime_ser.dashboard.keys import in_foreground
from realtime_ser.errors import ModelError, RealtimeSerError, SinkError, UsageError
from realtime_ser.events import Event, SessionClosed
from realtime_ser.printable import printable
from realtime_ser.session import Session
from realtime_ser.settings import RATE_HZ, SessionSettings
from realtime_ser.signals import StopRequested, StopSignals
from realtime_ser.sinks._file import LineStream
from realtime_ser.sinks.actions import AlertActions
from realtime_ser.sinks.background import Background, Sink
from realtime_ser.sinks.csv import CsvSink
from realtime_ser.sinks.jsonl import JsonLinesSink
from realtime_ser.sinks.lsl import LslSink
from realtime_ser.sinks.osc import OscSink
from realtime_ser.sinks.recording import Recorded
from realtime_ser.sources import Block, Lost, Source
from realtime_ser.stages.monitor import Notice
from realtime_ser.stages.profile import Profile

_MOST_BEHIND = 100
"""Events that an output may be behind when it holds a source up."""
_LOOK_S = 0.02
"""Between two looks at how far behind it is."""
_PATIENCE_S = 3.0
"""For a line on stderr at the end."""


class Pace:
    """When a block of a recording may be heard: when it would have been spoken, at `speed` times life.

    The first may be heard when it comes: what comes from a pipe has been spoken by then, however late that begins. Also
    keeps the books: how far analysis lags behind, and what share of the audio's time it takes. What is really live has
    infinite speed, sets the pace itself, and tells with `backlog_s` how much of it waits to be heard.
    """

    def __init__(self, speed: float, backlog_s: Callable[[], float] | None = None) -> None:
        self._speed = speed
        self._backlog_s = backlog_s
        self._begun: float | None = None
        """When the first sample was spoken."""
        self._busy_s = 0.0

    def wait_for(self, end_s: float) -> None:
        """Sleep until `end_s` of audio may have arrived; not at all at infinite speed."""
        if self._begun is None:
            self._begun = time.perf_counter() - end_s / self._speed
        delay = self._begun + end_s / self._speed - time.perf_counter()
        if delay > 0:
            time.sleep(delay)

    def worked(self, seconds: float) -> None:
        """So long did the last block's analysis take."""
        self._busy_s += seconds

    def lag_s(self, audio_s: float) -> float:
        """How long ago the last sample heard should have been heard."""
        if self._backlog_s is not None:
            return self._backlog_s()
        if self._begun is None or self._speed == float("inf"):
            return 0.0
        return max(0.0, time.perf_counter() - self._begun - audio_s / self._speed)

    def real_time_factor(self, audio_s: float) -> float:
        """Seconds of work per second of audio."""
        return self._busy_s / audio_s if audio_s else 0.0


def open_session(
    model: str | None,
    settings: SessionSettings,
    source: str,
    channels: list[int] | None,
    profile: Profile | None = None,
    rules: Sequence[str] = (),
) -> Session | ChannelSessions:
    """A session for the mix of all channels, or for each of some."""
    if channels is None:
        return Session(model, settings, source, profile=profile, rules=rules)
    if profile and len(channels) > 1:
        raise UsageError("a profile is one speaker's, not each channel's", "choose one --channel")
    return ChannelSessions(channels, lambda channel: Session(model, settings, source, channel, profile, rules))


def open_sinks(
    stack: ExitStack,
    session: Session | ChannelSessions,
    csv: Path | None,
    jsonl: str | None,
    mode: Mode,
    name: str,
    live: bool,
    tell: Callable[[Notice], None],
    signals: StopSignals,
) -> list[Sink[Event]]:
    """The result files asked for, closed by the stack; what is live does not wait for them.

    What is faster waits for who reads its stdout, but in its source: a write that waits could not be broken off.
    """
    wanted: list[tuple[Path, Callable[[], Sink[Event]]]] = []
    if csv is not None:
        wanted.append((csv, partial(CsvSink, csv, session.labels, file=name, mode=mode, tell=tell)))
    if jsonl is not None and jsonl != "-":
        wanted.append((Path(jsonl), partial(JsonLinesSink, Path(jsonl), mode, tell)))
    sinks: list[tuple[str, Sink[Event]]] = []
    # A named pipe is open once somebody reads it: who gives up waiting for that is to find no file made or emptied.
    for path, opened in sorted(wanted, key=lambda each: each[0].is_file() or not each[0].exists()):
        with signals.waiting():
            sinks.append((str(path), opened()))
    if jsonl == "-":
        lines: Sink[Event] = JsonLinesSink(sys.stdout, mode, tell)
        sinks.append(("stdout", lines if live else Background(lines, "stdout", holds_up=True)))
    if live:
        sinks = [(place, Background(sink, place, tell)) for place, sink in sinks]
    for _, sink in sinks:
        close_later(stack, sink)
    return [sink for _, sink in sinks]


def open_outputs(
    stack: ExitStack,
    session: Session | ChannelSessions,
    name: str,
    on: Sequence[str] | None,
    command: str | None,
    url: str | None,
    osc: str | None,
    lsl: bool,
    tell: Callable[[Notice], None],
) -> list[Sink[Event]]:
    """What sends events elsewhere, each in a thread of its own; before the files, as it may be refused."""
    more: list[tuple[str, Sink[Event]]] = []
    if command or url:
        if not on:
            raise UsageError("--run and --webhook need a rule", "give --on 'arousal > 0.4 for 8s'")
        more.append(("--run" if command else "--webhook", AlertActions(command, url, tell)))
    if osc:
        more.append(("--osc", OscSink(osc)))
    if lsl:
        more.append(("--lsl", LslSink(session.labels, name)))
    sinks: list[Sink[Event]] = [Background(sink, option, tell, finishes=False) for option, sink in more]
    for sink in sinks:
        close_later(stack, sink)
    return sinks


def close_later(stack: ExitStack, sink: Sink[Any], signals: StopSignals | None = None) -> None:
    """Have it closed by the stack. The first error is raised as always; one that would hide it is told at once.

    So is one that would hide that one of these signals came.
    """

    def close(_kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            sink.close()
        except SinkError as own:
            if error is None and not (signals and signals.received):
                raise
            if own is not error:
                tell_at_last(f"realtime-ser: {own}")

    stack.push(close)


def tell_at_last(line: str) -> None:
    """A line on stderr, given up after a while: what nobody reads any more must not outlast a request to stop."""
    stderr = LineStream(sys.stderr, sys.stderr.encoding)

    def write() -> None:
        with suppress(SinkError):
            stderr.write(printable(line))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)


def print_late(problems: deque[Notice]) -> None:
    """Of alerts, what failed after the session's end; a result file raises its own errors when it is closed."""
    for problem in problems:
        if problem.code == "alert_failed":
            tell_at_last(f"realtime-ser: {problem.message}")


def open_view(
    plain: bool, stdout_taken: bool, csv: Path | None, channels: list[int] | None, recording: Path | None = None
) -> Dashboard | PlainLines:
    """The dashboard on a terminal of ours, lines elsewhere; lines go to stderr if stdout carries results."""
    console = Console()
    drawn_on = sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal  # as a shell in Emacs is
    if drawn_on and not plain and not stdout_taken and in_foreground(sys.stdout.fileno()):
        return Dashboard(channels or [None], csv_path=csv, recording=recording)
    return PlainLines(sys.stderr if stdout_taken else sys.stdout, recording)


def stream(
    source: Source,
    session: Session | ChannelSessions,
    sinks: Sequence[Sink[Event]],
    view: Dashboard | PlainLines,
    pace: Pace,
    signals: StopSignals,
    duration_s: float | None = None,
    recording: Background[Recorded] | None = None,
    problems: deque[Notice] | None = None,
) -> int:
    """Run to the end of the source, to `duration_s`, or until asked to stop; returns the exit code.

    `signals` are entered already, so that a request to stop while the files are opened is not lost. `problems` is where
    the outputs put what a person should know.
    """

    open_ones: list[Sink[Event]] = [*sinks, view]
    holding_up = [sink for sink in sinks if isinstance(sink, Background) and sink.holds_up]
    nothing = np.empty((0, source.channels), np.float32)
    lost_s = unrecorded_s = 0.0
    """In all, and what the recording lacks before the next block."""
    missing_s, cause = 0.0, ""
    """Lost behind what the session has heard and not told yet, as it may be more: one absence is one gap."""

    def gap() -> list[Event]:
        nonlocal missing_s
        seconds, missing_s = missing_s, 0.0
        return session.gap(max(1, round(seconds * RATE_HZ)), cause) if seconds else []

    def deliver(events: Sequence[Event]) -> None:
        failure: SinkError | None = None
        for event in events:
            for sink in tuple(open_ones):
                try:
                    sink.write(event)
                except SinkError as error:
                    # The other sinks still get everything, down to the totals.
                    open_ones.remove(sink)
                    failure = failure or error
        if failure:
            raise failure

    closed: list[SessionClosed] = []
    with ExitStack() as stack:
        stack.enter_context(view)
        close_later(stack, view, signals)
        reason = "end of input"
        # Here, not when it is collected: at the interpreter's end a microphone could not be closed any more.
        blocks = stack.enter_context(closing(iter(source)))
        try:
            while (item := _next(blocks, signals)) is not None:
                if isinstance(item, Notice):
                    deliver(gap())
                    if item.code == "device_lost":
                        deliver(session.pause())
                    deliver(session.warn(item))
                    continue
                if isinstance(item, Lost):
                    if item.cause != cause:
                        deliver(gap())
                    seconds, cause = item.samples / source.rate_hz, item.cause
                    missing_s += seconds
                    unrecorded_s += seconds
                    lost_s += seconds
                    item = nothing
                elif len(item):
                    deliver(gap())
                if duration_s is not None:
                    left = round((duration_s - session.clock_s - missing_s) * source.rate_hz)
                    if left <= 0:
                        reason = "duration reached"
                        break
                    item = item[:left]
                with signals.waiting():
                    pace.wait_for(session.clock_s + len(item) / source.rate_hz)
                    _wait_for(holding_up, _MOST_BEHIND)
                if recording is not None and (len(item) or unrecorded_s):
                    try:
                        kept = recording.write(Recorded(source.rate_hz, item, unrecorded_s))
                        unrecorded_s = 0.0 if kept else unrecorded_s + len(item) / source.rate_hz
                    except SinkError as error:  # told once more, with its exit code, when it is closed
                        recording = None
                        deliver(gap() + session.warn(Notice("recording_ended", error.what, error.remedy)))
                begun = time.perf_counter()
                deliver(session.push(item, source.rate_hz))
                pace.worked(time.perf_counter() - begun)
                audio_s = session.clock_s + missing_s
                outputs = [o.trouble for o in (*sinks, recording) if isinstance(o, Background)]
                view.progress(
                    audio_s,
                    pace.lag_s(audio_s),
                    pace.real_time_factor(audio_s),
                    lost_s,
                    "; ".join(filter(None, outputs)),
                )
                while problems:
                    deliver(gap() + session.warn(problems.popleft()))
                for key in view.pressed():
                    if key == "m":
                        deliver(gap() + session.mark("marker"))
                    elif key == "q":
                        raise StopRequested
        except StopRequested:
            reason = "interrupted" if signals.received else "stopped by the user"
        except RealtimeSerError as error:
            # What was heard is kept and closed properly; the error is told after it.
            deliver(gap() + session.flush("error", error.what))
            raise
        if recording is not None and unrecorded_s:
            with suppress(SinkError):  # told, with its exit code, when it is closed
                recording.write(Recorded(source.rate_hz, nothing, unrecorded_s))
        problem = getattr(source, "problem", None)
        try:
            last = gap() + session.flush(reason, problem)
        except ModelError as error:
            deliver(session.flush("error", error.what))
            raise
        deliver(last)
        with suppress(StopRequested), signals.waiting():  # a pager takes as long as its reader
            _wait_for([*holding_up, view] if isinstance(view, PlainLines) else holding_up, 0)
        closed = [event for event in last if isinstance(event, SessionClosed)]
    if problem:
        tell_at_last(f"realtime-ser: {source.name}: {problem}")
    for each in closed:
        tell_at_last(totals(each))
    return signals.exit_code


def _next(blocks: Iterator[Block], signals: StopSignals) -> Block | None:
    with signals.waiting():
        return next(blocks, None)


def _wait_for(outputs: Sequence[Background[Event] | PlainLines], most_behind: int) -> None:
    while any(output.behind > most_behind for output in outputs):
        time.sleep(_LOOK_S)


def totals(closed: SessionClosed) -> str:
    """One line about a whole session."""
    line = f"channel {closed.channel}: " if closed.channel else ""
    line += f"{closed.audio_s:.1f} s of audio, {closed.speech_s:.1f} s of speech"
    if closed.lost_s:
        line += f", {closed.lost_s:.1f} s lost"
    if closed.audio_s == 0:
        return line + ": nothing to analyse"
    if not closed.speech_s:
        return line + ": nobody speaks in it"
    if not closed.scored_s:
        return line + ": too short to score"
    heard = sorted(((share, label) for label, share in closed.shares.items() if share >= 0.005), reverse=True)
    shares = [f"{label} {share:.0%}" for share, label in heard]
    if closed.abstained_s:
        shares.append(f"unsure {closed.abstained_s / closed.scored_s:.0%}")
    return f"{line}: {', '.join(shares)}"
