"""Who is trained on and who is measured: by speaker, from the files in `tools/splits`.

CREMA-D follows the public TFDS split, RAVDESS the five folds of Luna-Jiménez et al., TESS goes by voice. Neutral
commands have no known speakers; they are split by keyword and recording. Of the voices of prompts two are held out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tools.corpora import Clip

SPLITS = Path(__file__).with_name("splits")

HELD_OUT_KEYWORD = "view glass"
"""Commands with this keyword are never trained on: they tell how often neutral speech raises a false alarm."""

HELD_OUT_VOICES = {"prompts/Allison", "prompts/Carlo"}
"""Nor are these: they tell the same of another kind of speech."""

RAVDESS_FOLDS = 5


def read_speakers(path: Path) -> set[str]:
    """A split file: one speaker a line.

    Raises
    ------
    typer.BadParameter
        If there is none.
    """
    if not path.is_file():
        raise typer.BadParameter(f"there is no {path}; {SPLITS} has the split files")
    return set(path.read_text().split())


def crema_d_train(splits: Path) -> set[str]:
    """CREMA-D's training speakers, as `Clip.speaker` names them."""
    return {f"crema-d/{s}" for s in read_speakers(splits / "crema_d_train_speakers.txt")}


def crema_d_validation(splits: Path) -> set[str]:
    """CREMA-D's validation speakers, as `Clip.speaker` names them."""
    return {f"crema-d/{s}" for s in read_speakers(splits / "crema_d_validation_speakers.txt")}


def ravdess_fold(splits: Path, fold: int) -> set[str]:
    """The test actors of one of RAVDESS' folds, as `Clip.speaker` names them."""
    return {f"ravdess/{s}" for s in read_speakers(splits / f"ravdess_fold{fold}_test_actors.txt")}


def held_out(clips: Iterable[Clip], splits: Path) -> list[bool]:
    """For each clip: is it kept for measuring, whatever is trained? Of CREMA-D all but the training speakers are."""
    trained = crema_d_train(splits)
    return [
        (c.corpus == "CREMA-D" and c.speaker not in trained)
        or c.speaker in HELD_OUT_VOICES
        or c.text == HELD_OUT_KEYWORD
        for c in clips
    ]
