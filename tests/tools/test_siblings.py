"""Runs kept beside the shipped models, so that what is said of strangers can be heard again without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="the tools belong to the [train] extra")

from realtime_ser.stages.model import load_model
from tools.answers import ask
from tools.corpora import FOUR, load
from tools.listen import as_is
from tools.strangers import mean_of_four

KEPT = Path(__file__).parents[2] / "docs" / "evaluation" / "siblings"
RUNS = sorted(told.parent for told in KEPT.glob("*/*/left_out.txt"))
SIBLINGS = [run for run in RUNS if run.name.startswith("without-")]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_it_has_heard_all_that_the_shipped_model_heard_but_what_it_is_named_for(run: Path) -> None:
    own, shipped = load_model(run / "model").contract, load_model(run.parent.name).contract
    left_out = (run / "left_out.txt").read_text().split()
    assert run.name == "without-" + "-".join(left_out) or (run.name.startswith("seed-") and not left_out)
    assert own.labels == shipped.labels
    assert set(own.trained_on) == set(shipped.trained_on) - set(left_out)


@pytest.mark.slow
@pytest.mark.parametrize("run", SIBLINGS, ids=lambda run: run.name)
def test_strangers_are_more_to_it_than_one_emotion(run: Path, corpora: Path, splits: Path) -> None:
    clips = [c for c in load(corpora, splits, (run / "left_out.txt").read_text().split()) if c.emotion in FOUR]
    answers = ask(clips[::5], str(run / "model"), as_is, run.name)
    assert mean_of_four([answers]).value > 0.3  # chance is 0.25
    said = np.bincount(answers.guess(FOUR) + 1)[1:] / len(answers.clips)
    assert said.max() < 0.6
