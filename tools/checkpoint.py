"""A floating point model as a run folder, where the run itself is gone but its export is not.

`python -m tools.checkpoint MODEL tools/configs/ser-base.toml --run runs/earlier`, for `tools.export --beside`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import onnx
import tomllib
import torch
import typer
from onnx import numpy_helper
from torch import Tensor

from tools.network import SpeechEmotionNet


def weights_of(path: Path) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Those that kept their names, and in their order the matrices of convolutions and products, which did not."""
    graph = onnx.load(path).graph
    named = {i.name: torch.tensor(numpy_helper.to_array(i)) for i in graph.initializer}
    inner = [n.input[1] for n in graph.node if n.op_type in ("Conv", "MatMul") and n.input[1] in named]
    # A product has its matrix on the right, PyTorch's layers have it on the left.
    return named, [named[name].T if named[name].ndim == 2 else named[name].flatten(1) for name in inner]


def main(model: Path, config: Path, run: Annotated[Path, typer.Option(help="Run folder to make.")]) -> None:
    """Write the run folder."""
    settings = tomllib.loads(config.read_text())
    net = SpeechEmotionNet(len(settings["labels"]), **settings["network"])
    state = net.state_dict()
    for part in ("encoder", "head"):
        named, inner = weights_of(model / f"{part}.onnx")
        for key in state:
            name = key if part == "head" else key.removeprefix("encoder.")
            if not key.startswith(f"{part}.") or key.endswith("num_batches_tracked"):
                continue
            state[key] = named[name] if name in named else inner.pop(0).contiguous()
        if inner:
            raise typer.BadParameter(f"{model}: is no export of a network of {config}")
    net.load_state_dict(state)
    run.mkdir(parents=True, exist_ok=True)
    torch.save({"average": net.state_dict()}, run / "checkpoint.pt")
    (run / "config.toml").write_text(config.read_text())
    (run / "left_out.txt").write_text("")


if __name__ == "__main__":
    typer.run(main)
