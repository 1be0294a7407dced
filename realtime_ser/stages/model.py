"""The model: its contract, and the two ONNX sessions behind it.

The contract travels as JSON in the metadata of `encoder.onnx` and `head.onnx` under `CONTRACT_KEY`. What does not fit
is refused with the reason; nothing is guessed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from realtime_ser.errors import ModelError, SettingsError
from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.calls import Call, Outputs, Steps, alone
from realtime_ser.stages.features import FeatureExtractor, FeatureSettings, mel_filterbank
from realtime_ser.stages.network import LONGEST_METADATA, Apart, in_process, reason

if TYPE_CHECKING:
    from realtime_ser.stages.window_model import WindowModel

CONTRACT_KEY = "realtime_ser"
CONTRACT_VERSION = 2
DEFAULT_MODEL = "ser-research"
_LARGEST_FILE_BYTES = 100_000_000
_LARGEST_FILTERBANK_BYTES = 1_000_000
_LONGEST_NAME = 1_000
_SHORTEST_HOP_SAMPLES, _LONGEST_FRAME_SAMPLES = RATE_HZ // 1000, RATE_HZ // 4
_MOST_VALUES = 100_000
"""Of a chunk's embeddings, of which 60 s are kept: 96 MB."""


@dataclass(frozen=True)
class Contract:
    """What a model promises and what it needs."""

    model_id: str
    licence: str
    trained_on: tuple[str, ...]
    """Names of corpora: figures on them are no figures on strangers."""
    labels: tuple[str, ...]
    features: FeatureSettings
    filterbank: NDArray[np.float32]
    """Shape (n_mels, 1 + frame_samples // 2)."""
    chunk_frames: int
    """Frames that the encoder takes at once; also its look-ahead."""
    first_chunks: int
    """So many chunks it takes at an utterance's start, to know its level and colour."""
    call_chunks: int
    """Up to so many it takes at once later, for the numbers that it would give for them one by one."""
    chunk_embeddings: int
    """Embeddings that it gives for them."""
    dim: int
    state_size: int
    shortest_window_s: float
    longest_window_s: float

    @property
    def embedding_samples(self) -> int:
        """Samples from one embedding to the next."""
        return self.features.hop_samples * self.chunk_frames // self.chunk_embeddings


def pack_filterbank(filterbank: NDArray[np.float32]) -> str:
    """A filterbank as text for the contract: little-endian float32, zlib, base64."""
    return base64.b64encode(zlib.compress(filterbank.astype("<f4").tobytes(), 9)).decode()


def parse_contract(text: str | None, kind: str, where: str) -> Contract:
    """The contract in a file's metadata.

    Raises
    ------
    ModelError
        If it is missing, of a newer version, of another kind, or any field is missing or makes no sense.
    """
    if text is None:
        raise ModelError(f"{where}: has no realtime_ser metadata", "export it with tools/export.py")
    if len(text) > LONGEST_METADATA:
        raise ModelError(f"{where}: its metadata is longer than {LONGEST_METADATA} characters", "export it anew")
    try:
        fields = json.loads(text)
        version = fields["contract"]
        if not isinstance(version, int) or version > CONTRACT_VERSION:
            raise ModelError(
                f"{where}: follows contract {version}, this version knows {CONTRACT_VERSION}", "update realtime-ser"
            )
        if fields["kind"] != kind:
            raise ModelError(f"{where}: is a {fields['kind']!r}, not a {kind!r}", "check the folder's file names")
        if fields["rate_hz"] != RATE_HZ:
            raise ModelError(f"{where}: wants {fields['rate_hz']} Hz", f"only {RATE_HZ} Hz models fit")
        return _contract(_window_fields(fields) if kind == "window" else fields)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, zlib.error, SettingsError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{where}: its metadata is damaged ({detail})", "export it anew") from None


def _features(fields: dict[str, Any]) -> FeatureSettings:
    """Checked before anything of these sizes is made."""
    s = FeatureSettings(**fields)
    sizes = (s.frame_samples, s.hop_samples, s.n_mels)
    if not all(isinstance(size, int) and size > 0 for size in sizes) or not 0 <= s.fmin_hz < s.fmax_hz <= RATE_HZ / 2:
        raise ValueError("features out of range")
    if not _SHORTEST_HOP_SAMPLES <= s.hop_samples <= _LONGEST_FRAME_SAMPLES >= s.frame_samples:
        raise ValueError("frames must begin at least 1 ms apart, and be no longer than 0.25 s")
    if 4 * s.n_mels * (1 + s.frame_samples // 2) > _LARGEST_FILTERBANK_BYTES:
        raise ValueError("features out of range")
    return s


def _window_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """A window model's contract as that of an encoder which hands its frames through."""
    features = _features(fields.get("features", {}))
    chunk_frames = RATE_HZ // 4 // features.hop_samples
    dim = features.hop_samples if fields["input"] == "waveform" else features.n_mels
    s = features
    bands = mel_filterbank(RATE_HZ, s.frame_samples, s.n_mels, s.fmin_hz, s.fmax_hz)
    sizes = {"chunk_frames": chunk_frames, "chunk_embeddings": chunk_frames, "dim": dim, "state_size": 1}
    return {"features": vars(features), "filterbank": pack_filterbank(bands), "trained_on": ()} | fields | sizes


def _contract(fields: dict[str, Any]) -> Contract:
    features = _features(fields["features"])
    packed = zlib.decompressobj().decompress(base64.b64decode(fields["filterbank"]), _LARGEST_FILTERBANK_BYTES)
    filterbank = np.frombuffer(packed, "<f4").astype(np.float32)
    filterbank = filterbank.reshape(features.n_mels, 1 + features.frame_samples // 2)
    labels = tuple(fields["labels"])
    if not 2 <= len(labels) <= 100 or len(set(labels)) < len(labels):
        raise ValueError("labels must be 2 to 100 different words")
    for label in labels:
        if not (isinstance(label, str) and label.isidentifier() and label.isascii() and len(label) <= 30):
            raise ValueError(f"label {label!r} is not a plain word")
    names = ("chunk_frames", "first_chunks", "call_chunks", "chunk_embeddings", "dim", "state_size")
    sizes = [int(({"first_chunks": 1, "call_chunks": 1} | fields)[k]) for k in names]  # not in every contract
    chunk_frames, first_chunks, call_chunks, chunk_embeddings, dim, state_size = sizes
    if not (min(sizes) > 0 and max(sizes) < 1_000_000 and chunk_frames % chunk_embeddings == 0):
        raise ValueError("sizes out of range")
    if chunk_embeddings * dim > _MOST_VALUES:
        raise ValueError("sizes out of range")
    if chunk_frames * features.hop_samples * 4 != RATE_HZ:
        raise ValueError("the encoder's chunk must be 0.25 s, the finest hop")
    if first_chunks > 4:
        raise ValueError("the encoder must begin within 1 s, the first window")
    if call_chunks > 4:
        raise ValueError("a call takes 1 s at the most")
    model_id, licence, *corpora = map(str, (fields["id"], fields["licence"], *fields["trained_on"]))
    if max(map(len, (model_id, licence, *corpora))) > _LONGEST_NAME:
        raise ValueError("a name is too long")
    shortest, longest = map(float, fields["window_s"])
    if not np.isfinite(filterbank).all() or not 0 < shortest <= 1 <= longest:
        raise ValueError("filterbank or window out of range")
    return Contract(
        model_id=model_id,
        licence=licence,
        trained_on=tuple(corpora),
        labels=labels,
        features=features,
        filterbank=filterbank,
        chunk_frames=chunk_frames,
        first_chunks=first_chunks,
        call_chunks=call_chunks,
        chunk_embeddings=chunk_embeddings,
        dim=dim,
        state_size=state_size,
        shortest_window_s=shortest,
        longest_window_s=longest,
    )


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
        return np.split(np.concatenate(outputs), ends[1:-1] * c.chunk_embeddings)

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
    return bool((np.abs(scores.sum(axis=1) - 1) < 1e-3).all() and scores.min() >= 0)


@dataclass(frozen=True)
class Model:
    """A loaded model. Its ONNX sessions are shared; `encoder()` gives each stream its own state."""

    contract: Contract
    sha256: str
    """Of `encoder.onnx` followed by `head.onnx`."""
    _encoder_session: InferenceSession | Apart
    _head_session: InferenceSession | Apart

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
    if name is None:
        name = DEFAULT_MODEL
    bundled = models_folder() / name
    for folder in (bundled, Path(name)):
        if folder.is_dir():
            return folder
    if Path(name).is_file():
        return Path(name)
    known = sorted(p.name for p in models_folder().glob("*") if p.is_dir())
    raise ModelError(f"{name}: no such model", f"bundled: {', '.join(known) or 'none'}")


def load_model(name: str | Path | None = None) -> Model | WindowModel:
    """Load a model by its bundled name, its folder, or (the window kind) its file, checking everything.

    Raises
    ------
    ModelError
        If it cannot be loaded, or does not fit the contract.
    """
    return _load(find_model(name).resolve())


@lru_cache(maxsize=4)
def _load(found: Path) -> Model | WindowModel:
    if found.is_dir():
        return _load_folder(found)
    from realtime_ser.stages.window_model import load_window_model  # it builds on this module

    return load_window_model(found)


def _load_folder(folder: Path) -> Model:
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
    """One second and one window: outputs of a wrong shape show now, not in the middle of a session."""
    contract = model.contract
    second = np.full((4 * contract.chunk_frames, contract.features.n_mels), -60, np.float32)
    model.head().push(model.encoder().push(second)[None])
