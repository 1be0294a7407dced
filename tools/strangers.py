"""What a model says of what it never met: other corpora, sentences, kinds of speech, and its other seeds of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from realtime_ser.settings import TraceSettings
from tools import metrics
from tools.answers import Answers, ask
from tools.corpora import COMMANDS, FOUR, Clip
from tools.listen import as_is
from tools.siblings import Sibling
from tools.splits import HELD_OUT_KEYWORD
from tools.tables import Lines, table


def outside(answers: Answers) -> list[object]:
    """A row on a corpus that the model has not met."""
    present = [label for label in answers.labels if label in {c.emotion for c in answers.clips}]
    part = answers.part(lambda c: c.emotion in FOUR)
    recalls = metrics.recalls(part.truth, part.guess(FOUR))
    told = ", ".join(f"{recalls.get(answers.labels.index(label), np.nan):.2f}" for label in FOUR)
    clip = answers.clips[0]
    return [clip.corpus, clip.language, len(present), answers.uar(present), answers.uar(FOUR), told]


OUTSIDE_HEADER = ("corpus", "language", "classes", "UAR", "UAR of four", f"recalls ({', '.join(FOUR)})")


def by_sex(strangers: Sequence[Answers]) -> Lines:
    """How well the four emotions are heard of women and of men, in corpora that tell who is which and have both."""
    rows: list[list[object]] = []
    for answers in strangers:
        groups = [answers.part(lambda c, sex=sex: c.sex == sex) for sex in ("female", "male")]  # type: ignore[misc]
        if all(group.clips for group in groups):
            told = (f"{len({c.speaker for c in group.clips})}: {group.uar(FOUR)}" for group in groups)
            rows.append([answers.clips[0].corpus, *told])
    if not rows:
        return []
    return ["", "The same by sex: speakers, and UAR of four.", *table(["corpus", "women", "men"], rows)]


LEAST_CONFIDENCES = (TraceSettings.abstain_below, 0.6, 0.8)


def trust(known: Answers, strangers: Sequence[Answers]) -> Lines:
    """How sure it is and how often right, of the kind of speech that it learned from and of other corpora."""
    rows: list[list[object]] = []
    for answers in (known, *strangers):
        confidence, right = answers.confidences
        shown = np.array([label is not None for label in answers.shown])[answers.scored]
        row: list[object] = [answers.clips[0].corpus, f"{confidence.mean():.2f}", f"{right.mean():.2f}"]
        for least in LEAST_CONFIDENCES:
            named = shown & (confidence >= least)
            rightly = f"{right[named].mean():.0%}" if named.any() else "–"
            row.append(f"{named.sum() / len(answers.clips):.0%}, {rightly}")
        rows.append(row)
    return [
        "",
        "How sure it is (mean confidence) and how often right, with all its labels to choose from; then, by "
        "`--min-confidence`, how many clips it gives a label, and how many of those rightly.",
        *table(["corpus", "sure", "right", *(f"{least}: named, right" for least in LEAST_CONFIDENCES)], rows),
    ]


def mean_of_four(*runs: Sequence[Answers]) -> metrics.Interval:
    """Of the UARs of four of the same corpora, by one run or several; a speaker drawn is drawn for all runs."""
    corpora = zip(*([answers.sample(FOUR) for answers in run] for run in runs), strict=True)
    return metrics.bootstrap_mean([metrics.mean_of(samples) for samples in corpora])


def left_out_seeds(strangers: Sequence[Sequence[Answers]]) -> Lines:
    """The UARs of four by each seed of siblings, and their means; of seeds that every corpus has.

    `strangers`: of each corpus the answers of each seed.
    """
    seeds = list(zip(*strangers, strict=False))
    if len(seeds) == 1:
        return ["", f"Mean of the four-class UARs: **{mean_of_four(seeds[0])}** (chance 0.25)."]
    rows: list[list[object]] = [
        [runs[0].clips[0].corpus, *(run.uar(FOUR) for run in runs), mean_of_four(*([run] for run in runs))]
        for runs in zip(*seeds, strict=True)
    ]
    rows.append(["mean", *map(mean_of_four, seeds), f"**{mean_of_four(*seeds)}**"])
    header = ["UAR of four", "first seed, as above", *(f"seed {n}" for n in range(2, len(seeds) + 1)), "mean of seeds"]
    return [*table(header, rows), "", "Speakers are drawn once for all seeds; chance is 0.25."]


def alarm_share(answers: Answers) -> metrics.Interval:
    """How much neutral speech gets another label than neutral at the shipped threshold."""
    wrong = np.array([label not in (None, "neutral") for label in answers.shown])
    # One recording each; their speakers are not known, so they count as one each.
    return metrics.bootstrap(lambda rows: float(np.mean(wrong[rows])), list(range(len(wrong))))


def alarms(answers: Answers) -> str:
    """`alarm_share`, and what else neutral speech is called."""
    neutral = np.mean([label == "neutral" for label in answers.shown])
    others = {label: np.mean([s == label for s in answers.shown]) for label in answers.labels if label != "neutral"}
    most = max(others, key=lambda label: others[label])
    return (
        f"{len(answers.clips)} recordings: **{alarm_share(answers)}** labelled other than neutral (most often {most}, "
        f"{others[most]:.1%}), {neutral:.1%} neutral, the rest unsure or not scored; the interval is over recordings."
    )


def unseen_sentences(without: Answers, whole: Answers, six: Sequence[str], texts: Sequence[str], more: str) -> Lines:
    """Both models on sentences that one of them never heard, and on the rest; `more`: what else it never heard."""
    rows = [
        [what, answers.part(lambda c: c.text in texts).uar(six), answers.part(lambda c: c.text not in texts).uar(six)]
        for what, answers in ((f"the sibling without these sentences{more}", without), ("the shipped model", whole))
    ]
    told = f"Sentences {', '.join(texts)}, said by the validation speakers."
    return [told, *table(["", "on those sentences", "on the other nine"], rows)]


def besides(left_out: Sequence[str], named: Sequence[str]) -> str:
    """What a sibling did without but for that which is named anyway."""
    others = [name for name in left_out if name not in named]
    return f" (and without {', '.join(others)})" if others else ""


def siblings_report(siblings: Sequence[Sibling], whole: Answers, six: Sequence[str], load_: Callable[[str], list[Clip]],
                    validation: Sequence[Clip]) -> Lines:  # fmt: skip
    """What runs that left something out say of strangers: corpora, sentences, commands."""
    corpora_rows: list[list[object]] = []
    sentences: Lines = []
    commands: Lines = []
    known = {c.text for c in validation}
    strangers: dict[str, list[Answers]] = {}
    for sibling in siblings:
        left_out, model = sibling.left_out, sibling.model
        texts = [name for name in left_out if name in known]
        for name in left_out:
            if name == COMMANDS:
                answers = ask([c for c in load_(name) if c.text == HELD_OUT_KEYWORD], model, as_is, name)
                commands = [f"Trained without any such recordings{besides(left_out, [name])}: {alarms(answers)}"]
            elif name not in known:
                answers = ask(load_(name), model, as_is, name)
                if name not in strangers:
                    corpora_rows.append([*outside(answers), ", ".join(x for x in left_out if x not in texts)])
                strangers.setdefault(name, []).append(answers)
        if texts:
            without = ask(validation, model, as_is, "sentences")
            sentences = unseen_sentences(without, whole, six, texts, besides(left_out, texts))
    lines: Lines = []
    if strangers:
        first = [runs[0] for runs in strangers.values()]
        lines += ["", "## Corpora left out", "",
                  "Each by one network of this recipe that was trained without it (and without what stands beside it). "
                  "The answer is forced among the labels that the corpus has.",
                  *table([*OUTSIDE_HEADER, "left out together"], corpora_rows),
                  *left_out_seeds(list(strangers.values())), *by_sex(first), *trust(whole, first)]  # fmt: skip
    if sentences:
        lines += ["", "## Unseen speakers and unseen sentences", "", *sentences]
    if commands:
        lines += ["", "## Neutral commands, as a new kind of speech", "", *commands]
    return lines


def seeds_report(
    clips: Answers, commands: Answers, foreign: Sequence[Answers], seeds: Sequence[Sibling], six: Sequence[str]
) -> Lines:
    """What chance makes of the recipe, by what the shipped model says of validation clips and of neutral commands.

    `foreign`: what it says of corpora that the recipe never met.
    """
    said = [("the shipped model", clips, commands, foreign)]
    for run in seeds:
        own, neutral, *others = (
            ask(answers.clips, run.model, as_is, run.name) for answers in (clips, commands, *foreign)
        )
        said.append((run.name, own, neutral, others))
    uars = [own.uar(six) for _, own, _, _ in said]
    rows = [
        [name, uar, f"{metrics.expected_calibration_error(*own.confidences):.3f}", alarm_share(neutral),
         *([f"{mean_of_four(others).value:.3f}"] if foreign else [])]
        for (name, own, neutral, others), uar in zip(said, uars, strict=True)
    ]  # fmt: skip
    header = ["", "CREMA-D, validation speakers: UAR", "ECE", "neutral commands labelled other"]
    values = [uar.value for uar in uars]
    return [
        "", "## Other seeds", "",
        "Runs that differ from the shipped model's in the seed of the last training alone "
        "(docs/model.md says what all begin with).",
        *table([*header, *(["corpora never seen: mean UAR of four"] if foreign else [])], rows),
        "", f"UAR over {len(values)} seeds: **{np.mean(values):.3f}**, {min(values):.3f} to {max(values):.3f}.",
    ]  # fmt: skip
