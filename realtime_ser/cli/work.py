"""One recording into its timeline: what a process of `analyze`, here or on a cluster, has to do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from realtime_ser.cli import options, pieces, places
from realtime_ser.errors import RealtimeSerError, SinkError
from realtime_ser.settings import SessionSettings

if TYPE_CHECKING:
    from realtime_ser.events import SessionClosed
    from realtime_ser.session import Beginning
    from realtime_ser.stages.profile import Profile

Rows = Literal["hop", "utterance", "file"]
_UNFINISHED = ".part"


@dataclass(frozen=True)
class Work:
    """One recording and how to analyse it; pickled on its way to a worker."""

    recording: places.Recording
    result: str | None
    """Where its timeline goes, path or URL; None if nobody wants it."""
    rows: Rows
    model: str | None
    settings: SessionSettings
    channel: str
    profile: Profile | None

    @property
    def made_with(self) -> dict[str, str]:
        """For the sidecar, what a session does not know and a run that resumes must agree with."""
        return {"rows": self.rows, "channels": self.channel}


@dataclass(frozen=True)
class Outcome:
    """What became of a recording."""

    audio_s: float = 0.0
    summary: str = ""
    problem: str | None = None
    """Why it was analysed only in part."""
    error: str | None = None
    """Why it failed."""
    timeline: str | None = None
    """Where its rows are."""
    interrupted: bool = False
    """There may be more of it."""


def analyze_recording(
    work: Work, stopped: Callable[[], bool] = lambda: False, heard: Callable[[float, float], None] | None = None
) -> Outcome:
    """Block by block into its timeline; an error is part of the outcome.

    A timeline is at its place when it is whole. One that was stopped, or whose writer was killed, stands beside it as
    `….part`.

    Parameters
    ----------
    stopped
        Asked after each block.
    heard
        Told after each block how many seconds were heard, and what share of the recording that is.
    """
    try:
        with places.fetched(work.recording.place) as path, _timeline(work.result) as csv:
            return _analyze(work, path, csv, stopped, heard)
    except RealtimeSerError as error:
        return Outcome(error=str(error))


@contextmanager
def _timeline(result: str | None) -> Iterator[Path]:
    """Where to write it meanwhile; raises SinkError."""
    if result is not None and not places.is_url(result):
        path = Path(result + _UNFINISHED)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SinkError(f"{path.parent}: cannot be made a folder ({reason})", "choose another --out") from None
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="realtime-ser-") as folder:
            yield Path(folder) / "timeline.csv"


def _analyze(
    work: Work,
    path: Path,
    csv: Path,
    stopped: Callable[[], bool],
    heard: Callable[[float, float], None] | None,
) -> Outcome:
    from realtime_ser.cli.stream import open_session
    from realtime_ser.events import Event, Measurement, SessionClosed
    from realtime_ser.sinks.csv import CsvSink
    from realtime_ser.sources.file import FileSource
    from realtime_ser.timeline.pool import FilePool

    source = FileSource(path, name=work.recording.place)
    channels = options.channels_of(work.channel, source.channels)
    session = open_session(work.model, work.settings, source.name, channels, work.profile)
    lanes: list[int | None] = [*channels] if channels else [None]
    pools = {lane: FilePool(session.labels, work.settings.trace, work.profile) for lane in lanes}
    reason = "end of input"
    with ExitStack() as stack:
        rows: Literal["all", "utterance"] = "utterance" if work.rows == "utterance" else "all"
        sink = CsvSink(csv, session.labels, file=source.name, mode="overwrite", rows=rows, made_with=work.made_with)
        stack.callback(sink.close)

        def deliver(events: list[Event]) -> None:
            for event in events:
                pooled = pools[event.channel].push([event])
                if work.rows != "file" or not isinstance(event, Measurement):
                    sink.write(event)
                if pooled and work.rows == "file":
                    sink.write(pooled)

        for block in source:
            if stopped():
                reason = "interrupted"
                break
            deliver(session.push(block, source.rate_hz))
            if heard:
                heard(session.clock_s, session.clock_s / max(source.duration_s, session.clock_s))
        last = session.flush(reason, source.problem)
        deliver(last)
    return _finish(work, csv, [event for event in last if isinstance(event, SessionClosed)], source.problem)


def join_recording(
    work: Work,
    spans: list[pieces.Span],
    heard: Iterable[pieces.Piece],
    hear_again: Callable[[pieces.Span, Beginning], pieces.Piece],
) -> Outcome:
    """Its timeline of pieces that others have heard, as `analyze_recording` would write it."""
    try:
        with _timeline(work.result) as csv:
            closed, problem = pieces.join_pieces(work, spans, heard, csv, hear_again)
            return _finish(work, csv, [closed], problem)
    except RealtimeSerError as error:
        return Outcome(error=str(error))


def _finish(work: Work, csv: Path, closed: list[SessionClosed], problem: str | None) -> Outcome:
    """Put a timeline at its place, if it is whole."""
    from realtime_ser.cli.stream import totals
    from realtime_ser.sinks.csv import sidecar_path

    summary = "; ".join(totals(each) for each in closed)
    audio_s = closed[0].audio_s
    if closed[0].reason == "interrupted":
        return Outcome(audio_s, summary, f"interrupted after {audio_s:.1f} s", timeline=str(csv), interrupted=True)
    if work.result is not None:
        # First what the rows are made with, then the rows: where a timeline is, its sidecar is too.
        places.store(sidecar_path(csv), f"{work.result}.json")
        places.store(csv, work.result)
    return Outcome(audio_s, summary, problem, timeline=work.result)
