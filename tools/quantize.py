"""The encoder of an exported model in 8-bit integers: a third as large, and two to four times as fast.

`python -m tools.quantize runs/ser-base --corpora DIR -o models/ser-base`, after `tools.export` with the
same runs.

Weights have 7 bits, so that no product of theirs overflows on any processor: integer sums are exact, and equal audio
gives equal numbers on all of them. What normalises the frames stays as it is, for its sums are nothing for 8 bits.
The graph is written here operator by operator, channels last, as onnxruntime computes: a tensor has one scale wherever
it goes, so what is remembered of the past is joined to it by copying bytes, and nothing is turned around.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rich.progress import track
from torch import Tensor, nn

from realtime_ser.stages.contract import CONTRACT_KEY
from realtime_ser.stages.model import load_model
from tools import degrade
from tools.corpora import load
from tools.export import write_onnx
from tools.network import (
    CHUNK_FRAMES,
    FIRST_CHUNKS,
    N_MELS,
    CausalConv,
    Encoder,
    RunningMean,
    SpeechEmotionNet,
    load_network,
)
from tools.prepare import log_mel, noise_paths, read_mono, speech_region, training_rooms
from tools.splits import SPLITS, held_out
from tools.sums import write_sums

CLIPS = 400
SHARE_OUTSIDE = 1e-5
"""Of an activation's values, at each end of what its 8 bits span. With none outside, CREMA-D loses 0.004."""
_EXTREMES = 2000
"""Values kept at each end: enough for this share of 200 million."""
_BITS_7 = 64


@dataclass(frozen=True)
class Kit:
    """What degrades a voice: rooms and recorded noises that no evaluation uses."""

    rooms: list[NDArray[np.float32]]
    noises: list[NDArray[np.float32]]


def degraded(samples: NDArray[np.float32], kit: Kit, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random chain in the order in which the world does it: voice, room, noise, microphone, line.

    Not that of `tools.augment`, which gives a batch crops: what an encoder's ranges must span is whole clips.
    """
    samples = degrade.change_speed(samples, rng.uniform(0.87, 1.15))
    if rng.random() < 0.1:
        samples = degrade.shift_pitch(samples, rng.uniform(-2, 2))
    if rng.random() < 0.5:
        samples = degrade.reverberate(samples, kit.rooms[rng.integers(len(kit.rooms))])
    if rng.random() < 0.6:
        noise = kit.noises[rng.integers(len(kit.noises))]
        samples = degrade.add_noise(samples, np.roll(noise, rng.integers(len(noise))), rng.uniform(0, 30))
    samples = degrade.tilt(samples, rng.uniform(-3, 3))
    match rng.integers(10):
        case 0 | 1:
            return degrade.telephone(samples)
        case 2:
            return degrade.mobile(samples)
        case 3:
            return degrade.voice_message(samples)
        case 4 | 5:
            return degrade.clip_peaks(samples, rng.uniform(3, 15))
        case _:
            return samples


def speech(corpora: Path, splits: Path, names: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    """Frames of clips that may be trained on, every other one through a room, noise and a line."""
    clips = load(corpora, splits, list(names))
    kept = [c for c, out in zip(clips, held_out(clips, splits), strict=True) if not out]
    kit = Kit(training_rooms(), [read_mono(p) for p in noise_paths(corpora, evaluation=False)])
    for i, clip in enumerate(track(random.Random(0).sample(kept, CLIPS), "hearing")):
        samples = read_mono(clip.path)
        frames = log_mel(speech_region(degraded(samples, kit, np.random.default_rng(i)) if i % 2 else samples))
        if len(frames) >= CHUNK_FRAMES:  # a single letter may give no embedding
            yield frames


class Extremes:
    """The largest and smallest of all values that a tensor ever had."""

    def __init__(self) -> None:
        self._high = self._low = torch.zeros(1)  # zero is always spanned
        self._count = 0

    def add(self, values: Tensor) -> None:
        """Some more of them."""
        self._count += values.numel()
        high, low = torch.cat((self._high, values.flatten())), torch.cat((self._low, values.flatten()))
        n = min(_EXTREMES, len(high))
        self._high, self._low = high.topk(n).values, low.topk(n, largest=False).values

    def quantisation(self) -> Quantisation:
        """8 bits for all but `SHARE_OUTSIDE` of them at each end."""
        n = min(int(self._count * SHARE_OUTSIDE), len(self._high) - 1)
        high, low = max(float(self._high[n]), 0.0), min(float(self._low[n]), 0.0)
        scale = (high - low) / 255
        return Quantisation(scale, round(-low / scale))


@dataclass(frozen=True)
class Quantisation:
    """What the 8 bits of a tensor mean: value = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Ranges:
    """Of an encoder: what goes into each layer, and last into the projection; and what comes out of each layer."""

    into: list[Quantisation]
    out_of: list[Quantisation]


@torch.no_grad()
def find_ranges(encoder: Encoder, heard: Sequence[NDArray[np.float32]]) -> Ranges:
    """As found in what is heard, frames of shape (n, 64)."""
    into = [Extremes() for _ in (*encoder.layers, encoder.project)]
    out_of = [Extremes() for _ in encoder.layers]

    def listen(i: int) -> Callable[[nn.Module, Any, Any], None]:
        def note(_layer: nn.Module, given: Any, made: Any) -> None:
            into[i].add(given[0])
            out_of[i].add(made[0])

        return note

    hooks = [layer.register_forward_hook(listen(i)) for i, layer in enumerate(encoder.layers)]
    hooks.append(encoder.project.register_forward_pre_hook(lambda _module, given: into[-1].add(given[0])))
    for frames in heard:
        encoder.embed(torch.from_numpy(frames[: len(frames) // CHUNK_FRAMES * CHUNK_FRAMES])[None])
    for hook in hooks:
        hook.remove()
    return Ranges([e.quantisation() for e in into], [e.quantisation() for e in out_of])


class Front(nn.Module):
    """The running mean, its views with channels last: what stays in floating point."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = RunningMean()

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        views, state = self.mean(frames, state)
        return views.permute(0, 2, 3, 1), state


class Graph:
    """An ONNX graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: NDArray[Any]) -> str:
        """A name for it."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        """A constant of sizes or axes."""
        return self.constant(np.array(values, np.int64))

    def meaning(self, of: Quantisation) -> list[str]:
        """Scale and zero point as operators take them."""
        return [self.constant(np.float32(of.scale)), self.constant(np.uint8(of.zero_point))]

    def add(self, operator: str, inputs: Sequence[str], outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """An operator; its output's name, or their names."""
        names = [f"{operator.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def remembered(self, x: str, past: int, flat: str, shape: Sequence[int]) -> tuple[str, str]:
        """`x` of shape (batch, time, …) behind its cache, given flat, of `shape`; and the next cache, flat."""
        cache = self.add("Reshape", [flat, self.integers(0, *shape)])
        joined = self.add("Concat", [cache, x], axis=1)
        last = self.add(
            "Slice", [joined, self.integers(-past), self.integers(np.iinfo(np.int64).max), self.integers(1)]
        )
        return joined, self.add("Reshape", [last, self.integers(0, -1)])

    def convolution(self, x: str, given: Quantisation, layer: CausalConv, made: Quantisation) -> str:
        """A layer with its batch norm inside; cut off at zero where `made` begins there."""
        norm = layer.norm
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = (layer.weight.view(layer.shape) * gain[:, None, None, None]).detach().numpy()
        bias = (norm.bias - norm.running_mean * gain).detach().numpy()
        scale = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-12) / _BITS_7
        whole = np.round(weight / scale[:, None, None, None]).astype(np.int8)
        beside = layer.shape[3] // 2
        inputs = [
            x, *self.meaning(given),
            self.constant(whole), self.constant(scale.astype(np.float32)), self.constant(np.zeros(len(scale), np.int8)),
            *self.meaning(made), self.constant(np.round(bias / (scale * given.scale)).astype(np.int32)),
        ]  # fmt: skip
        return str(
            self.add("QLinearConv", inputs, domain="com.microsoft", channels_last=1, strides=layer.stride,
                     kernel_shape=layer.shape[2:], pads=[0, beside, 0, beside])
        )  # fmt: skip

    def stack(self, encoder: Encoder, ranges: Ranges, first: str, flats: Sequence[str]) -> tuple[str, list[str]]:
        """Views with their past, and caches that begin with those of its later layers → embeddings, the next caches."""
        after = []
        x, skip = first, ("", ranges.into[0])
        for i, (layer, role) in enumerate(zip(encoder.layers, encoder.roles, strict=True)):
            given, made = ranges.into[i], ranges.into[i + 1]
            if role == "open":
                skip = x, given
            if i:
                channels, time, bands = encoder.cache_shapes[i]
                x, cache = self.remembered(x, layer.past, flats[i - 1], (time, bands, channels))
                after.append(cache)
            if role == "close":
                inner = ranges.out_of[i]
                x = self.convolution(x, given, layer, inner)
                inputs = [x, *self.meaning(inner), skip[0], *self.meaning(skip[1]), *self.meaning(made)]
                x = self.add("QLinearAdd", inputs, domain="com.microsoft")
            else:
                x = self.convolution(x, given, layer, made)
        dim, channels = encoder.dim, encoder.cache_shapes[-1][0]
        matrix = encoder.project.weight.detach().numpy().reshape(dim, channels, -1).transpose(2, 1, 0).reshape(-1, dim)
        values = self.add("DequantizeLinear", [x, *self.meaning(ranges.into[-1])])
        values = self.add("Reshape", [values, self.integers(0, 0, -1)])
        values = self.add("MatMul", [values, self.constant(matrix)])
        return str(self.add("Add", [values, self.constant(encoder.project.bias.detach().numpy())])), after


def front_graph() -> onnx.GraphProto:
    """Frames and the mean's state → views and the next one, as PyTorch exports it."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "front.onnx")
        example = {"frames": torch.zeros(1, CHUNK_FRAMES, N_MELS), "mean_state": torch.zeros(1, RunningMean.state_size)}
        write_onnx(Front().eval(), example, ["views", "next_mean_state"], {"frames": "frames"}, path, {})
        return onnx.load(path).graph


def integer_encoder(
    encoders: Sequence[Encoder], heard: Sequence[NDArray[np.float32]], contract: dict[str, Any]
) -> onnx.ModelProto:
    """The encoders side by side, behind one running mean and one cache of its views.

    `heard` are frames as those that will come, of shape (n, 64); `contract` is the floating point encoder's.
    """
    found = [find_ranges(encoder, heard) for encoder in encoders]
    front, graph = front_graph(), Graph()
    views_shape = (encoders[0].layers[0].past, N_MELS, 2)
    caches = [c * t * f for encoder in encoders for c, t, f in encoder.cache_shapes[1:]]
    parts = [RunningMean.state_size, int(np.prod(views_shape)), sum(caches)]
    split = helper.make_node("Split", ["state", graph.integers(*parts)], ["mean_state", "seen", "whole"], axis=1)
    # Integers from 0 to 255, which a float holds exactly; all of them zero at an utterance's start.
    flats = graph.add("Cast", ["whole"], to=TensorProto.UINT8)
    flats = graph.add("Split", [flats, graph.integers(*caches)], outputs=len(caches), axis=1)
    views, next_seen = graph.remembered("views", views_shape[0], "seen", views_shape)
    embeddings, after = [], []
    for encoder, ranges in zip(encoders, found, strict=True):
        first = graph.add("QuantizeLinear", [views, *graph.meaning(ranges.into[0])])
        made, next_caches = graph.stack(encoder, ranges, first, flats[len(after) :])
        embeddings.append(made)
        after += next_caches
    whole = graph.add("Cast", [graph.add("Concat", after, axis=1)], to=TensorProto.FLOAT)
    graph.nodes += [
        helper.make_node("Concat", embeddings, ["embeddings"], axis=2),
        helper.make_node("Concat", ["next_mean_state", next_seen, whole], ["next_state"], axis=1),
    ]
    contract = contract | {"state_size": sum(parts)}
    shapes = {
        "frames": ["batch", "frames", N_MELS],
        "state": ["batch", sum(parts)],
        "embeddings": ["batch", "n", contract["dim"]],
        "next_state": ["batch", sum(parts)],
    }
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names]
        for names in (("frames", "state"), ("embeddings", "next_state"))
    )
    nodes = [split, *front.node, *graph.nodes]
    made = helper.make_graph(nodes, "encoder", inputs, outputs, [*front.initializer, *graph.constants])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(made, ir_version=8, opset_imports=sets)
    helper.set_model_props(model, {CONTRACT_KEY: json.dumps(contract)})
    return model


@torch.no_grad()
def same_labels(nets: Sequence[SpeechEmotionNet], folder: Path, heard: Sequence[NDArray[np.float32]]) -> float:
    """The share of clips, frames of shape (n, 64), of which the model and the networks it was made of say the same."""
    model = load_model(folder)
    same = []
    for frames in heard:
        whole = frames[: len(frames) // CHUNK_FRAMES * CHUNK_FRAMES]
        if len(whole) < FIRST_CHUNKS * CHUNK_FRAMES:
            continue
        logits = sum(net.head(net.embed(torch.from_numpy(whole)[None])) for net in nets)
        same.append(int(logits.argmax()) == model.head().push(model.encoder().push(whole)[None]).argmax())
    return float(np.mean(same))


def main(
    run: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    output: Annotated[Path, typer.Option("-o", help="Folder of the model that `tools.export` wrote.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    beside: Annotated[Path | None, typer.Option(help="As for `tools.export`.")] = None,
) -> None:
    """Calibrate on the corpora that the model was trained on, and write its encoder in integers."""
    nets = [load_network(r)[0] for r in (beside, run) if r]
    properties = onnx.load(output / "encoder.onnx").metadata_props
    contract = json.loads(next(p.value for p in properties if p.key == CONTRACT_KEY))
    heard = list(speech(corpora, splits, contract["trained_on"]))
    onnx.save(integer_encoder([net.encoder for net in nets], heard, contract), output / "encoder.onnx")
    write_sums(output)
    print(
        f"{output}: {same_labels(nets, output, heard):.1%} of the clips get the label that they get in floating point"
    )


if __name__ == "__main__":
    typer.run(main)
