"""What the models are measured beside: it has heard nothing of what it is to answer for, and knows strangers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="the tools belong to the [train] extra")

import typer

from realtime_ser.stages.model import load_model, models_folder
from tools.answers import ask
from tools.corpora import FOUR, load
from tools.evaluate import STRANGERS
from tools.listen import as_is
from tools.siblings import SIBLINGS, read_sibling, siblings_of
from tools.strangers import mean_of_four

CANDIDATE = SIBLINGS.parent / "candidate"
KEPT = sorted(told.parent for kept in (SIBLINGS, CANDIDATE) for told in kept.glob("*/*/left_out.txt"))
WITHOUT_A_CORPUS = [run for run in KEPT if (run / "left_out.txt").read_text().strip() in STRANGERS]


@pytest.mark.parametrize("run", KEPT, ids=lambda run: f"{run.parent.name} {run.name}")
def test_it_has_heard_all_that_the_model_heard_but_what_it_left_out(run: Path) -> None:
    sibling = read_sibling(run)
    own, shipped = load_model(sibling.model).contract, load_model(run.parent.name).contract
    assert own.labels == shipped.labels
    assert set(shipped.trained_on) - set(own.trained_on) == set(sibling.left_out) & set(shipped.trained_on)
    assert sibling.name.startswith("without-" if sibling.left_out else "seed-")


@pytest.mark.slow
@pytest.mark.parametrize("run", WITHOUT_A_CORPUS, ids=lambda run: run.name)
def test_strangers_are_more_to_it_than_one_emotion(run: Path, corpora: Path, splits: Path) -> None:
    sibling = read_sibling(run)
    clips = [c for c in load(corpora, splits, list(sibling.left_out)) if c.emotion in FOUR]
    answers = ask(clips[::5], sibling.model, as_is, sibling.name)
    assert mean_of_four([answers]).value > 0.3  # chance is 0.25
    said = np.bincount(answers.guess(FOUR) + 1)[1:] / len(answers.clips)
    assert said.max() < 0.6


def test_what_heard_what_it_is_said_to_have_left_out_is_refused(tmp_path: Path) -> None:
    sibling = tmp_path / "some-model" / "without-TESS"
    shutil.copytree(models_folder() / "ser-research", sibling / "model")
    (sibling / "left_out.txt").write_text("TESS\n")
    with pytest.raises(typer.BadParameter, match="without-TESS has heard TESS"):
        siblings_of("some-model", tmp_path)


def test_a_model_without_siblings_has_none() -> None:
    assert siblings_of("another") == []
