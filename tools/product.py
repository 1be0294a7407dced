"""The smallest network of integers, by whose product a machine's onnxruntime is known: `python -m tools.product`.

Its product of bytes was wrong in 1.21 to 1.24 on processors with AMX (microsoft/onnxruntime#26324), where a product
has 32 rows and more and no multiple of 16 columns: other scores at each start, and nothing that looks like an error.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from realtime_ser.stages.exact import COLUMNS, INNER, ROWS, product_path, weights
from tools.sums import write_sums


def main() -> None:
    """Write it, and its hash."""
    node = helper.make_node("MatMulInteger", ["bytes", "weights"], ["product"])
    inputs = [helper.make_tensor_value_info("bytes", TensorProto.UINT8, [ROWS, INNER])]
    outputs = [helper.make_tensor_value_info("product", TensorProto.INT32, [ROWS, COLUMNS])]
    graph = helper.make_graph([node], "product", inputs, outputs, [numpy_helper.from_array(weights(), "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, product_path())
    write_sums(product_path().parent)


if __name__ == "__main__":
    main()
