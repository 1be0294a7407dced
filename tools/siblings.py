"""The runs that a model is measured beside: its recipe without a corpus, sentences or commands, or with another seed.

They lie in `docs/evaluation/siblings/MODEL/RUN`, so that every figure can be had again without training: `left_out.txt`
and the exported `model`, as `tools.train_head` and `tools.quantize` leave them in a run's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from realtime_ser.stages.model import load_model

SIBLINGS = Path(__file__).resolve().parents[1] / "docs" / "evaluation" / "siblings"


@dataclass(frozen=True)
class Sibling:
    """A run and what it did without; nothing if it differs from the shipped model in its seed alone."""

    name: str
    model: str
    """Its exported model's folder, as a session takes it."""
    left_out: tuple[str, ...]
    """Corpora, and sentences of CREMA-D."""


def siblings_of(model_id: str, folder: Path = SIBLINGS) -> list[Sibling]:
    """Those of a model, in the order of their names; none if there is no folder of them. Raises as `read_sibling`."""
    return [read_sibling(told.parent) for told in sorted((folder / model_id).glob("*/left_out.txt"))]


def read_sibling(run: Path) -> Sibling:
    """The one in this folder.

    Raises
    ------
    typer.BadParameter
        If it learned from what it is said to have left out, by what its own contract says.
    """
    left_out = tuple((run / "left_out.txt").read_text().split())
    if heard := set(left_out).intersection(load_model(run / "model").contract.trained_on):
        raise typer.BadParameter(f"{run} has heard {', '.join(sorted(heard))}, which left_out.txt denies")
    return Sibling(run.name, str(run / "model"), left_out)
