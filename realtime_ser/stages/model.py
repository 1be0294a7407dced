"""The model: the two ONNX sessions behind it, `encoder.onnx` and `head.onnx`, and what they promise (`contract.py`)."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from realtime_ser.errors import ModelError
from realtime_ser.stages.calls import Call, Outputs, Steps, alone
from realtime_ser.stages.contract import CONTRACT_KEY, Contract, parse_contract
from realtime_ser.stages.exact import check_products
from realtime_ser.stages.features import FeatureExtractor
from realtime_ser.stages.network import Apart, in_process, reason

if TYPE_CHECKING:
    from realtime_ser.stages.window_model import WindowModel

DEFAULT_MODEL = "ser-research"
_LARGEST_FILE_BYTES = 100_000_000
_MOST_KEPT = 4
_kept: dict[Path, tuple[object, Model | WindowModel]] = {}
"""Models that were loaded, those last that were asked for last, and of which files."""
_locks: dict[tuple[int, Path], threading.Lock] = {}
"""For each process and model: one that a thread held while its process was forked is never released in the other."""


def open_session(path: Path, ours: bool = False) -> tuple[InferenceSession | Apart, bytes]:
    """A network, in this process if it is `ours`, and the file's bytes.

    Raises
    ------
    ModelError
        If it cannot be read, is another than `SHA256SUMS` says, or is refused.
    """
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path}: is no file", "give another --model")  # a pipe or device need never end
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise ModelError(f"{path}: is larger than {_LARGEST_FILE_BYTES // 1_000_000} MB", "use a smaller model")
        content = path.read_bytes()
        _check_sum(path, content)
    except OSError as error:
        raise ModelError(
            f"{path}: {(error.strerror or str(error)).lower()}", "reinstall, or give another --model"
        ) from None
    if not ours:
        return Apart(content, str(path)), content
    try:
        return in_process(content), content
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own classes, which share no base but Exception
        raise ModelError(f"{path}: is not a usable ONNX model ({reason(error)})", "reinstall") from None


def _check_sum(path: Path, content: bytes) -> None:
    """Its hash is that of the `SHA256SUMS` beside it, where there is one; asked before any of it is parsed."""
    sums = path.with_name("SHA256SUMS")
    if not sums.is_file():
        return
    line = f"{hashlib.sha256(content).hexdigest()}  {path.name}"
    if line not in sums.read_text("utf-8", "replace").splitlines():
        raise ModelError(f"{path}: is not the file that {sums.name} beside it names", "reinstall, or export it anew")


def _check_shapes(session: InferenceSession | Apart, inputs: dict[str, list[int | None]], path: Path) -> None:
    """The named inputs with these shapes (None: any) and nothing else."""
    found = {i.name: (i.type, list(i.shape)) for i in session.get_inputs()}
    if set(found) != set(inputs):
        raise ModelError(f"{path}: has inputs {sorted(found)}, not {sorted(inputs)}", "export it with tools/export.py")
    for name, wanted in inputs.items():
        dtype, shape = found[name]
        fits = dtype == "tensor(float)" and len(shape) == len(wanted)
        if not fits or any(w is not None and s != w for s, w in zip(shape, wanted, strict=True)):
            raise ModelError(
                f"{path}: input {name!r} is {dtype} {shape}, not float {wanted}", "export it with tools/export.py"
            )


def usable(session: InferenceSession | Apart) -> bool:
    """Whether a network can be run still."""
    return not isinstance(session, Apart) or session.usable


def run(
    session: InferenceSession | Apart, outputs: tuple[str, ...], feed: dict[str, NDArray[np.float32]]
) -> Steps[Outputs]:
    """A network's outputs. A stranger's is run here: it may take one stream only, or mix those of a batch."""
    if isinstance(session, Apart):
        return session.run(outputs, feed)
    return (yield Call(session, outputs, feed))


class Encoder:
    """Log-mel frames of an utterance → embeddings, each computed once: the first chunks at once, then those there."""

    _state: NDArray[np.float32]
    _waiting: NDArray[np.float32]

    def __init__(self, session: InferenceSession | Apart, contract: Contract) -> None:
        self._session = session
        self._contract = contract
        self.reset()

    def push(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give frames of shape (k * chunk_frames, n_mels); get embeddings (n * chunk_embeddings, dim).

        Raises
        ------
        ModelError
            If the model gives anything but finite numbers, as many as its contract says.
        """
        return alone(self.steps([frames]))[0]

    def steps(self, blocks: Sequence[NDArray[np.float32]]) -> Steps[list[NDArray[np.float32]]]:
        """`push` for each block, asking for runs of the network as long as it takes them."""
        c = self._contract
        begun = self._begun
        ends = np.cumsum([len(self._waiting), *map(len, blocks)]) // c.chunk_frames
        waiting = np.concatenate((self._waiting, *blocks))
        outputs = [np.empty((0, c.dim), np.float32)]
        while (ready := len(waiting) // c.chunk_frames) >= (1 if self._begun else c.first_chunks):
            size = c.chunk_frames * (min(ready, c.call_chunks) if self._begun else c.first_chunks)
            outputs.append((yield from self._run(waiting[:size])))
            waiting = waiting[size:]
        self._waiting = waiting
        if not begun:
            ends[ends < c.first_chunks] = 0  # before the first call there is nothing
        embeddings = np.concatenate(outputs)
        return [embeddings[start:end] for start, end in pairwise((0, *(ends[1:] * c.chunk_embeddings).tolist()))]

    def flush_steps(self) -> Steps[NDArray[np.float32]]:
        """End of the utterance: the embeddings of one that was too short for the first call."""
        left = np.empty((0, self._contract.dim), np.float32)
        if len(self._waiting):
            left = yield from self._run(self._waiting)
        self.reset()
        return left

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._state = np.zeros((1, self._contract.state_size), np.float32)
        self._waiting = np.empty((0, self._contract.features.n_mels), np.float32)
        self._begun = False

    def _run(self, frames: NDArray[np.float32]) -> Steps[NDArray[np.float32]]:
        self._begun = True
        feed = {"frames": frames[None], "state": self._state}
        embeddings, self._state = yield from run(self._session, ("embeddings", "next_state"), feed)
        c = self._contract
        shapes = (1, len(frames) // c.chunk_frames * c.chunk_embeddings, c.dim), (1, c.state_size)
        if (embeddings.shape, self._state.shape) != shapes:
            given = f"outputs of shape {embeddings.shape} and {self._state.shape}, not {shapes[0]} and {shapes[1]}"
            raise ModelError(f"{c.model_id}: the encoder gives {given}", "use another model")
        if not (np.isfinite(embeddings).all() and np.isfinite(self._state).all()):
            raise ModelError(f"{c.model_id}: the encoder gives no finite numbers", "use another model")
        return embeddings[0]


class Head:
    """Embeddings of a window → calibrated posteriors. Holds no state."""

    def __init__(self, session: InferenceSession | Apart, contract: Contract) -> None:
        self._session = session
        self._contract = contract

    def push(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give embeddings of shape (batch, n, dim); get posteriors of shape (batch, labels).

        Raises
        ------
        ModelError
            If the model gives anything but probabilities.
        """
        return alone(self._run(embeddings))

    def steps(self, windows: Sequence[NDArray[np.float32]]) -> Steps[list[NDArray[np.float32]]]:
        """Posteriors (labels,) of each window (n, dim), those of one length asked for in one run."""
        posteriors: list[NDArray[np.float32]] = []
        for _, same in groupby(windows, len):
            batch = np.stack(list(same))
            # A stranger's network may take one window only, or mix those of a batch.
            for part in batch[:, None] if isinstance(self._session, Apart) else batch[None]:
                posteriors.extend((yield from self._run(part)))
        return posteriors

    def _run(self, embeddings: NDArray[np.float32]) -> Steps[NDArray[np.float32]]:
        (posteriors,) = yield from run(self._session, ("posteriors",), {"embeddings": embeddings})
        c = self._contract
        if posteriors.shape != (shape := (len(embeddings), len(c.labels))):
            raise ModelError(
                f"{c.model_id}: the head gives an output of shape {posteriors.shape}, not {shape}", "use another model"
            )
        if not are_probabilities(posteriors):
            raise ModelError(f"{c.model_id}: the head gives no probabilities", "use another model")
        return posteriors


def are_probabilities(scores: NDArray[np.float32]) -> bool:
    """Whether each row, of shape (batch, labels), is not negative and sums to one; NaN never does."""
    # A few numbers: in lists they are looked at three times as fast.
    return all(abs(sum(row) - 1) < 1e-3 and min(row) >= 0 for row in scores.tolist())


@dataclass(frozen=True)
class Model:
    """A loaded model. Its ONNX sessions are shared; `encoder()` gives each stream its own state."""

    contract: Contract
    sha256: str
    """Of `encoder.onnx` followed by `head.onnx`."""
    _encoder_session: InferenceSession | Apart
    _head_session: InferenceSession | Apart

    @property
    def usable(self) -> bool:
        """Whether it can be run still: a process that a network has of its own may have ended."""
        return usable(self._encoder_session) and usable(self._head_session)

    def features(self) -> FeatureExtractor:
        """A new stream's first stage behind the gate."""
        c = self.contract
        return FeatureExtractor(c.features, c.filterbank, c.chunk_frames)

    def encoder(self) -> Encoder:
        """A new stream's encoder."""
        return Encoder(self._encoder_session, self.contract)

    def head(self) -> Head:
        """The head."""
        return Head(self._head_session, self.contract)


def models_folder() -> Path:
    """Where the bundled models are: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def is_bundled(model: Path) -> bool:
    """Whether it is one of those that came with the package, and is checked against its hashes."""
    return model.parent == models_folder().resolve()


def find_model(name: str | Path | None = None) -> Path:
    """The folder of a bundled model by its name, or any folder or file by its path; the default model for None.

    Raises
    ------
    ModelError
        If there is none.
    """
    wanted = str(DEFAULT_MODEL if name is None else name)
    known = sorted(p.name for p in models_folder().glob("*") if p.is_dir())
    if wanted in known:
        return models_folder() / wanted
    if wanted and Path(wanted).exists():
        return Path(wanted)
    raise ModelError(f"{wanted or 'an empty name'}: no such model", f"bundled: {', '.join(known) or 'none'}")


def load_model(name: str | Path | None = None) -> Model | WindowModel:
    """Load a model by its bundled name, its folder, or (the window kind) its file, checking everything.

    Asked for again, it is the same one, unless its files have changed or its process has ended.

    Raises
    ------
    ModelError
        If it cannot be loaded, or does not fit the contract.
    """
    found = find_model(name).resolve()
    with _locks.setdefault((os.getpid(), found), threading.Lock()):
        files = _files(found)
        kept, model = _kept.pop(found, (None, None))
        if model is None or kept != files or not model.usable:
            model = _load(found)
        _kept[found] = files, model
    for other in list(_kept)[:-_MOST_KEPT]:
        _kept.pop(other, None)
    return model


def _files(found: Path) -> list[tuple[str, int, int]]:
    """What a model is loaded from, and what changes when one is replaced; none where it cannot be asked."""
    paths = found.glob("*.onnx") if found.is_dir() else (found, found.with_suffix(".json"))
    try:
        stats = [(path.name, path.stat()) for path in sorted(paths) if path.exists()]
    except OSError:
        return []
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


def _load(found: Path) -> Model | WindowModel:
    if found.is_dir():
        return _load_folder(found)
    from realtime_ser.stages.window_model import load_window_model  # it builds on this module

    return load_window_model(found)


def _load_folder(folder: Path) -> Model:
    check_products()
    sessions, contracts, contents = [], [], []
    for kind in ("encoder", "head"):
        path = folder / f"{kind}.onnx"
        session, content = open_session(path, ours=is_bundled(folder))
        text = session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY)
        contracts.append(parse_contract(text, kind, str(path)))
        sessions.append(session)
        contents.append(content)
    contract, other = contracts
    if (contract.model_id, contract.labels, contract.dim) != (other.model_id, other.labels, other.dim):
        raise ModelError(f"{folder}: encoder.onnx and head.onnx are not of one model", "copy both from one export")
    n_frames = contract.chunk_frames if contract.first_chunks == contract.call_chunks == 1 else None
    frames: list[int | None] = [None, n_frames, contract.features.n_mels]
    _check_shapes(sessions[0], {"frames": frames, "state": [None, contract.state_size]}, folder / "encoder.onnx")
    _check_shapes(sessions[1], {"embeddings": [None, None, contract.dim]}, folder / "head.onnx")
    model = Model(contract, hashlib.sha256(b"".join(contents)).hexdigest(), *sessions)
    _try_out(model)
    return model


def _try_out(model: Model) -> None:
    """The first calls and one window: outputs of a wrong shape show now, not in the middle of a session."""
    contract = model.contract
    two_seconds = np.full((8 * contract.chunk_frames, contract.features.n_mels), -60, np.float32)
    embeddings = model.encoder().push(two_seconds)
    model.head().push(embeddings[None, : 4 * contract.chunk_embeddings])
