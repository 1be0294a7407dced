"""The shipped models on people they never heard, through the streaming session, where the corpora are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="the tools belong to the [train] extra")

from realtime_ser.stages.model import load_model, models_folder
from tools.answers import ask
from tools.corpora import load
from tools.evaluate import card_with
from tools.listen import as_is
from tools.splits import HELD_OUT_KEYWORD, crema_d_validation

MODELS = sorted(folder.name for folder in models_folder().iterdir())


@pytest.mark.parametrize("name", MODELS)
def test_the_card_ends_with_all_figures_of_the_evaluation(name: str) -> None:
    card = (models_folder() / name / "card.md").read_text(encoding="utf-8")
    page = (Path(__file__).parents[2] / "docs" / "evaluation" / f"{name}.md").read_text(encoding="utf-8")
    assert load_model(name).sha256 in page
    assert card == card_with(card, page)
    assert "![](" not in card


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_beats_chance_by_far_on_unseen_speakers(name: str, corpora: Path, splits: Path) -> None:
    speakers = crema_d_validation(splits)
    clips = [c for c in load(corpora, splits, ["CREMA-D"]) if c.speaker in speakers][::3]
    answers = ask(clips, name, as_is, name)
    six = [label for label in answers.labels if label != "surprised"]
    assert answers.uar(six).low > 0.5  # chance is 0.17
    said = np.bincount(answers.guess(six) + 1)[1:] / len(clips)
    assert said.max() < 0.5  # no class swallows the others


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_neutral_commands_raise_few_alarms(name: str, corpora: Path, splits: Path) -> None:
    clips = [c for c in load(corpora, splits, ["wake-word-benchmark"]) if c.text == HELD_OUT_KEYWORD][::4]
    shown = ask(clips, name, as_is, "commands").shown
    assert np.mean([label not in (None, "neutral") for label in shown]) <= 0.2
