"""An exported model → the same with an encoder of 8-bit integers, half as long at work and a third as large.

`python -m tools.quantize models/ser-base --corpora DIR --splits DIR -o models/ser-base`

Weights have 7 bits, so that no product of theirs overflows on any processor: integer sums are exact, and equal audio
gives equal numbers on all of them. What normalises the frames stays as it is, for its sums are nothing for 8 bits.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import typer
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from rich.progress import track

from realtime_ser.stages.model import Contract, load_model
from tools.corpora import load
from tools.prepare import degraded, log_mel, read_mono, speech_region, training_kit
from tools.splits import held_out
from tools.sums import write_sums

CLIPS = 400
CALLS = 700
"""Of the encoder, drawn from all that these clips make: more do not fit into the memory of the calibration."""
QUANTISED = ["Conv", "Add", "Relu", "Concat", "Slice", "Reshape", "Flatten"]
PERCENTILE = 99.999
"""Of an activation's values that its 8 bits span. With all of them CREMA-D loses 0.004, with this 0.001."""

Feed = dict[str, NDArray[np.float32]]


class Feeds(CalibrationDataReader):  # type: ignore[misc]
    """What the calibration hears."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def speech(corpora: Path, splits: Path, names: list[str]) -> Iterator[NDArray[np.float32]]:
    """Frames of clips that may be trained on, every other one through a room, noise and a line."""
    clips = load(corpora, splits, names)
    kept = [c for c, out in zip(clips, held_out(clips, splits), strict=True) if not out]
    kit = training_kit(corpora)
    for i, clip in enumerate(track(random.Random(0).sample(kept, CLIPS), "hearing")):
        samples = read_mono(clip.path)
        yield log_mel(speech_region(degraded(samples, kit, np.random.default_rng(i)) if i % 2 else samples)).astype(
            np.float32
        )


def calls(session: onnxruntime.InferenceSession, contract: Contract, frames: NDArray[np.float32]) -> Iterator[Feed]:
    """How a stream of these frames calls the encoder, but for its first call, whose shape is another."""
    chunk, first = contract.chunk_frames, contract.first_chunks * contract.chunk_frames
    state = np.zeros((1, contract.state_size), np.float32)
    if len(frames) >= first:
        _, state = session.run(None, {"frames": frames[None, :first], "state": state})
        for start in range(first, len(frames) - chunk + 1, chunk):
            feed = {"frames": frames[None, start : start + chunk], "state": state}
            yield feed
            _, state = session.run(None, feed)


def joins(nodes: Sequence[onnx.NodeProto], output: str) -> list[str]:
    """The concatenations that make an output, for the running mean is among what they join."""
    made_by = [node for node in nodes if output in node.output and node.op_type == "Concat"]
    return [name for node in made_by for name in (node.name, *(n for i in node.input for n in joins(nodes, i)))]


def main(
    model: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")],
    output: Annotated[Path, typer.Option("-o", help="Folder of the model.")],
) -> None:
    """Calibrate on the corpora that the model was trained on, and write the model with an integer encoder."""
    contract = load_model(str(model)).contract
    source = model / "encoder.onnx"
    with TemporaryDirectory() as folder:
        plain = Path(folder, "plain.onnx")
        settings = onnxruntime.SessionOptions()
        # Batch norm goes into the convolutions, before anything is rounded.
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(plain)
        settings.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
        feeds = [f for frames in speech(corpora, splits, contract.trained_on) for f in calls(session, contract, frames)]
        random.Random(0).shuffle(feeds)
        nodes = onnx.load(plain).graph.node
        exact = [node.name for node in nodes if "/mean/" in node.name] + joins(nodes, "next_state")
        integer = Path(folder, "integer.onnx")
        quantize_static(
            plain,
            integer,
            Feeds(feeds[:CALLS]),
            nodes_to_exclude=exact,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
        )
        made, given = onnx.load(integer), onnx.load(source)
        del made.metadata_props[:]
        made.metadata_props.extend(given.metadata_props)
        # onnxruntime wrote down all that it knows, which an older one does not.
        made.ir_version = given.ir_version
        used = [domain for domain in made.opset_import if any(n.domain == domain.domain for n in made.graph.node)]
        del made.opset_import[:]
        made.opset_import.extend(used)
        output.mkdir(parents=True, exist_ok=True)
        onnx.save(made, output / "encoder.onnx")
    if output.resolve() != model.resolve():
        shutil.copy(model / "head.onnx", output)
    write_sums(output)


if __name__ == "__main__":
    typer.run(main)
