"""Weights between those of runs, begun with the same: `python -m tools.blend BEFORE AFTER … --run runs/blend`.

Such weights are often better than any of theirs, on what is like the training speech and on what is not (Wortsman et
al., 2022, Robust fine-tuning of zero-shot models; Model soups).
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
    after: list[Path],
    run: Annotated[Path, typer.Option(help="Run folder to make, with the config of the first AFTER.")],
    share: Annotated[float, typer.Option(help="Of the mean weights of AFTER.", min=0, max=1)] = 0.5,
) -> None:
    """Write the run folder."""
    config = (after[0] / "config.toml").read_text()
    labels = tomllib.loads(config)["labels"]
    first, *others = (weights_for(labels, each) for each in (before, *after))
    blend = {
        name: x.lerp(torch.stack([other[name] for other in others]).mean(dim=0), share)
        if x.dtype.is_floating_point
        else others[0][name]
        for name, x in first.items()
    }
    run.mkdir(parents=True, exist_ok=True)
    torch.save({"average": blend}, run / "checkpoint.pt")
    (run / "config.toml").write_text(config)
    # What any has heard, the blend has.
    heard = set().union(*map(heard_by, (before, *after)))
    left_out = [name for name in read_left_out(after[0]) if name not in heard]
    (run / "left_out.txt").write_text("".join(f"{name}\n" for name in left_out))


if __name__ == "__main__":
    typer.run(main)
