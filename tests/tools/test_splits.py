"""Who is measured is never trained on, and the split files are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.corpora import Clip, load
from tools.splits import (
    HELD_OUT_KEYWORD,
    RAVDESS_FOLDS,
    SPLITS,
    crema_d_train,
    crema_d_validation,
    held_out,
    ravdess_fold,
    read_speakers,
)


def test_of_crema_d_only_training_speakers_are_trained_on() -> None:
    speakers = [f"crema-d/{number}" for number in range(1001, 1092)]
    clips = [Clip(Path(s), "CREMA-D", s, "sad", "SAD", "en", "ODbL-1.0") for s in speakers]
    trained = {s for s, held in zip(speakers, held_out(clips, SPLITS), strict=True) if not held}
    assert trained == crema_d_train(SPLITS)
    assert len(trained) == 63
    assert len(set(speakers) - trained - crema_d_validation(SPLITS)) == 19  # the test speakers


def test_the_split_files_here_are_those_beside_the_corpora(splits: Path) -> None:
    for own in SPLITS.iterdir():
        assert read_speakers(own) == read_speakers(splits / own.name)


def test_validation_speakers_and_the_keyword_are_held_out(corpora: Path, splits: Path) -> None:
    clips = load(corpora, splits, ["CREMA-D", "wake-word-benchmark"])
    held = held_out(clips, splits)
    trained = {c.speaker for c, out in zip(clips, held, strict=True) if not out and c.corpus == "CREMA-D"}
    measured = {c.speaker for c, out in zip(clips, held, strict=True) if out and c.corpus == "CREMA-D"}
    assert measured == crema_d_validation(splits)
    assert not trained & measured
    named = {f"crema-d/{s}" for s in read_speakers(splits / "crema_d_train_speakers.txt")}
    assert trained <= named
    texts = {c.text for c, out in zip(clips, held, strict=True) if out and c.corpus != "CREMA-D"}
    assert texts == {HELD_OUT_KEYWORD}


def test_noises_that_measure_are_cut_from_other_recordings_than_those_that_train(corpora: Path) -> None:
    noise_paths = pytest.importorskip("tools.prepare", reason="needs the [train] extra").noise_paths
    trained, measured = (
        {path.stem.split("-")[1] for path in noise_paths(corpora, evaluation)} for evaluation in (False, True)
    )
    assert len(measured) > 50
    assert not trained & measured


def test_every_actor_of_ravdess_is_tested_once(corpora: Path, splits: Path) -> None:
    actors = [actor for fold in range(RAVDESS_FOLDS) for actor in ravdess_fold(splits, fold)]
    assert sorted(actors) == sorted({c.speaker for c in load(corpora, splits, ["RAVDESS"])})
