"""Weights between those of two runs, one begun with the other's: `python -m tools.blend BEFORE AFTER --run runs/blend`.

Such weights are often better than either's, on what is like the training speech and on what is not (Wortsman et al.,
2022, Robust fine-tuning of zero-shot models).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tomllib
import torch
import typer

from tools.train import heard_by, read_left_out, weights_for


def main(
    before: Path,
    after: Path,
    run: Annotated[Path, typer.Option(help="Run folder to make, with the config of AFTER.")],
    share: Annotated[float, typer.Option(help="Of the weights of AFTER.", min=0, max=1)] = 0.5,
) -> None:
    """Write the run folder."""
    labels = tomllib.loads((after / "config.toml").read_text())["labels"]
    first, second = (weights_for(labels, r) for r in (before, after))
    blend = {k: x.lerp(second[k], share) if x.dtype.is_floating_point else second[k] for k, x in first.items()}
    run.mkdir(parents=True, exist_ok=True)
    torch.save({"average": blend}, run / "checkpoint.pt")
    (run / "config.toml").write_text((after / "config.toml").read_text())
    # What either has heard, the blend has.
    heard = heard_by(before)
    left_out = [name for name in read_left_out(after) if name not in heard]
    (run / "left_out.txt").write_text("".join(f"{name}\n" for name in left_out))


if __name__ == "__main__":
    typer.run(main)
