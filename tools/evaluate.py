"""Score a shipped model through its ONNX files and the streaming `Session`.

`python -m tools.evaluate ser-base --corpora DIR --splits DIR -o docs/evaluation.md`

Every clip is a session of its own, pushed in blocks of 100 ms; its scores are those of `analyze --rows file`. A clip
in which the gate hears no speech, or too little, counts as wrong. Intervals: 95%, bootstrap over speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from realtime_ser.events import Event, Measurement
from realtime_ser.session import Session
from realtime_ser.settings import RATE_HZ, TraceSettings
from realtime_ser.stages.model import load_model
from realtime_ser.timeline.pool import FilePool
from tools.corpora import HELD_OUT_KEYWORD, NOISE_CORPUS, Clip, crema_d_validation, load, read_speakers
from tools.prepare import read_mono

FOUR = ("neutral", "happy", "sad", "angry")
BLOCK_SAMPLES = RATE_HZ // 10
BOOTSTRAPS = 1000

Distort = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""Samples and the clip's number → samples."""


@dataclass(frozen=True)
class Heard:
    """What a session made of a clip."""

    scores: NDArray[np.float32] | None
    """Pooled over the clip, shape (labels,); None if nothing was scored."""
    label: str | None
    """None while abstaining or in silence."""
    first_s: float | None
    """When the first measurement of speech came."""


def as_is(samples: NDArray[np.float32], _number: int) -> NDArray[np.float32]:
    return samples


def gain(samples: NDArray[np.float32], _number: int, gain_db: float) -> NDArray[np.float32]:
    return np.clip(samples * np.float32(10 ** (gain_db / 20)), -1, 1)


def noisy(
    samples: NDArray[np.float32], number: int, snr_db: float, noises: Sequence[Path] | None
) -> NDArray[np.float32]:
    """Recorded noise, or white without `noises`, at an SNR over the whole clip."""
    rng = np.random.default_rng(number)
    noise = rng.standard_normal(len(samples)) if noises is None else read_mono(noises[number % len(noises)])
    noise = np.resize(noise, len(samples))
    ratio = np.mean(np.square(samples)) / max(np.mean(np.square(noise)), 1e-12)
    return np.clip(samples + noise * np.sqrt(ratio * 10 ** (-snr_db / 10)), -1, 1).astype(np.float32)


def telephone(samples: NDArray[np.float32], _number: int) -> NDArray[np.float32]:
    """300 to 3400 Hz."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    spectrum[(hz < 300) | (hz > 3400)] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def hear(job: tuple[int, Path], model: str, distort: Distort) -> Heard:
    """Run one clip through a session."""
    number, path = job
    samples = distort(read_mono(path), number)
    session = Session(model)
    pool = FilePool(session.labels, TraceSettings())
    events: list[Event] = []
    for start in range(0, len(samples), BLOCK_SAMPLES):
        events += session.push(samples[start : start + BLOCK_SAMPLES])
    events += session.flush()
    pooled = pool.push(events)
    assert pooled is not None
    spoken = [e.end_s for e in events if isinstance(e, Measurement) and e.state != "no_speech"]
    scores = np.array([pooled.scores[label] for label in session.labels], np.float32) if pooled.scores else None
    return Heard(scores, pooled.label, spoken[0] if spoken else None)


def hear_all(clips: Sequence[Clip], model: str, distort: Distort, what: str) -> list[Heard]:
    with ProcessPoolExecutor() as pool:
        work = pool.map(partial(hear, model=model, distort=distort), enumerate(c.path for c in clips), chunksize=16)
        return list(track(work, what, total=len(clips)))


@dataclass(frozen=True)
class Score:
    """Of one set of clips over some labels."""

    n: int
    uar: float
    low: float
    high: float
    accuracy: float
    macro_f1: float
    recalls: dict[str, float]
    confusion: NDArray[np.int64]


def score(clips: Sequence[Clip], heard: Sequence[Heard], labels: Sequence[str], model_labels: Sequence[str]) -> Score:
    """Best of `labels` against the truth, over the clips whose emotion is among them."""
    kept = [(c, h) for c, h in zip(clips, heard, strict=True) if c.emotion in labels]
    columns = [list(model_labels).index(label) for label in labels]
    truth = np.array([labels.index(c.emotion) for c, _ in kept])
    guess = np.array([-1 if h.scores is None else int(h.scores[columns].argmax()) for _, h in kept])

    def uar(rows: NDArray[np.intp]) -> float:
        present = np.unique(truth[rows])
        return float(np.mean([np.mean(guess[rows][truth[rows] == k] == k) for k in present]))

    by_speaker: dict[str, list[int]] = {}
    for i, (clip, _) in enumerate(kept):
        by_speaker.setdefault(clip.speaker, []).append(i)
    groups = [np.array(rows) for rows in by_speaker.values()]
    rng = np.random.default_rng(0)
    draws = [
        uar(np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])) for _ in range(BOOTSTRAPS)
    ]
    low, high = np.percentile(draws, (2.5, 97.5))
    confusion = np.zeros((len(labels), len(labels) + 1), np.int64)
    np.add.at(confusion, (truth, guess), 1)  # -1, nothing scored, is the last column
    hits = np.diag(confusion)
    f1 = 2 * hits / np.maximum(confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0), 1)
    recalls = {label: float(hits[k] / confusion[k].sum()) for k, label in enumerate(labels) if confusion[k].sum()}
    everyone = np.arange(len(kept))
    return Score(
        len(kept), uar(everyone), low, high, float(np.mean(truth == guess)), float(f1.mean()), recalls, confusion
    )


def calibration_error(clips: Sequence[Clip], heard: Sequence[Heard], labels: Sequence[str], bins: int = 15) -> float:
    """Expected calibration error: |confidence - accuracy| over equal bins of confidence, weighted by their counts."""
    pairs = [
        (h.scores.max(), labels[int(h.scores.argmax())] == c.emotion)
        for c, h in zip(clips, heard, strict=True)
        if h.scores is not None
    ]
    confidence, right = np.array(pairs, float).T
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(sum(abs(np.sum(confidence[index == b]) - np.sum(right[index == b])) for b in range(bins)) / len(pairs))


def main(
    model: str,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")],
    output: Annotated[Path | None, typer.Option("-o", help="Also write the tables here, as Markdown.")] = None,
) -> None:
    """Print the tables."""
    contract = load_model(model).contract
    labels = contract.labels
    speakers = read_speakers(splits / "crema_d_validation_speakers.txt")
    everything = load(
        corpora, splits, ["CREMA-D", "RAVDESS", "TESS", "nEMO", "URDU", "TurEV-DB", "wake-word-benchmark"]
    )
    validation = [c for c in everything if crema_d_validation(c, speakers)]
    lines = [
        f"# Evaluation of {model}",
        "",
        f"`python -m tools.evaluate {model}`; sha256 `{load_model(model).sha256}`",
        "",
    ]

    heard = hear_all(validation, model, as_is, "CREMA-D validation")
    six = [label for label in labels if label in {c.emotion for c in validation}]
    whole = score(validation, heard, six, labels)
    lines += [
        "## CREMA-D, validation speakers, six classes",
        "",
        f"{whole.n} clips of {len(speakers)} speakers: UAR **{whole.uar:.3f}** [{whole.low:.3f}, {whole.high:.3f}], "
        f"accuracy {whole.accuracy:.3f}, macro-F1 {whole.macro_f1:.3f}, "
        f"ECE {calibration_error(validation, heard, labels):.3f}, "
        f"nothing scored in {sum(h.scores is None for h in heard)} clips, abstained in "
        f"{sum(h.scores is not None and h.label is None for h in heard)}.",
        "",
        "| spoken, heard → | " + " | ".join(six) + " | nothing | recall |",
        "|---" * (len(six) + 3) + "|",
    ]
    for k, label in enumerate(six):
        cells = " | ".join(map(str, whole.confusion[k]))
        lines.append(f"| {label} | {cells} | {whole.recalls[label]:.2f} |")

    lines += [
        "",
        "## Corpora never seen",
        "",
        f"Trained on {', '.join(contract.trained_on)}; not on these. "
        "Best of the shared classes only; chance is one over their number.",
        "",
        "| corpus | language | shared classes | UAR, shared | UAR, four (" + ", ".join(FOUR) + ") | recalls, four |",
        "|---|---|---|---|---|---|",
    ]
    fours = []
    for name in ("RAVDESS", "TESS", "nEMO", "URDU", "TurEV-DB"):
        if name in contract.trained_on:
            continue
        clips = [c for c in everything if c.corpus == name]
        outside = hear_all(clips, model, as_is, name)
        present = {c.emotion for c in clips}
        shared = score(clips, outside, [x for x in labels if x in present], labels)
        four = score(clips, outside, FOUR, labels)
        fours.append(four.uar)
        recalls = ", ".join(f"{four.recalls[x]:.2f}" for x in FOUR)
        lines.append(
            f"| {name} | {clips[0].language} | {len(shared.recalls)} | {shared.uar:.3f} [{shared.low:.3f}, "
            f"{shared.high:.3f}] | {four.uar:.3f} [{four.low:.3f}, {four.high:.3f}] | {recalls} |"
        )
    lines += ["", f"Mean of the four-class UARs: **{np.mean(fours):.3f}** (chance 0.25)."]

    commands = [c for c in everything if c.group == HELD_OUT_KEYWORD]
    quiet = hear_all(commands, model, as_is, "commands")
    guesses = [h.label for h in quiet]
    alarms = [g for g in guesses if g not in (None, "neutral")]
    lines += [
        "",
        "## Neutral commands into people's own microphones",
        "",
        f"{len(commands)} recordings of a keyword that was not trained on (other keywords were): "
        f"{len(alarms) / len(commands):.1%} labelled other than neutral; neutral "
        f"{guesses.count('neutral') / len(commands):.1%}, the rest unsure or not scored.",
        "",
        "## Robustness, CREMA-D validation speakers",
        "",
        "| condition | UAR | same label as clean |",
        "|---|---|---|",
    ]
    noises = sorted((corpora / NOISE_CORPUS).rglob("*.ogg"))
    conditions: list[tuple[str, Distort]] = [
        ("gain +12 dB (clipped at full scale)", partial(gain, gain_db=12)),
        ("gain -12 dB", partial(gain, gain_db=-12)),
        ("telephone band, 300 to 3400 Hz", telephone),
        *((f"white noise, {snr} dB", partial(noisy, snr_db=snr, noises=None)) for snr in (20, 10, 0)),
        *((f"ESC-10 sounds, {snr} dB", partial(noisy, snr_db=snr, noises=noises)) for snr in (20, 10, 0)),
    ]
    lines.append(f"| clean | {whole.uar:.3f} | |")
    clean = [None if h.scores is None else int(h.scores.argmax()) for h in heard]
    for name, distort in conditions:
        other = hear_all(validation, model, distort, name)
        same = np.mean(
            [c == (None if h.scores is None else int(h.scores.argmax())) for c, h in zip(clean, other, strict=True)]
        )
        lines.append(f"| {name} | {score(validation, other, six, labels).uar:.3f} | {same:.1%} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if output:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
