"""Score a shipped model through its ONNX files and the streaming `Session`.

`python -m tools.evaluate ser-base --corpora DIR -o docs/evaluation`

Every clip is a session of its own, pushed in blocks of 100 ms; its scores are those of `analyze --rows file`. A clip
in which the gate hears no speech, or too little, counts as wrong. Intervals: 95%, bootstrap over speakers. Siblings
(`tools/siblings.py`), runs of the same recipe that left something out, are measured on just that; those that left out
nothing are other seeds of the last training. `--test` is for once: the speakers that nobody has looked at, of whoever
has all of CREMA-D.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from rich.progress import track

from realtime_ser.events import Measurement
from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.clean import Cleaner
from realtime_ser.stages.gate import SpeechGate, SpeechOpened
from realtime_ser.stages.model import find_model, load_model
from tools import metrics
from tools.answers import Answers, ask
from tools.corpora import COMMANDS, LABELS, NOISE_CORPUS, PROMPTS, Clip, crema_d, load
from tools.degrade import Samples
from tools.listen import Condition, as_is, conditions, session_events
from tools.prepare import noise_paths, read_mono
from tools.siblings import SIBLINGS, siblings_of
from tools.speed import speed
from tools.splits import HELD_OUT_KEYWORD, HELD_OUT_VOICES, SPLITS, crema_d_train, crema_d_validation
from tools.strangers import OUTSIDE_HEADER, alarms, mean_of_four, outside, seeds_report, siblings_report, trust
from tools.tables import Lines, table

matplotlib.use("Agg")
from matplotlib import pyplot

STRANGERS = ("RAVDESS", "TESS", "nEMO", "URDU", "TurEV-DB")
HEARD_S = (0.5, 1.0, 1.5, 2.0, 3.0)
STREAM_PAUSE_S = 0.3
AGES = ((20, 29), (30, 39), (40, 49), (50, 59), (60, 74))


def whole_clips(answers: Answers, six: Sequence[str], picture: Path) -> Lines:
    truth, guess = answers.truth, answers.guess(six)
    counts = metrics.confusion(truth, guess, len(answers.labels))[: len(six)]
    draw_confusion(counts[:, : len(six)], six, picture)
    speakers = answers.speakers
    accuracy = metrics.bootstrap(lambda r: float(np.mean(truth[r] == guess[r])), speakers)
    f1 = metrics.bootstrap(lambda r: metrics.macro_f1(truth[r], guess[r]), speakers)
    abstained = np.mean([label is None for label in answers.shown] & answers.scored) / np.mean(answers.scored)
    lines = [
        f"{len(answers.clips)} clips of {len(set(speakers))} speakers: UAR **{answers.uar(six)}**, accuracy "
        f"{accuracy}, macro-F1 {f1}. In {np.sum(guess < 0)} clips nothing is scored; of the others the session "
        f"abstains in {abstained:.1%}, which these figures do not use.",
    ]

    def recall(label: str) -> metrics.Interval:
        return answers.part(lambda c: c.emotion == label).uar(six)

    rows = [[label, *counts[k, : len(six)], counts[k, -1], f"{recall(label):.2f}"] for k, label in enumerate(six)]
    return lines + table(["spoken, heard →", *six, "nothing", "recall"], rows) + ["", f"![]({picture.name})"]


def cut_after(samples: Samples, _number: int, heard_s: float) -> Samples:
    """A clip that ends so long after its speech began, as the gate tells it."""
    gate = SpeechGate()
    outputs = (*gate.push(Cleaner().push(samples)), *gate.flush())
    onset = next((output.onset for output in outputs if isinstance(output, SpeechOpened)), 0)
    return samples[: onset + round(heard_s * RATE_HZ)]


def after_seconds(validation: Sequence[Clip], model: str, six: Sequence[str], whole: Answers, picture: Path) -> Lines:
    rows: list[list[object]] = []
    for heard_s in HEARD_S:
        answers = ask(validation, model, partial(cut_after, heard_s=heard_s), f"after {heard_s} s")
        rows.append([f"{heard_s} s", answers.uar(six), f"{np.mean(~answers.scored):.1%}"])
    rows.append(["whole clip", whole.uar(six), f"{np.mean(~whole.scored):.1%}"])
    figure, panel = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    panel.plot(HEARD_S, [r[1].value for r in rows[:-1]], marker="o")  # type: ignore[attr-defined]
    panel.set(xlabel="seconds of speech heard", ylabel="UAR, six classes", ylim=(0, 1))
    panel.grid(alpha=0.3)
    save(figure, picture)
    return [*table(["after", "UAR", "nothing scored"], rows), "", f"![]({picture.name})"]


def stream_of(clips: Sequence[Clip]) -> Samples:
    """Clips one after the other, with pauses as in talk."""
    pause = np.zeros(round(STREAM_PAUSE_S * RATE_HZ), np.float32)
    return np.concatenate([part for c in clips for part in (read_mono(c.path), pause)])


def steadiness(validation: Sequence[Clip], model: str) -> Lines:
    """Label changes of the smoothed trace on one emotion, and how long it takes to follow a change of emotion."""
    by_speaker: dict[str, dict[str, list[Clip]]] = {}
    for clip in validation:
        by_speaker.setdefault(clip.speaker, {}).setdefault(str(clip.emotion), []).append(clip)
    counts: list[tuple[int, int, float]] = []  # changes shown and behind the trace, minutes heard: of each speaker
    waits: list[float] = []
    for emotions in track(list(by_speaker.values()), "steadiness"):
        shown_changes = raw_changes = n_hops = 0
        for clips in emotions.values():
            hops = [e for e in session_events(stream_of(clips), model) if isinstance(e, Measurement)]
            hops = [e for e in hops if e.trigger == "hop" and e.state != "no_speech"]
            n_hops += len(hops)
            shown = [e.label for e in hops if e.label is not None]
            shown_changes += sum(a != b for a, b in pairwise(shown))
            raw_changes += sum(a.label_raw != b.label_raw for a, b in pairwise(hops))
        counts.append((shown_changes, raw_changes, n_hops * 0.25 / 60))
        calm, angry = emotions["neutral"], emotions["angry"]
        switch_s = len(stream_of(calm)) / RATE_HZ
        hops = [e for e in session_events(stream_of([*calm, *angry]), model) if isinstance(e, Measurement)]
        after = [e for e in hops if e.trigger == "hop" and e.end_s > switch_s]
        raw = next((e.end_s for e in after if e.label_raw == "angry"), None)
        smooth = next((e.end_s for e in after if e.label == "angry"), None)
        if raw is not None and smooth is not None:
            waits.append(smooth - raw)
    *changes, minutes = np.array(counts).T
    trace, windows = (
        metrics.bootstrap(lambda r, n=n: float(n[r].sum() / minutes[r].sum()), list(by_speaker))  # type: ignore[misc]
        for n in changes
    )
    steady = (
        f"Clips of one speaker and one emotion in a row ({minutes.sum():.0f} minutes scored): "
        f"**{trace:.1f}** label changes a minute of the trace, "
        f"{windows:.1f} of the windows behind it. Neutral followed by angry speech: both turn angry "
        f"with {len(waits)} of {len(by_speaker)} speakers"
    )
    if not waits:
        return [steady + "."]
    late_s, latest_s = np.percentile(waits, (50, 90))
    return [
        f"{steady}, the trace {late_s:.2f} s after its windows (median; 90% within {latest_s:.2f} s): what the "
        "smoothing costs."
    ]


def robustness(
    validation: Sequence[Clip], model: str, six: Sequence[str], clean: Answers, found: dict[str, Condition], path: Path
) -> Lines:
    classes, heard_clean, speakers = clean.truth, clean.guess(six), clean.speakers
    rows: list[list[object]] = []
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, condition in {"clean": as_is, **found}.items():
        answers = clean if name == "clean" else ask(validation, model, condition, name)
        guess = answers.guess(six)

        def change(rows: metrics.Ints, guess: metrics.Ints = guess) -> float:
            return metrics.uar(classes[rows], guess[rows]) - metrics.uar(classes[rows], heard_clean[rows])

        def same(rows: metrics.Ints, guess: metrics.Ints = guess) -> float:
            return float(np.mean(guess[rows] == heard_clean[rows]))

        # Every class counts the same, as in a balanced set.
        shares = np.mean([np.bincount(guess[classes == k] + 1, minlength=len(six) + 1)[1 : len(six) + 1]
                          / np.sum(classes == k) for k in np.unique(classes)], axis=0)  # fmt: skip
        largest = f"{shares.max() / max(shares.sum(), 1e-9):.0%} ({six[int(shares.argmax())]})"
        score = answers.uar(six)
        compared = [f"{metrics.bootstrap(change, speakers):+.3f}", f"{metrics.bootstrap(same, speakers):.1%}"]
        rows.append(
            [name, score, *(compared if answers is not clean else ("", "")), largest, f"{np.mean(guess < 0):.1%}"]
        )
        kind, _, snr = name.partition(", ")
        if snr.endswith(" dB"):
            curves.setdefault(kind, []).append((float(snr.removesuffix(" dB")), score.value))
    figure, panel = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for kind, points in curves.items():
        panel.plot(*zip(*points, strict=True), marker="o", label=kind)
    panel.axhline(metrics.uar(classes, heard_clean), color="grey", linestyle=":", label="clean")
    panel.set(xlabel="SNR, dB", ylabel="UAR, six classes", ylim=(0, 1))
    panel.legend(fontsize=7)
    panel.grid(alpha=0.3)
    save(figure, path)
    header = ["condition", "UAR", "change", "same label as clean", "largest class", "nothing scored"]
    return [*table(header, rows), "", f"![]({path.name})"]


def calibration(part: Answers, six: Sequence[str], picture: Path) -> Lines:
    rows = np.flatnonzero(part.scored)
    confidence, right = part.confidences
    voted = [i for i in rows if sum(part.clips[i].votes or ())]
    votes = np.array([part.clips[i].votes for i in voted], float)
    votes = votes[:, [LABELS.index(label) for label in part.labels]]
    votes /= votes.sum(axis=1, keepdims=True)
    said = part.posteriors[voted]
    entropy = metrics.bootstrap(
        lambda r: metrics.cross_entropy(said[r], votes[r]), [part.clips[i].speaker for i in voted]
    )
    alone = metrics.cross_entropy(np.maximum(votes, 1e-12), votes)
    coverage, risk = metrics.risk_coverage(confidence, right)
    figure, (left, middle) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    bins = metrics.reliability(confidence, right)
    left.plot([0, 1], [0, 1], color="grey", linestyle=":")
    left.plot([b[0] for b in bins], [b[1] for b in bins], marker="o")
    left.set(xlabel="confidence", ylabel="accuracy", title="reliability", xlim=(0, 1), ylim=(0, 1))
    middle.plot(coverage, risk)
    middle.set(xlabel="share of clips kept", ylabel="errors among them", title="abstaining", xlim=(0, 1), ylim=(0, 1))
    save(figure, picture)
    points = ", ".join(f"{risk[int(share * len(risk)) - 1]:.2f} at {share:.0%}" for share in (1.0, 0.8, 0.6, 0.4, 0.2))
    error = metrics.bootstrap(
        lambda r: metrics.expected_calibration_error(confidence[r], right[r]), [part.clips[i].speaker for i in rows]
    )
    by_chance = metrics.calibration_error_by_chance(confidence)
    return [
        f"ECE **{error}** (15 bins; the interval leans upwards, as clips drawn twice scatter more; if all confidences "
        f"were exactly right, so many clips would show {by_chance}). "
        "Cross-entropy against the "
        f"raters' votes (voice alone) {entropy} nats; their own entropy, the least there can be, is {alone:.3f}. "
        f"Errors when the least confident are left out: {points} of the clips kept.",
        "",
        f"![]({picture.name})",
    ]


def fairness(answers: Answers, six: Sequence[str]) -> Lines:
    groups: dict[str, Callable[[Clip], bool]] = {
        sex: partial(lambda c, sex: c.sex == sex, sex=sex) for sex in ("female", "male")
    }
    for low, high in AGES:
        groups[f"{low} to {high} years"] = partial(
            lambda c, low, high: c.age is not None and low <= c.age <= high, low=low, high=high
        )
    rows: list[list[object]] = []
    for name, belongs in groups.items():
        part = answers.part(belongs)
        if not part.clips:
            continue
        recalls = metrics.recalls(part.truth, part.guess(six))
        each = [f"{recalls[k]:.2f}" for k in range(len(six))]
        rows.append([name, len({c.speaker for c in part.clips}), part.uar(six), *each])
    return table(["group", "speakers", "UAR", *six], rows)


def draw_confusion(counts: metrics.Ints, labels: Sequence[str], path: Path) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, panel = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        panel.text(column, row, f"{share:.2f}", ha="center", va="center", color="white" if share > 0.5 else "black")
    ticks = range(len(labels))
    panel.set(xlabel="heard", ylabel="spoken", xticks=ticks, yticks=ticks, yticklabels=labels)
    panel.set_xticks(ticks, labels, rotation=45, ha="right")
    save(figure, path)


def save(figure: pyplot.Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


CARD_FIGURES = "## All figures"


def card_with(card: str, page: str) -> str:
    """A model's card that ends with all figures of its page, without the pictures."""
    _, _, *told = (line for line in page.splitlines() if not line.startswith("![]("))
    inner = "\n".join(told).replace("\n## ", "\n### ").replace("\n\n\n", "\n\n").rstrip()
    return f"{card.partition(CARD_FIGURES)[0].rstrip()}\n\n{CARD_FIGURES}\n\n{inner}\n"


def main(
    model: str,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    output: Annotated[Path, typer.Option("-o", help="Folder for the tables (Markdown) and pictures.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    siblings: Annotated[Path, typer.Option(help="Folder with a folder of other runs for each model.")] = SIBLINGS,
    test: Annotated[bool, typer.Option("--test", help="CREMA-D's test speakers, for a last figure.")] = False,
) -> None:
    """Write the tables and pictures, and the tables behind the model's card."""
    loaded = load_model(model)
    labels, trained_on = loaded.contract.labels, loaded.contract.trained_on
    others = [] if test else siblings_of(loaded.contract.model_id, siblings)
    strangers = [n for n in STRANGERS if n not in trained_on]
    for corpus in ("CREMA-D", *strangers, COMMANDS, PROMPTS, NOISE_CORPUS):
        if not (corpora / corpus).is_dir():
            sys.exit(f"{corpora / corpus}: is not there; docs/model.md says where to get it")
    output.mkdir(parents=True, exist_ok=True)

    name = f"{loaded.contract.model_id}-test" if test else loaded.contract.model_id

    def picture(what: str) -> Path:
        return output / f"{name}-{what}.png"

    def load_one(corpus: str) -> list[Clip]:
        return load(corpora, splits, [corpus])

    everybody = list(crema_d(corpora / "CREMA-D", splits))
    who = "test" if test else "validation"
    trained, speakers = crema_d_train(splits), crema_d_validation(splits)
    if test:
        speakers = {c.speaker for c in everybody} - trained - speakers
    validation = [c for c in everybody if c.speaker in speakers]
    if not validation:
        sys.exit(f"{corpora / 'CREMA-D'}: has no clip of a {who} speaker")
    six = [label for label in labels if label in {c.emotion for c in validation}]
    whole = ask(validation, model, as_is, f"CREMA-D {who}")
    lines = [
        f"# Evaluation of {loaded.contract.model_id}",
        "",
        f"`python -m tools.evaluate {model}`, sha256 `{loaded.sha256}`. Through `Session`, one a clip; "
        "intervals are 95%, bootstrap over speakers where it says no other; the model is of one seed.",
        "",
        f"## CREMA-D, {who} speakers, six classes",
        "",
        *whole_clips(whole, six, picture("confusion")),
    ]
    foreign = [ask(load_one(corpus), model, as_is, corpus) for corpus in strangers]
    if foreign:
        rows = [outside(answers) for answers in foreign]
        lines += ["", "## Corpora never seen", "", "By this very model.", *table(OUTSIDE_HEADER, rows),
                  "", f"Mean of the four-class UARs: **{mean_of_four(foreign)}** (chance 0.25).",
                  *trust(whole, foreign)]  # fmt: skip
    lines += siblings_report(others, whole, six, load_one, validation)
    commands = ask([c for c in load_one(COMMANDS) if c.text == HELD_OUT_KEYWORD], model, as_is, "commands")
    lines += ["", "## Neutral commands into people's own microphones", "",
              f'Other keywords were trained on, "{HELD_OUT_KEYWORD}" not. {alarms(commands)}']  # fmt: skip
    lines += ["", "## What callers are told, by voices never heard", "",
              "Prompts of telephone systems: friendly, but no emotion as far as anyone knows. "
              f"{'Other voices were' if PROMPTS in trained_on else 'No such speech was'} trained on."]  # fmt: skip
    prompts = [c for c in load_one(PROMPTS) if c.speaker in HELD_OUT_VOICES]
    for voice in sorted({(c.speaker, c.language) for c in prompts}):
        answers = ask([c for c in prompts if (c.speaker, c.language) == voice], model, as_is, voice[0])
        lines += ["", f"{voice[0].partition('/')[2]} ({voice[1]}), {alarms(answers)}"]
    if seeds := [other for other in others if not other.left_out]:
        lines += seeds_report(whole, commands, foreign, seeds, six)
    lines += ["", "## After seconds of speech", "",
              f"CREMA-D, {who} speakers; clips end so long after speech began.",
              *after_seconds(validation, model, six, whole, picture("seconds"))]  # fmt: skip
    lines += ["", "## Steadiness of the trace", "", *steadiness(validation, model)]
    voices = [c.path for c in everybody if c.speaker in trained][::7]
    found = conditions(noise_paths(corpora, evaluation=True), voices)
    lines += ["", "## Robustness", "",
              f"CREMA-D, {who} speakers. Rooms, and the recordings that noises are cut from, are others than those "
              "trained with; babble is mixed from clips of training speakers. The largest class is its share of all "
              "answers if every emotion were spoken equally often.",
              *robustness(validation, model, six, whole, found, picture("snr"))]  # fmt: skip
    lines += ["", "## Calibration and abstaining", "", *calibration(whole, six, picture("calibration"))]
    lines += ["", "## Fairness", "", f"CREMA-D, {who} speakers: recall by sex and age.", *fairness(whole, six)]
    lines += ["", "## Speed", "", speed(model)]
    path = output / f"{name}.md"
    page = "\n".join(lines) + "\n"
    path.write_text(page, encoding="utf-8")
    card = find_model(model) / "card.md"
    if card.is_file() and not test:
        card.write_text(card_with(card.read_text(encoding="utf-8"), page), encoding="utf-8")
    print(page)


if __name__ == "__main__":
    typer.run(main)
