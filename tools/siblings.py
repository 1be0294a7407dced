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
    """Those of a model, in the order of their names; none if there is no folder of them.

    Raises
    ------
    typer.BadParameter
        If one learned from what it is said to have left out, by what its own contract says.
    """
    found = []
    for told in sorted((folder / model_id).glob("*/left_out.txt")):
        sibling = Sibling(told.parent.name, str(told.parent / "model"), tuple(told.read_text().split()))
        if heard := set(sibling.left_out).intersection(load_model(sibling.model).contract.trained_on):
            raise typer.BadParameter(f"{told.parent} has heard {', '.join(sorted(heard))}, which {told.name} denies")
        found.append(sibling)
    return found
