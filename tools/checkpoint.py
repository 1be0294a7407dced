"""An exported network as a run folder, where the run itself is gone but its export is not.

`python -m tools.checkpoint MODEL tools/configs/ser-research.toml --run runs/earlier`: of a model in floating point the
very weights, for `tools.export --beside` and to go on training; of one in integers what its weights were rounded to,
for `tools.train --teacher`, and with `--corpora` its norms too, for `tools.train --start`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

import onnx
import tomllib
import torch
import typer
from onnx import GraphProto, numpy_helper
from torch import Tensor, nn

from tools.network import CHUNK_FRAMES, Encoder, SpeechEmotionNet
from tools.quantize import speech
from tools.splits import SPLITS

HEARD_CLIPS = 100
"""Enough for the statistics of some hundred channels: each clip has thousands of values of every one."""


def constants_of(graph: GraphProto) -> dict[str, Tensor]:
    """By name."""
    return {i.name: torch.tensor(numpy_helper.to_array(i)) for i in graph.initializer}


def matrices_of(graph: GraphProto) -> list[Tensor]:
    """Of convolutions and products in their order, as PyTorch has them; the export did not keep their names."""
    named = constants_of(graph)
    inner = [named[n.input[1]] for n in graph.node if n.op_type in ("Conv", "MatMul") and n.input[1] in named]
    return [matrix.T if matrix.ndim == 2 else matrix.flatten(1) for matrix in inner]


def float_encoder(graph: GraphProto, encoder: Encoder) -> dict[str, Tensor]:
    """The state of the only encoder of a graph that PyTorch exported."""
    named, inner = constants_of(graph), iter(matrices_of(graph))
    return {
        key: named[key] if key in named else next(inner) for key in encoder.state_dict() if "num_batches" not in key
    }


def integer_encoder(graph: GraphProto, encoder: Encoder, place: int) -> dict[str, Tensor]:
    """The state of the encoder at `place` in a graph of `tools.quantize`, with its batch norms inside the weights."""
    named, state = constants_of(graph), {}
    convolutions = [n.input for n in graph.node if n.op_type == "QLinearConv"]
    n_layers = len(encoder.layers)
    for i, inputs in enumerate(convolutions[place * n_layers : (place + 1) * n_layers]):
        given, whole, scale, bias = (named[inputs[k]] for k in (1, 3, 4, 8))
        norm, ones = f"layers.{i}.norm", torch.ones(len(scale))
        state |= {
            f"layers.{i}.weight": (whole * scale[:, None, None, None]).flatten(1),
            f"{norm}.weight": ones,
            f"{norm}.bias": bias * scale * given,
            f"{norm}.running_mean": 0 * ones,
            f"{norm}.running_var": ones - encoder.layers[i].norm.eps,
        }
    matrix = matrices_of(graph)[place]
    # Its columns are (band, channel) there and (channel, band) here.
    state["project.weight"] = matrix.reshape(encoder.dim, -1, encoder.cache_shapes[-1][0]).transpose(1, 2).flatten(1)
    added = [named[n.input[1]] for n in graph.node if n.op_type == "Add" and n.input[1] in named]
    return state | {"project.bias": added[place]}


def head_of(graph: GraphProto, place: int) -> dict[str, Tensor]:
    """The state of the only head, of the one at `place`, or of a model's own beside what `tools.train_head` taught."""
    named, inner = constants_of(graph), matrices_of(graph)[2 * place : 2 * place + 2]
    prefixes = (f"head.heads.{place}.", "head.own.", "head.")
    prefix = next((p for p in prefixes if f"{p}classify.bias" in named), "head.")
    state = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
    return state | {"attend.0.weight": inner[0], "attend.2.weight": inner[1]}


@torch.no_grad()
def unfold(encoder: Encoder, heard: Iterable[Tensor]) -> None:
    """Take the norms of an encoder out of its weights, by the statistics of frames (n, 64); it embeds as before.

    A network whose norms do nothing does not train; and steps of Muon, which are as large for all matrices, ask for
    weights as large as those that training begins with (He et al., 2015).
    """
    encoder.eval()
    moments: dict[nn.Module, list[Tensor]] = {layer.norm: [] for layer in encoder.layers}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        moments[norm].append(torch.stack((inputs[0].mean(dim=(0, 2, 3)), inputs[0].square().mean(dim=(0, 2, 3)))))

    hooks = [norm.register_forward_hook(note) for norm in moments]
    for frames in heard:
        encoder.embed(frames[None, : len(frames) // CHUNK_FRAMES * CHUNK_FRAMES])
    for hook in hooks:
        hook.remove()
    for layer in encoder.layers:
        mean, square = torch.stack(moments[layer.norm]).mean(dim=0)
        size = layer.weight.square().mean(dim=1).sqrt().clamp_min(1e-12)
        factor = (2 / layer.weight.shape[1]) ** 0.5 / size
        variance = (square - mean.square()) * factor.square()
        layer.weight *= factor[:, None]
        layer.norm.bias += mean * layer.norm.weight
        layer.norm.weight *= (variance + layer.norm.eps).sqrt() / factor
        layer.norm.running_mean.copy_(mean * factor)
        layer.norm.running_var.copy_(variance)


def main(
    model: Path,
    config: Path,
    run: Annotated[Path, typer.Option(help="Run folder to make.")],
    place: Annotated[int, typer.Option(help="Which of the networks side by side.", min=0)] = 0,
    corpora: Annotated[
        Path | None, typer.Option(help="Folder of the corpora, to go on training a model in integers.")
    ] = None,
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
) -> None:
    """Write the run folder."""
    settings = tomllib.loads(config.read_text())
    net = SpeechEmotionNet(len(settings["labels"]), **settings["network"])
    loaded = onnx.load(model / "encoder.onnx")
    graph = loaded.graph
    integers = any(n.op_type == "QLinearConv" for n in graph.node)
    counts = {key: value for key, value in net.state_dict().items() if "num_batches" in key}
    try:
        parts = {
            "encoder": integer_encoder(graph, net.encoder, place) if integers else float_encoder(graph, net.encoder),
            "head": head_of(onnx.load(model / "head.onnx").graph, place),
        }
        found = {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
        net.load_state_dict(found | counts)
    except (IndexError, StopIteration, RuntimeError):  # too few matrices, or of other shapes
        raise typer.BadParameter(f"{model}: has no network of {config} at place {place}") from None
    if integers and corpora:
        contract = json.loads(loaded.metadata_props[0].value)
        heard = speech(corpora, splits, contract["trained_on"])
        unfold(net.encoder, map(torch.from_numpy, islice(heard, HEARD_CLIPS)))
    run.mkdir(parents=True, exist_ok=True)
    torch.save({"average": net.state_dict()}, run / "checkpoint.pt")
    (run / "config.toml").write_text(config.read_text())
    (run / "left_out.txt").write_text("")


if __name__ == "__main__":
    typer.run(main)
