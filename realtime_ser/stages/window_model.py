"""Models of the older kind: one ONNX file that takes a whole window, log-mel or waveform, and is run anew for each.

In the pipeline the frames of a window take the place of embeddings: `FrameEncoder` hands them through, and
`WindowHead` runs the model on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from realtime_ser.errors import ModelError
from realtime_ser.stages.calls import Steps
from realtime_ser.stages.contract import CONTRACT_KEY, Contract, parse_contract
from realtime_ser.stages.features import FeatureExtractor
from realtime_ser.stages.model import are_probabilities, open_session, usable
from realtime_ser.stages.network import LONGEST_METADATA, Apart


class WaveformFrames:
    """Samples of the open segment → the same samples as frames of one hop each, in whole blocks."""

    _pending: NDArray[np.float32]

    def __init__(self, hop_samples: int, block_frames: int) -> None:
        self._hop_samples = hop_samples
        self.block_samples = hop_samples * block_frames
        """`push` gives a block for so many."""
        self.reset()

    @property
    def missing_samples(self) -> int:
        """With so many more, `push` gives a block."""
        return self.block_samples - len(self._pending)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give samples of shape (n,); get frames of shape (k * block_frames, hop_samples)."""
        pending = np.concatenate((self._pending, samples))
        cut = len(pending) // self.block_samples * self.block_samples
        self._pending = pending[cut:].copy()
        return pending[:cut].reshape(-1, self._hop_samples)

    def flush(self) -> NDArray[np.float32]:
        """End of the segment: the whole frames that are left."""
        pending = self._pending
        self.reset()
        return pending[: len(pending) // self._hop_samples * self._hop_samples].reshape(-1, self._hop_samples)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._pending = np.empty(0, np.float32)


class FrameEncoder:
    """Hands frames through: there is nothing to embed before the window is whole."""

    def steps(self, blocks: Sequence[NDArray[np.float32]]) -> Steps[Sequence[NDArray[np.float32]]]:
        """Blocks of frames of shape (n, dim), as they are."""
        yield from ()
        return blocks

    def flush_steps(self) -> Steps[NDArray[np.float32]]:
        """Holds nothing back."""
        yield from ()
        return np.empty((0, 0), np.float32)

    def reset(self) -> None:
        """Holds no state."""


@dataclass(frozen=True)
class WindowModel:
    """A loaded window model; the same verbs as `Model`."""

    contract: Contract
    sha256: str
    takes: Literal["log_mel", "waveform"]
    mels_first: bool
    """Whether log-mel goes in as (batch, n_mels, frames)."""
    logits: bool
    """Whether logits come out, not probabilities."""
    length: int | None
    """Of its input in frames or samples; None if any."""
    _session: InferenceSession | Apart

    @property
    def usable(self) -> bool:
        """Whether it can be run still: a process that it has of its own may have ended."""
        return usable(self._session)

    def features(self) -> FeatureExtractor | WaveformFrames:
        """A new stream's first stage behind the gate."""
        c = self.contract
        if self.takes == "waveform":
            return WaveformFrames(c.features.hop_samples, c.chunk_frames)
        return FeatureExtractor(c.features, c.filterbank, c.chunk_frames)

    def encoder(self) -> FrameEncoder:
        """A new stream's encoder."""
        return FrameEncoder()

    def head(self) -> WindowHead:
        """What runs the model on windows."""
        return WindowHead(self, self._session)


class WindowHead:
    """Frames of a window → posteriors. Holds no state."""

    def __init__(self, model: WindowModel, session: InferenceSession | Apart) -> None:
        self._model = model
        self._session = session
        self._input = session.get_inputs()[0].name

    def push(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give frames of shape (batch, n, dim); get posteriors of shape (batch, labels).

        A model of fixed length hears the end of a longer window, and a shorter one repeated.

        Raises
        ------
        ModelError
            If the model gives anything but finite scores for its labels.
        """
        m = self._model
        x = windows.reshape(len(windows), -1) if m.takes == "waveform" else windows
        if m.length is not None:
            repeats = -(-m.length // x.shape[1])
            x = np.concatenate([x] * repeats, axis=1)[:, -m.length :]
        if m.takes == "log_mel" and m.mels_first:
            x = np.ascontiguousarray(x.swapaxes(1, 2))
        scores = self._session.run(None, {self._input: x})[0]
        if scores.shape != (len(windows), len(m.contract.labels)) or not np.isfinite(scores).all():
            raise ModelError(f"{m.contract.model_id}: gives no scores for its labels", "use another model")
        if m.logits:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        elif not are_probabilities(scores):
            raise ModelError(
                f"{m.contract.model_id}: gives no probabilities", 'if they are logits, say "output": "logits"'
            )
        return scores

    def steps(self, windows: Sequence[NDArray[np.float32]]) -> Steps[list[NDArray[np.float32]]]:
        """Posteriors (labels,) of each window (n, dim), one by one; asks for nothing (`stages/model.py`)."""
        yield from ()
        return [self.push(window[None])[0] for window in windows]


def load_window_model(path: Path) -> WindowModel:
    """Load a window model; its contract is in its metadata, or in a `.json` of its name beside it.

    Raises
    ------
    ModelError
        If it cannot be loaded, or does not fit its contract.
    """
    session, content = open_session(path)
    text = session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY)
    beside = path.with_suffix(".json")
    if text is None and beside.is_file():
        with beside.open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_METADATA + 1)  # more is refused
    contract = parse_contract(text, "window", str(path))
    fields: dict[str, Any] = json.loads(text or "{}")
    takes, layout, output = (fields.get(k) for k in ("input", "layout", "output"))
    if takes not in ("log_mel", "waveform") or layout not in (None, "frames_first", "mels_first"):
        raise ModelError(
            f"{path}: takes {takes!r} in layout {layout!r}", "say log_mel or waveform, frames_first or mels_first"
        )
    if output not in ("posteriors", "logits"):
        raise ModelError(f"{path}: gives {output!r}", "say posteriors or logits")
    inputs = session.get_inputs()
    rank, time_axis = (2, 1) if takes == "waveform" else (3, 2 if layout == "mels_first" else 1)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != rank:
        found = [(i.type, i.shape) for i in inputs]
        raise ModelError(f"{path}: takes {found}, not one float input of {rank} dimensions", "check its contract")
    length = inputs[0].shape[time_axis]
    model = WindowModel(
        contract, hashlib.sha256(content).hexdigest(), takes, layout == "mels_first", output == "logits",
        length if isinstance(length, int) else None, session,
    )  # fmt: skip
    model.head().push(np.zeros((1, 100, contract.dim), np.float32))
    return model
