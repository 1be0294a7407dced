"""What `--denoise` and `--profile` do to the scores: `docs/evaluation/options.md`.

`python -m tools.options --corpora DIR -o docs/evaluation`

Both decide defaults, so both go through the streaming session. Noise suppression: CREMA-D's validation speakers in
noise cut from recordings that training has not used. Profiles: of each speaker with four neutral clips and more, half
of those, ten at most and 20 s, make the profile; of the others 120 at most, drawn, are measured. The shipped model on
CREMA-D's validation speakers, siblings on what they left out. No UAR where the clips lack one of the four emotions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from realtime_ser.settings import CleanSettings, SessionSettings
from realtime_ser.stages.model import load_model
from realtime_ser.stages.profile import Profile, make_profile
from tools import metrics
from tools.corpora import FOUR, Clip, load
from tools.listen import Heard, as_is, hear, hear_all, processes, with_noise
from tools.prepare import noise_paths, read_mono
from tools.siblings import siblings_of
from tools.splits import SPLITS, crema_d_validation

PROFILE_S = 20.0
FEWEST_NEUTRAL = 4
MOST_CLIPS = 120
"""Of one speaker."""


@dataclass(frozen=True)
class Speaker:
    """Clips to make a profile of, and clips to measure."""

    corpus: str
    neutral: list[Clip]
    others: list[Clip]


def speakers(clips: Sequence[Clip], labels: Sequence[str]) -> list[Speaker]:
    """Those with enough neutral clips, in an order drawn once."""
    by_speaker: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.emotion in labels:
            by_speaker[clip.corpus, clip.speaker].append(clip)
    rng = np.random.default_rng(0)
    found = []
    for (corpus, _), theirs in by_speaker.items():
        theirs = [theirs[i] for i in rng.permutation(len(theirs))]
        neutral = [c for c in theirs if c.emotion == "neutral"]
        if len(neutral) >= FEWEST_NEUTRAL:
            own = neutral[: min(len(neutral) // 2, 10)]
            found.append(Speaker(corpus, own, [c for c in theirs if c not in own][:MOST_CLIPS]))
    return found


def hear_speaker(speaker: Speaker, model: str) -> list[tuple[str, Heard, Heard]]:
    """Each clip's emotion, and what is heard without and with the speaker's profile."""
    loaded = load_model(model)
    neutral, speech_s = [], 0.0
    for clip in speaker.neutral:
        samples = read_mono(clip.path)
        heard = hear(samples, model)
        if heard.posteriors is not None and speech_s < PROFILE_S:
            neutral.append(heard.posteriors)
            speech_s += len(samples) / 16_000
    labels = loaded.contract.labels
    profile = make_profile("own", loaded.contract.model_id, loaded.sha256, labels, np.array(neutral), speech_s)
    return [(str(c.emotion), *_both(read_mono(c.path), model, profile)) for c in speaker.others]


def _both(samples: NDArray[np.float32], model: str, profile: Profile) -> tuple[Heard, Heard]:
    plain = hear(samples, model)
    moved = hear(samples, model, profile=profile)
    scores = None if plain.posteriors is None else profile.adjust(plain.posteriors)
    return plain, Heard(scores, moved.label)


def four_class_uar(labels: Sequence[str], answers: Sequence[tuple[str, Heard]]) -> float:
    """Over neutral, happy, sad and angry; what was not scored is wrong."""
    few = np.array([labels.index(label) for label in FOUR])
    rows = [(labels.index(emotion), heard) for emotion, heard in answers if emotion in FOUR]
    guesses = [-1 if h.posteriors is None else int(few[h.posteriors[few].argmax()]) for _, h in rows]
    return metrics.uar(np.array([truth for truth, _ in rows]), np.array(guesses))


def profile_table(groups: Sequence[tuple[str, list[Speaker]]]) -> list[str]:
    """A row for each corpus."""
    lines = [
        f"| corpus | speakers | clips ({', '.join(FOUR)}) | UAR of four classes | with profiles | change [95%] "
        "| neutral called other | with |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, theirs in groups:
        labels = load_model(model).contract.labels
        with processes() as pool:
            work = pool.map(partial(hear_speaker, model=model), theirs)
            answers = list(track(work, "profiles", total=len(theirs)))
        for corpus in dict.fromkeys(s.corpus for s in theirs):
            rows = [a for s, a in zip(theirs, answers, strict=True) if s.corpus == corpus]

            def uars(speakers: Sequence[list[tuple[str, Heard, Heard]]], labels: Sequence[str] = labels) -> NDArray:
                plain = [(e, h) for a in speakers for e, h, _ in a]
                moved = [(e, h) for a in speakers for e, _, h in a]
                return np.array([four_class_uar(labels, plain), four_class_uar(labels, moved)])

            spoken = [sum(e == label for a in rows for e, _, _ in a) for label in FOUR]
            scores = "– | – | –"
            if all(spoken):
                before, after = uars(rows)
                scores = f"{before:.3f} | {after:.3f} | {after - before:+.3f}"
                if len(rows) >= metrics.FEWEST_GROUPS:
                    rng = np.random.default_rng(0)
                    drawn = [uars([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(500)]
                    low, high = np.percentile([after - before for before, after in drawn], [2.5, 97.5])
                    scores += f" [{low:+.3f}, {high:+.3f}]"
            alarms = [
                np.mean([h[which].label not in (None, "neutral") for a in rows for e, *h in a if e == "neutral"])
                for which in (0, 1)
            ]
            lines.append(
                f"| {corpus} | {len(rows)} | {sum(map(len, rows))} ({', '.join(map(str, spoken))}) | {scores} "
                f"| {alarms[0]:.0%} | {alarms[1]:.0%} |"
            )
    return lines


def denoise_table(clips: Sequence[Clip], noises: Sequence[Path], model: str) -> list[str]:
    """A row for each SNR."""
    labels = load_model(model).contract.labels
    paths = [c.path for c in clips]
    truth = np.array([labels.index(str(c.emotion)) for c in clips])
    own = np.unique(truth)
    lines = ["| CREMA-D in noise | UAR of six classes | with --denoise |", "|---|---|---|"]
    for snr_db in (None, 20, 10, 0):
        condition = as_is if snr_db is None else partial(with_noise, noises=noises, snr_db=snr_db)
        found = []
        for denoise in (False, True):
            settings = SessionSettings(clean=CleanSettings(denoise))
            heard = hear_all(paths, model, condition, f"{snr_db} dB", settings)
            guess = [-1 if h.posteriors is None else int(own[h.posteriors[own].argmax()]) for h in heard]
            found.append(metrics.uar(truth, np.array(guess)))
        name = "as it is" if snr_db is None else f"environment (ESC-10), {snr_db} dB"
        lines.append(f"| {name} | {found[0]:.3f} | {found[1]:.3f} |")
    return lines


def main(
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for options.md.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    model: Annotated[str, typer.Option(help="A bundled model's name.")] = "ser-research",
) -> None:
    """Measure both and write the tables."""
    validation = crema_d_validation(splits)
    clips = [c for c in load(corpora, splits, ["CREMA-D"]) if c.speaker in validation]
    groups = [(model, speakers(clips, load_model(model).contract.labels))]
    measured: set[str] = set()  # by the first seed of siblings
    for sibling in siblings_of(model):
        left_out = [name for name in sibling.left_out if (corpora / name).is_dir() and name not in measured]
        measured.update(left_out)
        theirs = speakers(load(corpora, splits, left_out), load_model(sibling.model).contract.labels)
        groups.append((sibling.model, theirs))
    lines = ["# What options do to the scores", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    lines += ["## --profile", "", *profile_table(groups), ""]
    lines += ["## --denoise", "", *denoise_table(clips, noise_paths(corpora, evaluation=True), model), ""]
    print("\n".join(lines))
    (out / "options.md").write_text("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
