"""Whether this machine's onnxruntime multiplies bytes exactly, on which all scores of our models rest."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from realtime_ser.errors import ModelError
from realtime_ser.stages.network import in_process

ROWS, INNER, COLUMNS = 64, 216, 24


def product_path() -> Path:
    """Where the network lies (made by `tools/product.py`)."""
    return Path(__file__).parent.parent / "data" / "product.onnx"


def weights() -> NDArray[np.int8]:
    """Of the network, shape (INNER, COLUMNS): 7 bits, as our models have them."""
    return (np.arange(INNER * COLUMNS) * 53 % 127 - 63).astype(np.int8).reshape(INNER, COLUMNS)


@cache
def check_products() -> None:
    """Multiply some bytes, once in a process.

    Raises
    ------
    ModelError
        If the sums are wrong, as those of onnxruntime 1.21 to 1.24 are on processors with AMX.
    """
    network = in_process(product_path().read_bytes())
    given = (np.arange(ROWS * INNER) * 37 % 256).astype(np.uint8).reshape(ROWS, INNER)
    (found,) = network.run(None, {"bytes": given})
    if not np.array_equal(found, given.astype(np.int32) @ weights().astype(np.int32)):
        raise ModelError(
            f"onnxruntime {onnxruntime.__version__} multiplies wrongly on this processor",
            "pip install 'onnxruntime>=1.25', or 'onnxruntime==1.20.1' for Python 3.10",
        )
