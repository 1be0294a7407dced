"""A run folder → `encoder.onnx` and `head.onnx`, calibrated and with the contract inside, and their `SHA256SUMS`.

`python -m tools.export runs/ser-base --corpora DIR -o models/ser-base`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.contract import CONTRACT_KEY, CONTRACT_VERSION, pack_filterbank
from realtime_ser.stages.features import FeatureSettings, mel_filterbank
from tools import metrics
from tools.batches import gather
from tools.network import (
    CALL_CHUNKS,
    CHUNK_FRAMES,
    FIRST_CHUNKS,
    FRAMES_PER_EMBEDDING,
    Encoder,
    Encoders,
    Ensemble,
    Head,
    Heads,
    SpeechEmotionNet,
    load_network,
)
from tools.prepare import Frames
from tools.splits import SPLITS, crema_d_validation
from tools.sums import write_sums
from tools.train import predict

FRAMES_PER_S = CHUNK_FRAMES * 4
EMBEDDINGS_PER_S = FRAMES_PER_S // FRAMES_PER_EMBEDDING


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by: the less was heard, the less sure the scores (`fit_temperature`)."""

    long: float = 1.0
    """Of a window without end."""
    short: float = 0.0
    """This by the window's seconds is added."""


class Posteriors(nn.Module):
    """The head with its temperature and softmax."""

    def __init__(self, head: Head | Heads, temperature: Temperature) -> None:
        super().__init__()
        self.head = head
        self.temperature = temperature

    def forward(self, embeddings: Tensor) -> Tensor:
        heard_s = torch.ones_like(embeddings[:, :, 0]).sum(dim=1, keepdim=True) / EMBEDDINGS_PER_S
        return torch.softmax(self.head(embeddings) / (self.temperature.long + self.temperature.short / heard_s), dim=1)


def fit_temperature(
    logits: Sequence[NDArray[np.float32]], heard_s: NDArray[np.float64], truth: NDArray[np.intp]
) -> Temperature:
    """The temperature with the least calibration error on average of windows of each length.

    That of least cross-entropy (Guo et al., 2017) is a compromise between lengths, that with which windows are as sure
    on average as they are often right one between levels of confidence (docs/model.md). `logits`: for each length those
    of all clips, (clips, labels); `heard_s`: what each holds, (lengths, clips).
    """
    x, heard = np.stack(logits), heard_s[:, :, None]
    right = x.argmax(axis=2) == truth

    def error(temperature: Temperature) -> float:
        scaled = x / (temperature.long + temperature.short / heard)
        sure = np.exp(scaled.max(axis=2) - np.logaddexp.reduce(scaled, axis=2))
        return float(np.mean([metrics.expected_calibration_error(*length) for length in zip(sure, right, strict=True)]))

    grid = [Temperature(a / 50, b / 50) for a in range(20, 100) for b in range(50)]
    return min(grid, key=error)


WINDOWS_S = (1.0, 1.5, 2.0, 3.0)
"""Lengths that the temperature is fitted on, from a segment's start as a session scores them; besides whole clips."""


def calibrate(
    say: Callable[[Sequence[Frames]], NDArray[np.float32]],
    corpora: Path,
    splits: Path,
    labels: Sequence[str],
    cache: Path,
) -> tuple[Temperature, float]:
    """The temperature for what `say` gives CREMA-D's validation speakers, and the accuracy on their whole clips.

    `say`: frames of clips, each (n, 64) → logits (clips, labels).
    """
    everyone = gather(corpora, splits, ["CREMA-D"], labels, cache)
    speakers = crema_d_validation(splits)
    validation = everyone.part([i for i, c in enumerate(everyone.clips) if c.speaker in speakers])
    truth = np.array([labels.index(str(c.emotion)) for c in validation.clips])
    whole = validation.frames()
    lengths = [*([f[: round(s * FRAMES_PER_S)] for f in whole] for s in WINDOWS_S), whole]
    logits = [say(frames) for frames in lengths]
    heard_s = np.array([[max(len(f), CHUNK_FRAMES) / FRAMES_PER_S for f in frames] for frames in lengths])
    return fit_temperature(logits, heard_s, truth), float(np.mean(logits[-1].argmax(axis=1) == truth))


def write_onnx(
    module: nn.Module,
    example: dict[str, Tensor],
    outputs: list[str],
    free: dict[str, str],
    path: Path,
    contract: dict[str, Any],
) -> None:
    """Export with a free batch dimension and the named second dimensions free, and put the contract in."""
    axes = {name: {0: "batch"} for name in (*example, *outputs)}
    for name, dimension in free.items():
        axes[name][1] = dimension
    torch.onnx.export(
        module, tuple(example.values()), str(path), input_names=list(example), output_names=outputs, dynamic_axes=axes,
        dynamo=False, opset_version=17,
    )  # fmt: skip
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {CONTRACT_KEY: json.dumps(contract)})
    model.doc_string = ""
    onnx.save(model, path)


def export(net: SpeechEmotionNet | Ensemble, settings: dict[str, Any], temperature: Temperature, folder: Path) -> None:
    """Write both files of a model, and their hashes."""
    features = FeatureSettings()
    filterbank = mel_filterbank(RATE_HZ, features.frame_samples, features.n_mels, features.fmin_hz, features.fmax_hz)
    encoder: Encoder | Encoders = net.encoder
    contract = {
        "contract": CONTRACT_VERSION,
        "id": settings["id"],
        "licence": settings["licence"],
        "trained_on": list(settings["clips_per_epoch"]),
        "labels": settings["labels"],
        "rate_hz": RATE_HZ,
        "features": vars(features),
        "filterbank": pack_filterbank(filterbank),
        "normalisation": "inside the encoder: running loudness-weighted mean of each band, and of all bands together",
        "chunk_frames": CHUNK_FRAMES,
        "first_chunks": FIRST_CHUNKS,
        "call_chunks": CALL_CHUNKS,
        "chunk_embeddings": CHUNK_FRAMES // FRAMES_PER_EMBEDDING,
        "dim": encoder.dim,
        "state_size": encoder.state_size,
        "window_s": [0.5, 10.0],
        "temperature": asdict(temperature),
    }
    folder.mkdir(parents=True, exist_ok=True)
    example = {
        "frames": torch.zeros(1, CHUNK_FRAMES, features.n_mels),
        "state": torch.zeros(1, encoder.state_size),
    }
    free = {"frames": "frames", "embeddings": "n"}
    contract_of = {kind: contract | {"kind": kind} for kind in ("encoder", "head")}
    write_onnx(
        encoder, example, ["embeddings", "next_state"], free, folder / "encoder.onnx", contract_of["encoder"]
    )  # fmt: skip
    window = {"embeddings": torch.randn(1, 48, encoder.dim)}
    head = Posteriors(net.head, temperature).eval()
    write_onnx(head, window, ["posteriors"], {"embeddings": "n"}, folder / "head.onnx", contract_of["head"])
    write_sums(folder)


def main(
    run: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    output: Annotated[Path, typer.Option("-o", help="Folder of the model.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    beside: Annotated[Path | None, typer.Option(help="A run of the same labels, for an ensemble of the two.")] = None,
    cache: Annotated[Path, typer.Option(help="Where features are kept.")] = Path(".cache/features"),
) -> None:
    """Calibrate on CREMA-D's validation speakers and export."""
    net: SpeechEmotionNet | Ensemble
    net, settings = load_network(run)
    if beside:
        net = Ensemble([load_network(beside)[0], net]).eval()
    temperature, accuracy = calibrate(partial(predict, net), corpora, splits, settings["labels"], cache)
    settings["clips_per_epoch"] = {
        name: n
        for name, n in settings["clips_per_epoch"].items()
        if name not in (run / "left_out.txt").read_text().split("\n")
    }
    export(net, settings, temperature, output)
    sizes = sum(p.stat().st_size for p in output.glob("*.onnx"))
    print(
        f"{output}: temperature {temperature.long:.2f} + {temperature.short:.2f} / s, {sizes / 1e6:.1f} MB, "
        f"accuracy {accuracy:.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
