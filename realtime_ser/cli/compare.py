"""`realtime-ser compare`: the timeline beside what people heard, and clips for them to rate."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realtime_ser.cli import options
from realtime_ser.printable import plain_console, printable, say, say_json

if TYPE_CHECKING:
    from realtime_ser.timeline.compare import Comparison
    from realtime_ser.timeline.read import Timeline


def compare(
    timeline: Annotated[Path, typer.Argument(help="What --csv or --jsonl wrote.")],
    labels: Annotated[
        list[Path] | None,
        typer.Argument(help="Labels of one or more raters: Audacity, TextGrid, ELAN, audformat, CSV; or a timeline."),
    ] = None,
    tier: Annotated[str | None, typer.Option(help="Of a TextGrid or ELAN file, the tier with the labels.")] = None,
    recording: Annotated[
        str | None, typer.Option(help="Of a timeline of several recordings, the one in this `file`.")
    ] = None,
    channel: Annotated[int | None, typer.Option(help="Of a timeline of several channels, this one.", min=1)] = None,
    sample: Annotated[
        int | None,
        typer.Option(help="Write clips to rate: so many of its least sure labels, and so many random ones.", min=1),
    ] = None,
    audio: Annotated[Path | None, typer.Option(help="The recording, for --sample.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A new folder, for --sample.")] = None,
    as_json: options.Json = False,
) -> None:
    """Agreement, kappa, confusion and concordance of a timeline with human labels."""
    from realtime_ser.errors import UsageError
    from realtime_ser.timeline.annotations import Wanted, read_annotations
    from realtime_ser.timeline.compare import compare as measure
    from realtime_ser.timeline.compare import of_channel, only_lane
    from realtime_ser.timeline.export import of_recording
    from realtime_ser.timeline.read import read_timeline

    found = read_timeline(timeline)
    for problem in found.problems:
        say(f"realtime-ser: {timeline}: {problem}", sys.stderr)
    if recording is not None:
        found = of_recording(found, recording)
    if channel is not None:
        found = of_channel(found, channel)
    if sample is not None:
        if labels or audio is None or out is None:
            raise UsageError("--sample needs --audio and --out, and no labels", "they are to be made")
        write_sample(found, sample, audio, out)
        return
    if not labels:
        raise UsageError("no labels to compare with", "give a file of them, or --sample to make one")
    lane = only_lane(found)
    wanted = Wanted(found.labels, lane.file, lane.channel, tier, lambda line: say(f"realtime-ser: {line}", sys.stderr))
    tell(measure(found, [read_annotations(path, wanted) for path in labels]), as_json)


def tell(result: Comparison, as_json: bool) -> None:
    """Print it for people or programs."""
    from dataclasses import asdict

    if as_json:
        content = asdict(result) | {"confusion": result.confusion.tolist()}
        say_json({k: None if v != v else v for k, v in content.items()})
        return
    from rich.table import Table

    def number(value: float) -> str:
        return "–" if value != value else f"{value:.2f}"

    say(
        f"{result.compared_s:.2f} s compared; {result.only_timeline_s:.2f} s labelled by the timeline alone, "
        f"{result.only_raters_s:.2f} s by people alone"
    )
    if result.unknown:
        say(f"labels of people that the model does not have: {printable(', '.join(result.unknown))}")
    if result.tied_s:
        say(f"{result.tied_s:.2f} s of that tied between raters, and left out of agreement and the table")
    agreement = "–" if result.agreement != result.agreement else f"{result.agreement:.0%}"
    say(f"agreement {agreement}, Cohen's kappa {number(result.cohens_kappa)}, "
          f"Fleiss' kappa {number(result.fleiss_kappa)}")  # fmt: skip
    say(f"concordance over {result.affect_s:.2f} s: arousal {number(result.arousal_concordance)}, "
        f"valence {number(result.valence_concordance)}")  # fmt: skip
    used = [i for i in range(len(result.labels)) if result.confusion[i].any() or result.confusion[:, i].any()]
    if not used:
        return
    say("moments: people by row, timeline by column")  # not the table's title, which is broken at the table's width
    table = Table(box=None)
    table.add_column("")
    for i in used:
        table.add_column(printable(result.labels[i]), justify="right")
    for i in used:
        table.add_row(printable(result.labels[i]), *(str(result.confusion[i, j]) for j in used))
    plain_console().print(table)


def write_sample(timeline: Timeline, n: int, audio: Path, out: Path) -> None:
    """Clips in an order that tells nothing, and a table with a blank for each; which are which stands in key.csv.

    Raises
    ------
    TimelineError
        If the timeline has several lanes, names no emotion, or has another length than the audio.
    SinkError
        If the folder exists, or cannot be written.
    SourceError
        If the audio cannot be read, there is none, or not the timeline's channel.
    """
    import numpy as np
    import soundfile

    from realtime_ser.errors import SinkError, SourceError, TimelineError
    from realtime_ser.sources.file import FileSource
    from realtime_ser.timeline.compare import most_uncertain, only_lane, random_windows
    from realtime_ser.timeline.sound import check_length

    source = FileSource(audio)
    channel = only_lane(timeline).channel
    if channel > source.channels:
        raise SourceError(f"{audio}: has no channel {channel}", "give the recording that the timeline was made of")
    uncertain = most_uncertain(timeline, n)
    drawn = random_windows(timeline, n, uncertain)
    chosen = [(*w, "uncertain") for w in uncertain] + [(*w, "random") for w in drawn]
    chosen = [chosen[i] for i in np.random.default_rng(1).permutation(len(chosen))]
    if not chosen:
        raise TimelineError(f"{timeline.path}: names no emotion", "there is nothing to rate")
    blocks = [block[:, channel - 1] if channel else block for block in source]
    if not blocks:
        raise SourceError(f"{audio}: has no samples", "give the recording that the timeline was made of")
    samples = np.concatenate(blocks)
    check_length(audio, len(samples) / source.rate_hz, timeline)
    try:
        out.mkdir()
        with (out / "labels.csv").open("w", newline="") as blank, (out / "key.csv").open("w", newline="") as key:
            blanks, keys = csv.writer(blank), csv.writer(key)
            blanks.writerow(["clip", "start", "end", "label", "arousal", "valence"])
            keys.writerow(["clip", "start", "end", "drawn"])
            for number, (start_s, end_s, why) in enumerate(chosen, 1):
                name = f"{number:03}.wav"
                part = samples[round(start_s * source.rate_hz) : round(end_s * source.rate_hz)]
                soundfile.write(out / name, part, source.rate_hz)
                blanks.writerow([name, f"{start_s:.3f}", f"{end_s:.3f}", "", "", ""])
                keys.writerow([name, f"{start_s:.3f}", f"{end_s:.3f}", why])
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SinkError(f"{out}: cannot be written ({reason})", "give a new folder") from None
    say(f"{len(chosen)} clips in {out}; fill in labels.csv and give it to compare")
