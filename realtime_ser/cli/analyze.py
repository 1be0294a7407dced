"""`realtime-ser analyze`: many recordings, as fast as the machine goes."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from realtime_ser.cli import options
from realtime_ser.cli.signals import StopRequested, StopSignals
from realtime_ser.errors import RealtimeSerError, SinkError, UsageError
from realtime_ser.printable import printable
from realtime_ser.settings import SessionSettings
from realtime_ser.stages.profile import Profile

if TYPE_CHECKING:
    from rich.progress import Progress

    from realtime_ser.sinks.csv import CsvSink

Rows = Literal["hop", "utterance", "file"]

AUDIO_SUFFIXES = frozenset(".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .w64 .wav .wave".split())
"""What counts as audio inside a folder; a file that is named is always tried."""


@dataclass(frozen=True)
class Work:
    """One recording and how to analyse it; goes to a worker process."""

    path: Path
    csv: Path
    """This recording's own timeline: the result in a folder, or a part to be joined."""
    rows: Rows
    model: str | None
    settings: SessionSettings
    channel: str
    profile: Profile | None
    mode: options.Mode = "overwrite"


@dataclass(frozen=True)
class Outcome:
    """What became of a recording."""

    path: Path
    audio_s: float = 0.0
    summary: str = ""
    problem: str | None = None
    """Why it was analysed only in part."""
    error: str | None = None
    """Why it failed."""


def analyze(
    paths: Annotated[list[Path], typer.Argument(help="Recordings, and folders that are searched for them.")],
    csv: Annotated[Path | None, typer.Option("--csv", help="One timeline for all recordings.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A folder, with one timeline for each recording.")] = None,
    rows: Annotated[Rows, typer.Option(help="A row for each hop, utterance or file.")] = "hop",
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Processes.", min=1)] = 1,
    model: options.Model = None,
    overwrite: options.Overwrite = False,
    append: options.Append = False,
    window: options.Window = options.WINDOW_S,
    hop: options.Hop = options.HOP_S,
    smooth: options.Smooth = options.SMOOTH_S,
    channel: options.Channel = "mix",
    denoise: options.Denoise = False,
    profile: options.Profile = None,
) -> None:
    """Analyse recordings into timelines. Without --csv or --out, a line for each recording."""
    from realtime_ser.stages.model import load_model

    mode = options.mode_of(overwrite, append)
    settings = options.settings_of(window, hop, smooth, denoise)
    if csv is not None and out is not None:
        raise UsageError("--csv and --out exclude each other", "give one")
    if append and out is not None:
        raise UsageError("--append needs --csv", "give --overwrite or another folder")
    speaker = options.profile_of(profile)
    load_model(model)  # a faulty model is told once, before any work
    found = list(find_recordings(paths))
    if not found:
        raise UsageError(
            f"no recordings in {', '.join(map(str, paths))}", f"looked for {' '.join(sorted(AUDIO_SUFFIXES))}"
        )

    with StopSignals() as signals, ExitStack() as stack:
        if out is not None:
            work = [Work(p, out / f"{name}.csv", rows, model, settings, channel, speaker, mode) for p, name in found]
            refuse_existing([w.csv for w in work], mode)
            joined = None
        else:
            parts = Path(tempfile.mkdtemp(prefix="realtime-ser-"))
            stack.callback(shutil.rmtree, parts, ignore_errors=True)
            work = [
                Work(p, parts / f"{i}.csv", rows, model, settings, channel, speaker) for i, (p, _) in enumerate(found)
            ]
            joined = None if csv is None else open_joined(csv, work[0], mode)
            if joined is not None:
                stack.callback(joined.close)
        outcomes = collect(work, jobs, signals, joined, print_lines=csv is None and out is None)
    failed = [o for o in outcomes if o.error]
    seconds = sum(o.audio_s for o in outcomes)
    left = len(work) - len(outcomes)
    print(
        f"{len(outcomes) - len(failed)} of {len(work)} recordings analysed, {seconds:.1f} s of audio"
        + (f", {len(failed)} failed" if failed else "")
        + (f", {left} not begun" if left else ""),
        file=sys.stderr,
    )
    raise typer.Exit(signals.exit_code or (1 if failed else 0))


def find_recordings(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Each recording once, with a name for its result: files as named, folders searched in order of name."""
    seen: set[Path] = set()
    for given in paths:
        inside = given.is_dir()
        candidates = sorted(p for p in given.rglob("*") if p.is_file()) if inside else [given]
        for path in candidates:
            if inside and path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, str(path.relative_to(given)) if inside else path.name


def refuse_existing(results: list[Path], mode: options.Mode) -> None:
    """Before any work: no result may be there already, and no two may be one."""
    if len(set(results)) < len(results):
        twice = next(p for p in results if results.count(p) > 1)
        raise UsageError(f"two recordings would both be written to {twice}", "analyse their folders one by one")
    existing = [p for p in results if p.exists()]
    if existing and mode == "new":
        raise SinkError(f"{existing[0]}: exists already", "give --overwrite, or another folder")


def open_joined(csv: Path, first: Work, mode: options.Mode) -> CsvSink:
    """The one timeline of all; refused before any work if it cannot be written."""
    from realtime_ser.sinks.csv import CsvSink
    from realtime_ser.stages.model import load_model

    return CsvSink(csv, load_model(first.model).contract.labels, file=str(first.path), mode=mode)


def collect(
    work: list[Work], jobs: int, signals: StopSignals, joined: CsvSink | None, print_lines: bool
) -> list[Outcome]:
    """Run the work with a progress bar; results are joined and told in the order of the recordings."""
    outcomes: list[Outcome] = []

    def tell(line: str) -> None:
        text = f"realtime-ser: {printable(line)}"
        progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    with progress_bar() as progress, running(work, jobs, signals) as results:
        bar = progress.add_task("analysing", total=len(work), hours="")
        for item, result in zip(work, results, strict=False):
            try:
                with signals.waiting():
                    outcome = result()
            except StopRequested:
                # The worker was told as well: it closes its session, and what it heard is kept.
                outcome = result()
            outcomes.append(outcome)
            if outcome.error:
                tell(outcome.error)
            elif outcome.problem:
                tell(f"{item.path}: {outcome.problem}")
            if joined is not None and item.csv.exists():
                joined.join(item.csv)
            if print_lines and not outcome.error:
                print(f"{printable(str(item.path))}: {outcome.summary}", flush=True)
            seconds = sum(o.audio_s for o in outcomes)
            progress.update(bar, advance=1, hours=f"{seconds / 3600:.2f} h of audio")
            if signals.received:
                break
    return outcomes


@contextmanager
def running(work: list[Work], jobs: int, signals: StopSignals) -> Iterator[Iterator[Callable[[], Outcome]]]:
    """What gives each recording's outcome, in order: from this process, or from workers that run ahead."""
    if jobs == 1 or len(work) == 1:
        yield (partial(analyze_file, item, lambda: signals.received is not None) for item in work)
        return
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(min(jobs, len(work)), context, _begin_worker, (stop,)) as pool:
        futures = [pool.submit(_work, item) for item in work]

        def result(future: Future[Outcome]) -> Outcome:
            if signals.received:
                stop.set()
                for waiting in futures:
                    waiting.cancel()
            return future.result()

        try:
            yield (partial(result, future) for future in futures)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_stop: ProcessEvent


def _begin_worker(stop: ProcessEvent) -> None:
    global _stop
    _stop = stop
    # Ctrl-C reaches every process of the terminal; only the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(item: Work) -> Outcome:
    return analyze_file(item, _stop.is_set)


def analyze_file(work: Work, stopped: Callable[[], bool]) -> Outcome:
    """One recording into its CSV, block by block; an error is part of the outcome."""
    try:
        return _analyze_file(work, stopped)
    except RealtimeSerError as error:
        return Outcome(work.path, error=str(error))


def _analyze_file(work: Work, stopped: Callable[[], bool]) -> Outcome:
    from realtime_ser.cli.stream import open_session, totals
    from realtime_ser.events import Event, Measurement, SessionClosed
    from realtime_ser.sinks.csv import CsvSink
    from realtime_ser.sources.file import FileSource
    from realtime_ser.timeline.pool import FilePool

    source = FileSource(work.path)
    channels = options.channels_of(work.channel, source.channels)
    session = open_session(work.model, work.settings, source.name, channels, work.profile)
    lanes: list[int | None] = [*channels] if channels else [None]
    pools = {lane: FilePool(session.labels, work.settings.trace, work.profile) for lane in lanes}
    with ExitStack() as stack:
        work.csv.parent.mkdir(parents=True, exist_ok=True)
        rows: Literal["all", "utterance"] = "utterance" if work.rows == "utterance" else "all"
        sink = CsvSink(work.csv, session.labels, file=source.name, mode=work.mode, rows=rows)
        stack.callback(sink.close)

        def deliver(events: list[Event]) -> None:
            for event in events:
                pooled = pools[event.channel].push([event])
                if work.rows != "file" or not isinstance(event, Measurement):
                    sink.write(event)
                if pooled and work.rows == "file":
                    sink.write(pooled)

        reason = "end of input"
        for block in source:
            if stopped():
                reason = "interrupted"
                break
            deliver(session.push(block, source.rate_hz))
        last = session.flush(reason, source.problem)
        deliver(last)
        closed = [event for event in last if isinstance(event, SessionClosed)]
    summary = "; ".join(totals(each) for each in closed)
    return Outcome(work.path, closed[0].audio_s, summary, source.problem)


def progress_bar() -> Progress:
    """On stderr, so that results on stdout stay clean."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[hours]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
