"""The shipped models on people they never heard, through the streaming session, where the corpora are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realtime_ser.stages.model import models_folder
from tools.corpora import HELD_OUT_KEYWORD, crema_d_validation, load, read_speakers
from tools.evaluate import as_is, hear, score

MODELS = sorted(folder.name for folder in models_folder().iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_beats_chance_by_far_on_unseen_speakers(name: str, corpora: Path, splits: Path) -> None:
    from realtime_ser.stages.model import load_model

    speakers = read_speakers(splits / "crema_d_validation_speakers.txt")
    clips = [c for c in load(corpora, splits, ["CREMA-D"]) if crema_d_validation(c, speakers)][::3]
    heard = [hear((k, c.path), name, as_is) for k, c in enumerate(clips)]
    labels = load_model(name).contract.labels
    result = score(clips, heard, [x for x in labels if x != "surprised"], labels)
    assert result.uar > 0.5  # chance is 0.17
    said = result.confusion.sum(axis=0) / result.n
    assert said.max() < 0.5  # no class swallows the others


@pytest.mark.slow
def test_neutral_commands_raise_few_alarms(corpora: Path, splits: Path) -> None:
    clips = [c for c in load(corpora, splits, ["wake-word-benchmark"]) if c.group == HELD_OUT_KEYWORD][::4]
    labels = [hear((k, c.path), MODELS[0], as_is).label for k, c in enumerate(clips)]
    assert np.mean([label not in (None, "neutral") for label in labels]) <= 0.25
