"""How fast a shipped model runs on one core, as a share of what a plain matrix product reaches there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import shape_inference
from threadpoolctl import threadpool_limits

from realtime_ser.stages.model import Model, find_model, load_model

WINDOW_S = 3.0


def multiply_adds(path: Path, sizes: dict[str, int]) -> int:
    """Of the convolutions and matrix products in a graph, its free dimensions set to `sizes`."""
    model = onnx.load(path)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)}
    weights = {i.name: list(i.dims) for i in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
        elif node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]]) * np.prod(weights[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            second = weights[node.input[1]] if node.input[1] in weights else shapes[node.input[1]]
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            total += int(np.prod(shapes[node.output[0]]) * second[-1 if transposed else -2])
    return total


def seconds(work: Callable[[], object], at_least_s: float = 1.0) -> float:
    """The fastest of many runs."""
    work()
    times: list[float] = []
    while sum(times) < at_least_s:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def speed(name: str) -> str:
    """A sentence: milliseconds a second of speech for encoder and head, and their share of a matrix product's speed."""
    model = load_model(name)
    assert isinstance(model, Model), "window models have no encoder"
    contract, folder = model.contract, find_model(name)
    chunk = np.full((contract.chunk_frames, contract.features.n_mels), -50, np.float32)
    chunks = 8
    encoder, head = model.encoder(), model.head()
    encoder.push(np.tile(chunk, (4, 1)))
    encoder_s = seconds(lambda: [encoder.push(chunk) for _ in range(chunks)]) / chunks * 4
    window = np.zeros((1, round(WINDOW_S * 4) * contract.chunk_embeddings, contract.dim), np.float32)
    head_s = seconds(lambda: head.push(window)) * 4  # four windows a second
    macs = 4 * multiply_adds(folder / "encoder.onnx", {"batch": 1, "frames": contract.chunk_frames})
    a = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    with threadpool_limits(1):
        product = 1024**3 / seconds(lambda: a @ a)
    parameters = sum(
        int(np.prod(i.dims))
        for kind in ("encoder", "head")
        for i in onnx.load(folder / f"{kind}.onnx").graph.initializer
    )
    size = sum((folder / f"{kind}.onnx").stat().st_size for kind in ("encoder", "head"))
    return (
        f"{parameters / 1e6:.2f} M parameters, {size / 1e6:.1f} MB in both files. On one core, for a second of speech: "
        f"encoder {1000 * encoder_s:.2f} ms ({macs / 1e6:.0f} million multiply-adds, {macs / encoder_s / product:.0%} "
        f"of the speed of a float32 matrix product of 1024 × 1024 in NumPy in the same run), head on a window of "
        f"{WINDOW_S:.0f} s four times {1000 * head_s:.2f} ms."
    )
