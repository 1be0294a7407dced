"""A machine whose onnxruntime multiplies wrongly is told, instead of getting scores that are wrong."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from realtime_ser.errors import ModelError
from realtime_ser.stages import exact


def test_this_machine_multiplies_rightly() -> None:
    exact.check_products()


def test_a_wrong_product_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = onnx.load(exact.product_path())
    wrong = exact.weights()
    wrong[-1, -1] += 1
    network.graph.initializer[0].CopyFrom(numpy_helper.from_array(wrong, "weights"))
    onnx.save(network, tmp_path / "product.onnx")
    monkeypatch.setattr(exact, "product_path", lambda: tmp_path / "product.onnx")
    exact.check_products.cache_clear()
    with pytest.raises(ModelError, match="multiplies wrongly on this processor"):
        exact.check_products()
