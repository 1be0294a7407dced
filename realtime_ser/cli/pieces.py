"""A long recording heard in pieces by many processes, for the timeline that one alone would write.

A session begins anew at each rest (`stages/rest.py`), and where rests are the samples around them tell. So a piece that
begins at one needs nothing of what is before it, but for two numbers that are put right when the pieces are joined:
which utterance of the recording its first one is, and whether one emotion holds nearly all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from realtime_ser.cli import places
from realtime_ser.errors import RealtimeSerError, SourceError
from realtime_ser.settings import RATE_HZ

if TYPE_CHECKING:
    from realtime_ser.cli.work import Work
    from realtime_ser.events import Event, SessionClosed, SpeechEnded
    from realtime_ser.session import Beginning
    from realtime_ser.stages.model import Model
    from realtime_ser.stages.window_model import WindowModel
    from realtime_ser.tally import Tally

_SHARE = 4
"""A piece is at most this part of what a process still has to hear: large ones first, as of each some is read twice,
and small ones at the end, so that no process has long to wait for the last (guided self-scheduling; Polychronopoulos
and Kuck, 1987)."""


@dataclass(frozen=True)
class Span:
    """From the first rest after a second to the first one after another, or to the recording's end."""

    from_s: int
    until_s: int | None


@dataclass(frozen=True)
class Plan:
    """How a recording is to be heard."""

    duration_s: float
    """As its header has it; 0 if that cannot be told here."""
    spans: list[Span]
    """One where nothing is won by more, or where pieces would not make the same timeline."""


@dataclass(frozen=True)
class Piece:
    """What was heard in a span."""

    csv: Path
    """Its rows, in a timeline of its own; empty if the span is."""
    end_s: float = 0.0
    utterances: tuple[SpeechEnded, ...] = ()
    tallies: tuple[Tally, ...] = ()
    """Of the piece: after each utterance, and at its end."""
    problem: str | None = None
    error: str | None = None
    interrupted: bool = False


def plans_of(work: Sequence[Work], jobs: int) -> list[Plan]:
    """For each recording, how so many processes hear all of them."""
    lengths = [_length(item) for item in work]
    left_s = sum(duration_s for duration_s, _ in lengths)
    plans = []
    for item, (duration_s, cuttable) in zip(work, lengths, strict=True):
        every_s = item.settings.rest.every_s
        starts = [0]
        while cuttable:
            periods = max(1, int((left_s - starts[-1]) / (_SHARE * jobs)) // every_s)
            start = starts[-1] + periods * every_s
            if start + every_s > duration_s:
                break
            starts.append(start)
        plans.append(Plan(duration_s, [Span(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)]))
        left_s -= duration_s
    return plans


def _length(work: Work) -> tuple[float, bool]:
    """A recording's seconds, 0 if that cannot be told here, and whether it can be heard in pieces."""
    from realtime_ser.sources.file import FileSource

    if places.is_url(work.recording.place):
        return 0.0, False
    try:
        source = FileSource(work.recording.place)
    except RealtimeSerError:
        return 0.0, False  # told when it is heard
    return source.duration_s, source.seeks_exactly and work.channel == "mix"


def hear_piece(
    work: Work,
    span: Span,
    csv: Path,
    stopped: Callable[[], bool] = lambda: False,
    heard: Callable[[float], None] = lambda _: None,
    known: Beginning | None = None,
) -> Piece:
    """Write the rows of a span to `csv`.

    Parameters
    ----------
    stopped
        Asked before each block.
    heard
        Told after each block how many seconds of the span were heard.
    known
        What came before the span, if that is known already.
    """
    try:
        return _hear(work, span, csv, stopped, heard, known)
    except RealtimeSerError as error:
        return Piece(csv, error=str(error))


def _hear(
    work: Work,
    span: Span,
    csv: Path,
    stopped: Callable[[], bool],
    heard: Callable[[float], None],
    known: Beginning | None,
) -> Piece:
    from realtime_ser.events import SpeechEnded
    from realtime_ser.session import Beginning, Session
    from realtime_ser.sinks.csv import CsvSink
    from realtime_ser.sources.file import FileSource
    from realtime_ser.stages.rest import RestFinder

    name = work.recording.place
    begin_s = first_rest(work, span.from_s) if span.from_s else 0.0
    if begin_s is None or (span.until_s is not None and begin_s > span.until_s):
        csv.touch()  # the piece before has heard it
        return Piece(csv)
    model = _loaded(work.model)
    if known is None:
        known = Beginning(begin_s, 0, new_tally(work, model.contract.labels))
        known.tally.doubted = True  # a piece cannot tell whether one emotion holds nearly all of the recording
    session = Session(model, work.settings, name, profile=work.profile, beginning=replace(known, at_s=begin_s))
    source = FileSource(name, from_s=begin_s)
    rows: Literal["all", "utterance"] = "utterance" if work.rows == "utterance" else "all"
    sink = CsvSink(csv, session.labels, file=name, mode="overwrite", rows=rows, made_with=work.made_with)
    tally = new_tally(work, session.labels)
    utterances: list[SpeechEnded] = []
    tallies: list[Tally] = []

    def deliver(events: list[Event]) -> None:
        for event in events:
            tally.push(event)
            if isinstance(event, SpeechEnded):
                utterances.append(event)
                tallies.append(tally.copy())
            if work.rows != "file" or event.type != "measurement":
                sink.write(event)

    interrupted = ended = False
    # It ends at the first rest behind `until_s`, which so many samples come before.
    finder, before = None, 0
    if span.until_s is not None:
        finder = RestFinder(work.settings.rest, source.rate_hz, span.until_s)
        before = span.until_s * source.rate_hz - round(begin_s * source.rate_hz)
    for block in source:
        if interrupted := stopped():
            break
        if finder is not None and (rest := finder.push(block[before:])) is not None:
            block = block[: before + rest]
            ended = True  # nothing is left inside the session
        before = max(0, before - len(block))
        deliver(session.push(block, source.rate_hz))
        heard(session.clock_s - begin_s)
        if ended:
            break
    if not ended:
        deliver(session.flush("interrupted" if interrupted else "end of input", source.problem))
    sink.close()
    return Piece(csv, session.clock_s, tuple(utterances), (*tallies, tally), source.problem, interrupted=interrupted)


@cache
def _loaded(model: str | None) -> Model | WindowModel:
    """Once in a process, however many pieces it hears."""
    from realtime_ser.stages.model import load_model

    return load_model(model)


def first_rest(work: Work, from_s: int) -> float | None:
    """The first rest from a period's start on, in seconds; None if there is none."""
    from realtime_ser.sources.file import FileSource
    from realtime_ser.stages.rest import RestFinder

    source = FileSource(work.recording.place, from_s=from_s)
    finder = RestFinder(work.settings.rest, source.rate_hz, from_s)
    heard = 0
    for block in source:
        if (before := finder.push(block)) is not None:
            return from_s + (heard + before) / source.rate_hz
        heard += len(block)
    return None


def new_tally(work: Work, labels: tuple[str, ...]) -> Tally:
    from realtime_ser.tally import Tally

    return Tally(labels, round(work.settings.window.hop_s * RATE_HZ))


def join_pieces(
    work: Work, spans: list[Span], pieces: Iterable[Piece], csv: Path, hear_again: Callable[[Span, Beginning], Piece]
) -> tuple[SessionClosed, str | None]:
    """Write the timeline that one session would have written; its last event, and the recording's problem.

    Raises
    ------
    SourceError
        If a piece could not be heard.
    SinkError
        If the timeline cannot be written.
    """
    from realtime_ser.events import SessionClosed
    from realtime_ser.session import Beginning
    from realtime_ser.sinks._file import LineFile, first_line
    from realtime_ser.sinks.csv import CsvSink, renumbered_rows, sidecar_path
    from realtime_ser.timeline.pool import FilePool

    name, labels = work.recording.place, _loaded(work.model).contract.labels
    pool = FilePool(labels, work.settings.trace, work.profile)
    total = new_tally(work, labels)
    out: LineFile | None = None
    last: Piece | None = None
    utterances = n_heard = 0
    for span, piece in zip(spans, pieces, strict=False):
        if total_doubts(total, piece):
            piece = hear_again(span, Beginning(0, 0, total.copy()))
            total.doubted = True
        if piece.error:
            raise SourceError(piece.error)
        n_heard += 1
        if not piece.tallies:
            continue
        if out is None:
            out = LineFile(csv, "overwrite", str(first_line(piece.csv)).rstrip("\n"))
            sidecar_path(piece.csv).replace(sidecar_path(csv))
        if rows := renumbered_rows(piece.csv, name, utterances):
            out.write(rows)
        pool.push(piece.utterances)
        utterances += len(piece.utterances)
        total.add(piece.tallies[-1])
        last = piece
        if piece.interrupted or piece.problem:
            break  # nor does one that hears it whole get past what is damaged
    if out is not None:
        out.close()
    end_s, problem = (last.end_s, last.problem) if last else (0.0, None)
    whole = bool(problem) or n_heard == len(spans)
    if last and last.interrupted:
        whole = False
    closed = SessionClosed(
        session_id="",
        seq=0,
        start_s=0.0,
        end_s=end_s,
        channel=None,
        audio_s=end_s,
        reason="end of input" if whole else "interrupted",
        **total.totals(),
    )
    pooled = pool.push([closed])
    if pooled and work.rows == "file":
        with closing(CsvSink(csv, labels, file=name, mode="append")) as sink:
            sink.write(pooled)
    return closed, problem


def total_doubts(total: Tally, piece: Piece) -> bool:
    """Whether with this piece it would have been told that one emotion holds nearly all."""
    for tally in piece.tallies[:-1]:
        so_far = total.copy()
        so_far.add(tally)
        if so_far.doubt():
            return True
    return False
