"""What an ONNX file is made of, read before onnxruntime runs any of it.

A walk over the file's protobuf wire format, as the `onnx` package is no dependency. Field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
from collections.abc import Iterator

_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_MOST_NODES = 20_000
_MOST_DIMS = 16
"""So many also keep their product from growing without end."""
_MOST_VALUES_PER_BYTE = 2
"""Of a tensor: 4-bit integers are the smallest there are."""


def objection(content: bytes) -> str | None:
    """Why a model must not be run, None if nothing speaks against it.

    Refused are loops and branches, whose time no look at the file bounds; operators and functions that are not ONNX's
    or onnxruntime's; weights outside the file; and tensors that claim more values than the file has room for.

    Raises
    ------
    ValueError
        If it is no protobuf message.
    """
    n_nodes = 0
    for number, graph in _fields(memoryview(content)):
        if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            return "it defines functions or training of its own"
        if number != _MODEL_GRAPH:
            continue
        for part, message in _fields(_message(graph)):
            if part == _GRAPH_SPARSE:
                return "it has sparse weights"
            if part == _GRAPH_INITIALIZER and (found := _tensor(_message(message))):
                return found
            if part == _GRAPH_NODE:
                n_nodes += 1
                if found := _node(_message(message)):
                    return found
    return f"it has more than {_MOST_NODES} operators" if n_nodes > _MOST_NODES else None


def _node(node: memoryview) -> str | None:
    name, domain = "", ""
    for number, value in _fields(node):
        if number == _NODE_TYPE:
            name = _text(value)
        elif number == _NODE_DOMAIN:
            domain = _text(value)
        elif number == _NODE_ATTRIBUTE:
            for part, inner in _fields(_message(value)):
                if part in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    return "it has loops or branches"
                if part in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS) and (found := _tensor(_message(inner))):
                    return found
    return None if domain in _DOMAINS else f"it needs the operator {domain[:30]!r}.{name[:30]!r}"


def _tensor(tensor: memoryview) -> str | None:
    dims: list[int] = []
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value):
            return "its weights are in another file"
        if number == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
    if len(dims) > _MOST_DIMS:
        return f"it claims a tensor of {len(dims)} dimensions"
    if math.prod(dims) > _MOST_VALUES_PER_BYTE * len(tensor):
        return f"it claims a tensor of {math.prod(dims):.0e} values and has {len(tensor)} bytes of it"
    return None


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values; a value is an integer, or the bytes of a text, a message, or packed numbers."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        value: int | memoryview
        if wire == 0:
            value, at = _varint(message, at)
        else:
            length, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, 0), at)
            if (not length and wire != 2) or at + length > len(message):
                raise ValueError("no protobuf message")
            value = message[at : at + length]
            at += length
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no protobuf message")


def _packed(numbers: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(numbers):
        value, at = _varint(numbers, at)
        values.append(value)
    return values


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no protobuf message")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")
