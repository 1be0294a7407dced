"""`realtime-ser analyze`: many recordings, as fast as the machines go."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from realtime_ser.cli import options, places
from realtime_ser.cli.pieces import Piece, Plan, Span, hear_piece, plans_of
from realtime_ser.cli.work import Outcome, Rows, Work, analyze_recording, join_recording
from realtime_ser.errors import SinkError, SourceError, UsageError
from realtime_ser.printable import plain_console, printable, say
from realtime_ser.signals import StopRequested, StopSignals, leave_to_parent

if TYPE_CHECKING:
    from ctypes import Array, c_double

    from realtime_ser.session import Beginning
    from realtime_ser.sinks.csv import CsvSink

T = TypeVar("T")
_LONGEST_WAIT_S = 0.5
"""Windows answers Ctrl-C between two waits."""
Result = Callable[[], Outcome | None]
"""Waits for a recording's outcome; None if it was not begun before a signal came."""


def analyze(
    paths: Annotated[list[str], typer.Argument(help="Recordings, and folders that are searched for them; or URLs.")],
    csv: Annotated[Path | None, typer.Option("--csv", help="One timeline for all recordings.")] = None,
    out: Annotated[str | None, typer.Option("--out", help="A folder or URL, for a timeline of each recording.")] = None,
    rows: Annotated[Rows, typer.Option(help="A row for each hop, utterance or file.")] = "hop",
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Processes.", min=1)] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster, or local: start one here."),
    ] = None,
    model: options.Model = None,
    overwrite: options.Overwrite = False,
    append: Annotated[bool, typer.Option("--append", help="Go on in the timeline of --csv that exists.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run was.")] = False,
    window: options.Window = options.WINDOW_S,
    hop: options.Hop = options.HOP_S,
    smooth: options.Smooth = options.SMOOTH_S,
    min_confidence: options.MinConfidence = options.MIN_CONFIDENCE,
    channel: options.Channel = "mix",
    denoise: options.Denoise = False,
    profile: options.Profile = None,
) -> None:
    """Analyse recordings into timelines. Without --csv or --out, a line for each recording."""
    from realtime_ser.sinks.csv import check_made_with, sidecar_path
    from realtime_ser.stages.model import load_model

    if resume and (overwrite or append):
        raise UsageError("--resume excludes --overwrite and --append", "give one")
    mode = options.mode_of(overwrite, append)
    settings = options.settings_of(window, hop, smooth, min_confidence, denoise)
    if csv is not None and str(csv) == "-":
        raise UsageError("--csv needs a file", "without it, a line for each recording goes to stdout")
    if csv is not None and out is not None:
        raise UsageError("--csv and --out exclude each other", "give one")
    if append and csv is None:
        raise UsageError("--append needs --csv", "name the timeline")
    if resume and csv is None and out is None:
        raise UsageError("--resume needs --csv or --out", "name what the interrupted run was to write")
    if scheduler is not None and csv is not None:
        raise UsageError("--scheduler needs --out", "its workers write their timelines there themselves")
    speaker = options.profile_of(profile)
    loaded = load_model(model)  # a faulty model is told once, before any work
    unlisted: list[SourceError] = []
    found = list(places.find_recordings(paths, unlisted.append))
    for folder in unlisted:
        say(f"realtime-ser: {folder}", sys.stderr)
    if not found and unlisted:
        raise typer.Exit(1)
    if not found:
        raise UsageError(
            f"no recordings in {', '.join(paths)}", f"looked for {' '.join(sorted(places.AUDIO_SUFFIXES))}"
        )
    if csv is not None:
        options.keep_inputs([csv, sidecar_path(csv)], [recording.place for recording in found])

    with StopSignals() as signals, ExitStack() as stack:
        results: list[str] | list[None] = [None] * len(found)
        whole: set[str] = set()
        """Of the recordings, those that an interrupted run has finished."""
        joined = None
        made_with = {
            "model_sha256": loaded.sha256,
            "settings": asdict(settings),
            "profile": speaker and speaker.name,
            "rows": rows,
            "channels": channel,
        }
        if out is not None:
            results = [places.joined(out, recording.name + ".csv") for recording in found]
            there = existing_results(out, results, refuse=mode == "new" and not resume)
            whole = {recording.place for recording, done in zip(found, there, strict=True) if done}
            if resume and any(there):  # the first speaks for all: a mistyped command, not a thousand files to fetch
                with places.fetched(f"{results[there.index(True)]}.json") as sidecar:
                    check_made_with(sidecar, **made_with)
        elif csv is not None:
            parts = tempfile.mkdtemp(prefix="realtime-ser-")
            stack.callback(shutil.rmtree, parts, ignore_errors=True)
            results = [str(Path(parts, f"{i}.csv")) for i in range(len(found))]
            with signals.waiting():  # a named pipe is open once somebody reads it
                joined, whole = open_joined(csv, found, loaded.contract.labels, mode, made_with if resume else None)
            stack.callback(joined.close)
        work = [
            Work(recording, result, rows, model, settings, channel, speaker)
            for recording, result in zip(found, results, strict=True)
            if not (resume and recording.place in whole)
        ]
        if len(work) < len(found):
            say(f"{len(found) - len(work)} recordings were analysed before", sys.stderr)
        print_lines = csv is None and out is None
        outcomes = collect(work, jobs, scheduler, signals, joined, print_lines) if work else []
    failed = sum(o.error is not None for o in outcomes)
    analysed = sum(o.error is None and not o.interrupted for o in outcomes)
    seconds = sum(o.audio_s for o in outcomes)
    left = len(work) - analysed - failed
    say(
        f"{analysed} of {len(work)} recordings analysed, {seconds:.1f} s of audio"
        + (f", {failed} failed" if failed else "")
        + (f", {left} not finished" if left else "")
        + ("; --resume goes on" if left and not print_lines else ""),
        sys.stderr,
    )
    raise typer.Exit(signals.exit_code or (1 if failed or unlisted else 0))


def existing_results(out: str, results: list[str], refuse: bool) -> list[bool]:
    """Which results are there before any work. No two may be one, and with `refuse` none may be there."""
    if len(set(results)) < len(results):
        twice = next(place for place in results if results.count(place) > 1)
        raise UsageError(f"two recordings would both be written to {twice}", "analyse their folders one by one")
    there = places.existing(out, results)
    if refuse and any(there):
        raise SinkError(
            f"{results[there.index(True)]}: exists already", "give --overwrite or --resume, or another folder"
        )
    return there


def open_joined(
    csv: Path,
    found: list[places.Recording],
    labels: tuple[str, ...],
    mode: options.Mode,
    resumed_with: dict[str, Any] | None,
) -> tuple[CsvSink, set[str]]:
    """The one timeline of all, refused before any work if it cannot be written, and the recordings that it holds.

    `resumed_with` is what it must have been made with to be resumed; None if it is not to be.
    """
    from realtime_ser.sinks.csv import CsvSink, file_cell, keep_whole_files

    if resumed_with is None or not csv.is_file():
        return CsvSink(csv, labels, file="", mode=mode), set()
    names = keep_whole_files(csv, labels, **resumed_with)
    kept = set(names)
    whole = {recording.place for recording in found if file_cell(recording.place) in kept}
    return CsvSink(csv, labels, file="", mode="append", joined=names), whole


class ProgressBar:
    """On stderr, so that results on stdout stay clean: recordings, hours, speed, and the time left by their size."""

    def __init__(self, work: list[Work]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._sizes = [max(item.recording.size_bytes, 1) for item in work]
        self._done = 0
        self._done_bytes = 0
        self._audio_s = 0.0
        self._begun = time.monotonic()
        columns = TextColumn("analysing"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
        self._progress = Progress(*columns, console=plain_console(stderr=True))
        self._bar = self._progress.add_task(f"0/{len(work)}", total=sum(self._sizes))

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def heard(self, audio_s: float, share: float) -> None:
        """So much was heard of the recording at work."""
        self._show(self._audio_s + audio_s, self._done_bytes + share * self._sizes[self._done])

    def finished(self, audio_s: float) -> None:
        """The recording at work is finished."""
        self._audio_s += audio_s
        self._done_bytes += self._sizes[self._done]
        self._done += 1
        self._show(self._audio_s, self._done_bytes)

    def _show(self, audio_s: float, done_bytes: float) -> None:
        speed = audio_s / max(time.monotonic() - self._begun, 1e-3)
        self._progress.update(
            self._bar,
            completed=done_bytes,
            description=f"{self._done}/{len(self._sizes)}, {audio_s / 3600:.2f} h, {speed:.0f} times real time",
        )

    def tell(self, line: str) -> None:
        """A line above the bar."""
        self._progress.console.print(printable(f"realtime-ser: {line}"), soft_wrap=True)


def collect(
    work: list[Work], jobs: int, scheduler: str | None, signals: StopSignals, joined: CsvSink | None, print_lines: bool
) -> list[Outcome]:
    """Run the work; results are joined and told in the order of the recordings."""
    from realtime_ser.sinks.csv import sidecar_path

    outcomes: list[Outcome] = []
    with ProgressBar(work) as bar, _running(work, jobs, scheduler, signals, bar) as results:
        for item, result in zip(work, results, strict=False):
            outcome = result()
            if outcome is None:
                break
            outcomes.append(outcome)
            place = item.recording.place
            if outcome.error:
                bar.tell(outcome.error)
            elif outcome.problem:
                bar.tell(f"{place}: {outcome.problem}")
            if joined is not None and outcome.timeline:
                part = Path(outcome.timeline)
                joined.join(part)
                part.unlink()  # else the temporary folder would grow as large as the result
                sidecar_path(part).unlink(missing_ok=True)
            if print_lines and not outcome.error:
                say(f"{place}: {outcome.summary}")
            if not outcome.interrupted:
                bar.finished(outcome.audio_s)
            if signals.received:
                break
    return outcomes


def _running(
    work: list[Work], jobs: int, scheduler: str | None, signals: StopSignals, bar: ProgressBar
) -> AbstractContextManager[Iterator[Result]]:
    """Who does it."""
    if scheduler is not None:
        from realtime_ser.cli.cluster import on_cluster

        return on_cluster(work, scheduler, jobs, signals)
    plans = plans_of(work, jobs) if jobs > 1 else []
    if sum(len(plan.spans) for plan in plans) > 1:
        return _in_processes(work, plans, jobs, signals, bar)

    def stopped() -> bool:
        return signals.received is not None

    return nullcontext(partial(analyze_recording, item, stopped, bar.heard) for item in work)


@contextmanager
def _in_processes(
    work: list[Work], plans: list[Plan], jobs: int, signals: StopSignals, bar: ProgressBar
) -> Iterator[Iterator[Result]]:
    context = get_context("spawn")
    slots = [0, *accumulate(len(plan.spans) for plan in plans)]
    # Without a lock, which a process that is killed might hold: each slot has one writer.
    stop, heard_s = context.Event(), context.RawArray("d", slots[-1])
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # in those processes: there are as many as there are cores
    with (
        tempfile.TemporaryDirectory(prefix="realtime-ser-") as folder,
        ProcessPoolExecutor(min(jobs, slots[-1]), context, _begin_worker, (stop, heard_s)) as pool,
    ):
        futures: list[Future[Any]] = []

        def submit(act: Callable[..., T], *arguments: Any) -> Future[T]:
            future = pool.submit(act, *arguments)
            futures.append(future)
            return future

        def result(number: int, future: Future[T]) -> T | None:
            try:
                with signals.waiting():
                    while not future.done():
                        wait([future], _LONGEST_WAIT_S)
                        so_far_s, whole_s = sum(heard_s[slots[number] : slots[number + 1]]), plans[number].duration_s
                        bar.heard(so_far_s, min(so_far_s / whole_s, 1.0) if whole_s else 0.0)
                    return future.result()
            except StopRequested:
                # The workers are told: each closes its session, and what it heard is kept.
                stop.set()
                for waiting in futures:
                    waiting.cancel()
                return None if future.cancelled() else future.result()

        def begun(number: int) -> Result:
            item, parts = work[number], plans[number].spans
            if len(parts) == 1:
                return partial(result, number, submit(_work, slots[number], item))
            csvs = [Path(folder, f"{number}-{i}.csv") for i in range(len(parts))]
            heard = [
                submit(_piece, slot, item, part, csv)
                for slot, (part, csv) in enumerate(zip(parts, csvs, strict=True), slots[number])
            ]

            def in_order() -> Iterator[Piece]:
                for future in heard:
                    if (piece := result(number, future)) is None:
                        return
                    yield piece
                    piece.csv.unlink()

            def again(part: Span, before: Beginning) -> Piece:
                return hear_piece(item, part, csvs[parts.index(part)], known=before)

            def joined() -> Outcome | None:
                return join_recording(item, parts, in_order(), again)

            return joined

        try:
            yield iter([begun(number) for number in range(len(work))])
        except BrokenProcessPool:
            raise SourceError("a process died, perhaps of too little memory", "--resume goes on") from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_stop: ProcessEvent
_heard_s: Array[c_double]
"""How much was heard of each piece."""


def _begin_worker(stop: ProcessEvent, heard_s: Array[c_double]) -> None:
    global _stop, _heard_s
    _stop, _heard_s = stop, heard_s
    leave_to_parent(sigterm=False)  # with it a pool that lost a process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's processes outlive a parent that was killed, and wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(slot: int, item: Work) -> Outcome:
    def heard(audio_s: float, _: float) -> None:
        _heard_s[slot] = audio_s

    return analyze_recording(item, _stop.is_set, heard)


def _piece(slot: int, item: Work, span: Span, csv: Path) -> Piece:
    def heard(audio_s: float) -> None:
        _heard_s[slot] = audio_s

    return hear_piece(item, span, csv, _stop.is_set, heard)
