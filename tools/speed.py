"""How fast a shipped model runs on one core, as a share of what a plain matrix product reaches there."""

from __future__ import annotations

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from realtime_ser.bench import PRODUCT_SIZE, speeds
from realtime_ser.resources import processor
from realtime_ser.settings import WindowSettings
from realtime_ser.stages.model import Model, find_model, load_model


def speed(name: str) -> str:
    """A sentence: milliseconds a second of speech for encoder and head, and their share of a matrix product's speed."""
    model = load_model(name)
    assert isinstance(model, Model), "window models have no encoder"
    folder = find_model(name)
    with threadpool_limits(1):
        figures = speeds(model, folder)
    # Four chunks and four windows a second.
    encoder_ms, head_ms = (
        4 * part["per_call"] / part["billions_per_s"] / 1e6 for part in (figures["encoder"], figures["head"])
    )
    parameters = sum(
        int(np.prod(i.dims))
        for kind in ("encoder", "head")
        for i in onnx.load(folder / f"{kind}.onnx").graph.initializer
    )
    size = sum((folder / f"{kind}.onnx").stat().st_size for kind in ("encoder", "head"))
    return (
        f"{parameters / 1e6:.2f} M parameters, {size / 1e6:.1f} MB in both files. On one core ({processor()}), for a "
        "second of speech: "
        f"encoder {encoder_ms:.2f} ms ({4 * figures['encoder']['per_call'] / 1e6:.0f} million multiply-adds, "
        f"{figures['encoder']['share_of_product']:.0%} of the speed of a float32 matrix product of {PRODUCT_SIZE} × "
        f"{PRODUCT_SIZE} in NumPy in the same run), head on a window of {WindowSettings.window_s:.0f} s four times "
        f"{head_ms:.2f} ms."
    )
