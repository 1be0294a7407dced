"""What the analysis costs on this machine: what `realtime-ser bench` tells."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from realtime_ser.pool import SessionPool
from realtime_ser.resources import peak_memory_mb, processor
from realtime_ser.session import Session
from realtime_ser.settings import RATE_HZ, WindowSettings
from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.calls import Steps
from realtime_ser.stages.model import Model

BLOCK_S, PACKET_S = 0.05, 0.02
"""As `replay` and a microphone give them, and as calls do."""
POOL_STREAMS, POOL_S = 64, 10.0
"""Enough streams that they share runs of the networks as on a full core, and so much audio of each."""
PRODUCT_SIZE = 256
"""A product about as long as a call of the encoder: on a busy machine a long one never runs undisturbed."""
_WEIGHT_AT = {"Conv": 1, "QLinearConv": 3, "MatMul": 1, "Gemm": 1}
"""Operators that multiply and add, and which of their inputs the weight is."""
_STAGES = {
    "resample": "_resampler",
    "clean": "_cleaner",
    "gate": "_gate",
    "features": "_features",
    "encoder": "_encoder",
    "head": "_head",
    "trace": "_trace",
}
"""What the table calls a stage, and what a `Session`, its `Scorer` or its `Measurer` does."""


class _Timed:
    """A stage whose calls of `push` or `steps` are timed."""

    def __init__(self, stage: Any) -> None:
        self._stage = stage
        self.times_s: list[float] = []

    def push(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        given = self._stage.push(*arguments)
        self.times_s.append(time.perf_counter() - begun)
        return given

    def steps(self, *arguments: Any) -> Steps[Any]:
        begun = time.perf_counter()
        given = yield from self._stage.steps(*arguments)
        self.times_s.append(time.perf_counter() - begun)
        return given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)


def measure(model: Model, folder: Path, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """All figures, as `--json` gives them; times in ms, memory in MB. NumPy is kept to one thread.

    `tell` hears what is measured next.
    """
    with threadpool_limits(1):
        return _measure(model, folder, seconds, tell)


def _measure(model: Model, folder: Path, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    blocks, rate_hz = _demo(seconds, BLOCK_S)
    audio_s = sum(map(len, blocks)) / rate_hz
    tell("the whole pipeline …")
    session = Session(model)
    begun = time.perf_counter()
    updates_ms = [e.latency_ms for e in _run(session, blocks, rate_hz) if e.type == "measurement"]
    rtf = (time.perf_counter() - begun) / audio_s
    memory_mb = peak_memory_mb()
    tell("each stage …")
    stages = _stages(Session(model), blocks, rate_hz)
    tell("many streams …")
    streams = streams_per_core(model, *_demo(seconds, PACKET_S))
    tell("a plain matrix product …")
    return {
        "audio_s": audio_s,
        "processor": processor(),
        "model": model.contract.model_id,
        "real_time_factor": rtf,
        "streams_per_core": streams,
        "peak_memory_mb": memory_mb,
        "update": _percentiles(updates_ms),
        "stages": {name: _percentiles([1000 * t for t in times_s]) for name, times_s in stages.items()},
        "multiply_adds": speeds(model, folder),
    }


def streams_per_core(model: Model, blocks: list[NDArray[np.float32]], rate_hz: int) -> int:
    """How many live streams a `SessionPool` can hear: seconds of audio in a second of work, with pushing them."""
    pool = SessionPool()
    for i in range(POOL_STREAMS):
        pool.add(str(i), Session(model))
    n_steps = round(POOL_S / PACKET_S)
    begun = time.perf_counter()
    for step in range(n_steps):
        for i in range(POOL_STREAMS):
            # Each is at a place of its own.
            pool.push(str(i), blocks[(i * len(blocks) // POOL_STREAMS + step) % len(blocks)], rate_hz)
        for _ in pool.hear():
            pass
    return int(POOL_STREAMS * POOL_S / (time.perf_counter() - begun))


def multiply_adds(path: Path, feed: dict[str, NDArray[np.float32]]) -> int:
    """Of the convolutions and matrix products of one run, counted from the shapes that onnxruntime's profile tells."""
    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        settings.intra_op_num_threads = 1
        # As the file has them: a fused operator would hide what it computes.
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Packed weights would be missing from the shapes.
        settings.add_session_config_entry("session.disable_prepacking", "1")
        session = onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])
        session.run(None, feed)
        nodes = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    total = 0
    for node in nodes:
        operator = node.get("args", {}).get("op_name")
        # Before 1.21 there are records of fences too, without shapes.
        if operator not in _WEIGHT_AT or "input_type_shape" not in node["args"]:
            continue
        shapes = [next(iter(shape.values())) for shape in node["args"]["input_type_shape"]]
        (given,) = node["args"]["output_type_shape"][0].values()
        weight = shapes[_WEIGHT_AT[operator]]
        inner = np.prod(weight[1:]) if "Conv" in operator else np.prod(shapes[0]) // np.prod(given[:-1])
        total += int(np.prod(given) * inner)
    return total


def _demo(seconds: float, block_s: float) -> tuple[list[NDArray[np.float32]], int]:
    """Blocks of the demo, repeated or cut to this length, and their rate."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="float32")
    samples = np.resize(samples, round(seconds * rate_hz))
    size = round(block_s * rate_hz)
    return [samples[at : at + size] for at in range(0, len(samples), size)], rate_hz


def _run(session: Session, blocks: list[NDArray[np.float32]], rate_hz: int) -> Iterator[Any]:
    for block in blocks:
        yield from session.push(block, rate_hz)
    yield from session.flush()


def _stages(session: Session, blocks: list[NDArray[np.float32]], rate_hz: int) -> dict[str, list[float]]:
    """Seconds of each call. In a run of its own, so that its clocks burden no other figure."""
    session.push(blocks[0], rate_hz)  # the session makes its resampler at the first block
    timed = {}
    for name, attribute in _STAGES.items():
        owner = next(o for o in (session, session._scorer, session._measurer) if hasattr(o, attribute))
        timed[name] = _Timed(getattr(owner, attribute))
        setattr(owner, attribute, timed[name])
    for _ in _run(session, blocks[1:], rate_hz):
        pass
    return {name: stage.times_s for name, stage in timed.items()}


def _percentiles(times_ms: list[float]) -> dict[str, float]:
    if not times_ms:
        return {"calls": 0}
    p50, p95, p99 = np.percentile(times_ms, [50, 95, 99])
    return {"calls": len(times_ms), "p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99)}


def speeds(model: Model, folder: Path) -> dict[str, Any]:
    """Billions of multiply-adds a second of encoder, head and NumPy's float32 matrix product; the fastest runs."""
    c = model.contract
    frames = np.full((1, c.chunk_frames, c.features.n_mels), -50, np.float32)
    state = np.zeros((1, c.state_size), np.float32)
    encoder, head = model.encoder(), model.head()
    embeddings = encoder.push(np.tile(frames[0], (c.first_chunks, 1)))
    n = round(WindowSettings.window_s * RATE_HZ / c.embedding_samples)
    window = np.resize(embeddings, (1, n, c.dim))
    matrix = np.random.default_rng(0).standard_normal((PRODUCT_SIZE, PRODUCT_SIZE)).astype(np.float32)
    product = PRODUCT_SIZE**3 / _fastest_s(lambda: matrix @ matrix) / 1e9
    parts = {}
    for name, path, feed, work in (
        ("encoder", "encoder.onnx", {"frames": frames, "state": state}, lambda: encoder.push(frames[0])),
        ("head", "head.onnx", {"embeddings": window}, lambda: head.push(window)),
    ):
        count = multiply_adds(folder / path, feed)
        speed = count / _fastest_s(work) / 1e9
        parts[name] = {"per_call": count, "billions_per_s": speed, "share_of_product": speed / product}
    return {"matrix_product_billions_per_s": product, **parts}


def _fastest_s(work: Callable[[], object], at_least_s: float = 0.5) -> float:
    work()
    times_s: list[float] = []
    while sum(times_s) < at_least_s:
        begun = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - begun)
    return min(times_s)
