"""What a model promises and needs: its contract, JSON in the metadata of its ONNX files under `CONTRACT_KEY`.

What does not fit is refused with the reason; nothing is guessed. The fields: docs/architecture.md.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import ModelError, SettingsError
from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.features import FeatureSettings, mel_filterbank
from realtime_ser.stages.network import LONGEST_METADATA

CONTRACT_KEY = "realtime_ser"
CONTRACT_VERSION = 2
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
        raise ModelError(f"{where}: has no realtime_ser metadata", "put one there, or beside it (docs/architecture.md)")
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
    if not _SHORTEST_HOP_SAMPLES <= s.hop_samples <= s.frame_samples <= _LONGEST_FRAME_SAMPLES:
        raise ValueError("frames must begin at least 1 ms apart, leave out nothing, and be no longer than 0.25 s")
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
    # In the order in which `FeatureExtractor` wants it, which then takes it as it is for each stream.
    filterbank = np.asfortranarray(filterbank.reshape(features.n_mels, 1 + features.frame_samples // 2))
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
