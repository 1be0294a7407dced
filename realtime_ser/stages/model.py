"""The model: its contract, and the two ONNX sessions behind it.

The contract travels as JSON in the metadata of `encoder.onnx` and `head.onnx` under `CONTRACT_KEY`. What does not fit
is refused with the reason; nothing is guessed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from realtime_ser.errors import ModelError, SettingsError
from realtime_ser.settings import RATE_HZ
from realtime_ser.stages import graph
from realtime_ser.stages.features import FeatureExtractor, FeatureSettings, mel_filterbank

if TYPE_CHECKING:
    from realtime_ser.stages.window_model import WindowModel

CONTRACT_KEY = "realtime_ser"
CONTRACT_VERSION = 2
DEFAULT_MODEL = "ser-research"
_LARGEST_FILE_BYTES = 100_000_000
_LARGEST_FILTERBANK_BYTES = 1_000_000


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
    if s.hop_samples > RATE_HZ or 4 * s.n_mels * (1 + s.frame_samples // 2) > _LARGEST_FILTERBANK_BYTES:
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
    names = ("chunk_frames", "first_chunks", "chunk_embeddings", "dim", "state_size")
    sizes = [int(({"first_chunks": 1} | fields)[k]) for k in names]  # contract 1 knew no first_chunks
    chunk_frames, first_chunks, chunk_embeddings, dim, state_size = sizes
    if not (min(sizes) > 0 and max(sizes) < 1_000_000 and chunk_frames % chunk_embeddings == 0):
        raise ValueError("sizes out of range")
    if chunk_frames * features.hop_samples * 4 != RATE_HZ:
        raise ValueError("the encoder's chunk must be 0.25 s, the finest hop")
    if first_chunks > 4:
        raise ValueError("the encoder must begin within 1 s, the first window")
    shortest, longest = map(float, fields["window_s"])
    if not np.isfinite(filterbank).all() or not 0 < shortest <= 1 <= longest:
        raise ValueError("filterbank or window out of range")
    return Contract(
        model_id=str(fields["id"]),
        licence=str(fields["licence"]),
        trained_on=tuple(map(str, fields["trained_on"])),
        labels=labels,
        features=features,
        filterbank=filterbank,
        chunk_frames=chunk_frames,
        first_chunks=first_chunks,
        chunk_embeddings=chunk_embeddings,
        dim=dim,
        state_size=state_size,
        shortest_window_s=shortest,
        longest_window_s=longest,
    )


def open_session(path: Path) -> tuple[onnxruntime.InferenceSession, bytes]:
    """An ONNX session with one thread that does not spin, and the file's bytes."""
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise ModelError(f"{path}: is larger than {_LARGEST_FILE_BYTES // 1_000_000} MB", "use a smaller model")
        content = path.read_bytes()
        _check_sum(path, content)
    except OSError as error:
        raise ModelError(
            f"{path}: {(error.strerror or str(error)).lower()}", "reinstall, or give another --model"
        ) from None
    try:
        refused = graph.objection(content)
    except ValueError as error:
        refused = str(error)
    if refused:
        raise ModelError(f"{path}: is not a usable ONNX model ({refused})", "fetch or export it anew")
    onnxruntime.disable_telemetry_events()  # on Windows, where ORT_DISABLE_TELEMETRY (see __init__) says nothing
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # From bytes, so that external data cannot be pulled in from beside the file.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]), content
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own classes, which share no base but Exception
        reason = str(error).splitlines()[0].split(" : ")[-1][:200]
        raise ModelError(f"{path}: is not a usable ONNX model ({reason})", "fetch or export it anew") from None


def _check_sum(path: Path, content: bytes) -> None:
    """Its hash is that of the `SHA256SUMS` beside it, where there is one; asked before any of it is parsed."""
    sums = path.with_name("SHA256SUMS")
    if not sums.is_file():
        return
    line = f"{hashlib.sha256(content).hexdigest()}  {path.name}"
    if line not in sums.read_text("utf-8", "replace").splitlines():
        raise ModelError(f"{path}: is not the file that {sums.name} beside it names", "reinstall, or export it anew")


def _check_shapes(session: onnxruntime.InferenceSession, inputs: dict[str, list[int | None]], path: Path) -> None:
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


class Encoder:
    """Log-mel frames of an utterance → embeddings, each computed once: the first chunks at once, then one by one."""

    _state: NDArray[np.float32]
    _waiting: NDArray[np.float32]

    def __init__(self, session: onnxruntime.InferenceSession, contract: Contract) -> None:
        self._session = session
        self._contract = contract
        self.reset()

    def push(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give frames of shape (k * chunk_frames, n_mels); get embeddings (n * chunk_embeddings, dim).

        Raises
        ------
        ModelError
            If the model gives something that is no finite number.
        """
        c = self._contract
        waiting = np.concatenate((self._waiting, frames))
        outputs = [np.empty((0, c.dim), np.float32)]
        while len(waiting) >= (size := c.chunk_frames * (1 if self._begun else c.first_chunks)):
            outputs.append(self._run(waiting[:size]))
            waiting = waiting[size:]
        self._waiting = waiting
        return np.concatenate(outputs)

    def flush(self) -> NDArray[np.float32]:
        """End of the utterance: the embeddings of one that was too short for the first call."""
        c = self._contract
        left = self._run(self._waiting) if len(self._waiting) else np.empty((0, c.dim), np.float32)
        self.reset()
        return left

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._state = np.zeros((1, self._contract.state_size), np.float32)
        self._waiting = np.empty((0, self._contract.features.n_mels), np.float32)
        self._begun = False

    def _run(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        self._begun = True
        feed = {"frames": frames[None], "state": self._state}
        embeddings, self._state = self._session.run(("embeddings", "next_state"), feed)
        if not np.isfinite(embeddings).all():
            raise ModelError(f"{self._contract.model_id}: the encoder gives no finite numbers", "use another model")
        return embeddings[0]  # type: ignore[no-any-return]


class Head:
    """Embeddings of a window → calibrated posteriors. Holds no state."""

    def __init__(self, session: onnxruntime.InferenceSession, contract: Contract) -> None:
        self._session = session
        self._contract = contract

    def push(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give embeddings of shape (batch, n, dim); get posteriors of shape (batch, labels).

        Raises
        ------
        ModelError
            If the model gives anything but probabilities.
        """
        (posteriors,) = self._session.run(("posteriors",), {"embeddings": embeddings})
        sums = posteriors.sum(axis=1)
        if not (np.abs(sums - 1) < 1e-3).all() or posteriors.min() < 0:
            raise ModelError(f"{self._contract.model_id}: the head gives no probabilities", "use another model")
        return posteriors


@dataclass(frozen=True)
class Model:
    """A loaded model. Its ONNX sessions are shared; `encoder()` gives each stream its own state."""

    contract: Contract
    sha256: str
    """Of `encoder.onnx` followed by `head.onnx`."""
    _encoder_session: onnxruntime.InferenceSession
    _head_session: onnxruntime.InferenceSession

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
    found = find_model(name).resolve()
    if found.is_dir():
        return _load(found)
    from realtime_ser.stages.window_model import load_window_model  # it builds on this module

    return load_window_model(found)


@lru_cache(maxsize=4)
def _load(folder: Path) -> Model:
    sessions, contracts, contents = [], [], []
    for kind in ("encoder", "head"):
        path = folder / f"{kind}.onnx"
        session, content = open_session(path)
        text = session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY)
        contracts.append(parse_contract(text, kind, str(path)))
        sessions.append(session)
        contents.append(content)
    contract, other = contracts
    if (contract.model_id, contract.labels, contract.dim) != (other.model_id, other.labels, other.dim):
        raise ModelError(f"{folder}: encoder.onnx and head.onnx are not of one model", "copy both from one export")
    n_frames = contract.chunk_frames if contract.first_chunks == 1 else None
    frames: list[int | None] = [None, n_frames, contract.features.n_mels]
    _check_shapes(sessions[0], {"frames": frames, "state": [None, contract.state_size]}, folder / "encoder.onnx")
    _check_shapes(sessions[1], {"embeddings": [None, None, contract.dim]}, folder / "head.onnx")
    model = Model(contract, hashlib.sha256(b"".join(contents)).hexdigest(), *sessions)
    _try_out(model, folder)
    return model


def _try_out(model: Model, folder: Path) -> None:
    """One second and one window: outputs of a wrong shape show now, not in the middle of a session."""
    contract = model.contract
    try:
        second = np.full((4 * contract.chunk_frames, contract.features.n_mels), -60, np.float32)
        embeddings = model.encoder().push(second)
        posteriors = model.head().push(embeddings[None])
    except Exception as error:
        if isinstance(error, ModelError):
            raise
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"{folder}: the model fails on a test second ({reason})", "export it anew") from None
    expected = (4 * contract.chunk_embeddings, contract.dim), (1, len(contract.labels))
    if (embeddings.shape, posteriors.shape) != expected:
        raise ModelError(
            f"{folder}: outputs of shape {embeddings.shape} and {posteriors.shape} do not fit its contract",
            "export it with tools/export.py",
        )
