"""A run folder → `models/NAME/encoder.onnx` and `head.onnx`, calibrated and with the contract inside.

`python -m tools.export runs/ser-base --corpora DIR --splits DIR`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import tomllib
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.features import FeatureSettings, mel_filterbank
from realtime_ser.stages.model import CONTRACT_KEY, CONTRACT_VERSION, pack_filterbank
from tools.corpora import crema_d_validation, load, read_speakers
from tools.network import CHUNK_FRAMES, FRAMES_PER_EMBEDDING, Encoder, Head, SpeechEmotionNet
from tools.prepare import frames_of
from tools.train import Split, predict


class Posteriors(nn.Module):
    """The head with its temperature and softmax."""

    def __init__(self, head: Head, temperature: float) -> None:
        super().__init__()
        self.head = head
        self.temperature = temperature

    def forward(self, embeddings: Tensor) -> Tensor:
        return torch.softmax(self.head(embeddings) / self.temperature, dim=1)


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature of least cross-entropy (Guo et al., 2017), by a search over 0.5 to 4."""
    grid = np.exp(np.linspace(np.log(0.5), np.log(4), 200))
    x, y = torch.from_numpy(logits), torch.from_numpy(truth)
    return float(grid[np.argmin([float(functional.cross_entropy(x / t, y)) for t in grid])])


def load_network(run: Path) -> tuple[SpeechEmotionNet, dict[str, Any]]:
    """The averaged weights of a run, and its config."""
    settings = tomllib.loads((run / "config.toml").read_text())
    net = SpeechEmotionNet(len(settings["labels"]), **settings["network"])
    net.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["average"])
    return net.eval(), settings


def write_onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    names: tuple[list[str], list[str]],
    path: Path,
    contract: dict[str, Any],
) -> None:
    """Export with a free batch dimension (and free length for the head), and put the contract in."""
    inputs, outputs = names
    axes = {name: {0: "batch"} for name in inputs + outputs}
    if inputs == ["embeddings"]:
        axes["embeddings"][1] = "n"
    torch.onnx.export(
        module, example, str(path), input_names=inputs, output_names=outputs, dynamic_axes=axes, dynamo=False,
        opset_version=17,
    )  # fmt: skip
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {CONTRACT_KEY: json.dumps(contract)})
    model.doc_string = ""
    onnx.save(model, path)


def export(net: SpeechEmotionNet, settings: dict[str, Any], temperature: float, folder: Path) -> None:
    """Write both files of a model."""
    features = FeatureSettings()
    filterbank = mel_filterbank(RATE_HZ, features.frame_samples, features.n_mels, features.fmin_hz, features.fmax_hz)
    encoder: Encoder = net.encoder
    contract = {
        "contract": CONTRACT_VERSION,
        "id": settings["id"],
        "licence": settings["licence"],
        "trained_on": list(settings["clips_per_epoch"]),
        "labels": settings["labels"],
        "rate_hz": RATE_HZ,
        "features": vars(features),
        "filterbank": pack_filterbank(filterbank),
        "normalisation": "inside the encoder: loudness-weighted running mean of each band, look-ahead of one chunk",
        "chunk_frames": CHUNK_FRAMES,
        "chunk_embeddings": CHUNK_FRAMES // FRAMES_PER_EMBEDDING,
        "dim": encoder.dim,
        "state_size": encoder.state_size,
        "window_s": [0.5, 10.0],
        "temperature": temperature,
    }
    folder.mkdir(parents=True, exist_ok=True)
    frames, state = torch.zeros(1, CHUNK_FRAMES, features.n_mels), torch.zeros(1, encoder.state_size)
    names = (["frames", "state"], ["embeddings", "next_state"])
    write_onnx(encoder, (frames, state), names, folder / "encoder.onnx", contract | {"kind": "encoder"})
    window = torch.randn(1, 40, encoder.dim)
    names = (["embeddings"], ["posteriors"])
    write_onnx(
        Posteriors(net.head, temperature).eval(), (window,), names, folder / "head.onnx", contract | {"kind": "head"}
    )


def main(
    run: Path,
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")],
    models: Annotated[Path, typer.Option(help="Where the model's folder goes.")] = Path("models"),
    cache: Annotated[Path, typer.Option(help="Where features are kept.")] = Path(".cache/features"),
) -> None:
    """Calibrate on CREMA-D's validation speakers and export."""
    net, settings = load_network(run)
    speakers = read_speakers(splits / "crema_d_validation_speakers.txt")
    clips = [c for c in load(corpora, splits, ["CREMA-D"]) if crema_d_validation(c, speakers)]
    validation = Split(clips, frames_of([c.path for c in clips], cache))
    truth = np.array([settings["labels"].index(c.emotion) for c in clips])
    logits = predict(net, validation)
    temperature = fit_temperature(logits, truth)
    folder = models / settings["id"]
    export(net, settings, temperature, folder)
    sizes = sum(p.stat().st_size for p in folder.glob("*.onnx"))
    print(
        f"{folder}: temperature {temperature:.2f}, {sizes / 1e6:.1f} MB, "
        f"accuracy {np.mean(logits.argmax(1) == truth):.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
