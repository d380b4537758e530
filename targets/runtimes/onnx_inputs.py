"""What an ONNX graph declares of its inputs (host side, and device side where a runtime's converter needs it)."""

from __future__ import annotations

from typing import Any

import onnx


def specs_of(graph: onnx.GraphProto) -> list[dict[str, Any]]:
    """`{"name", "shape", "dtype"}` of the inputs that are no weights, as `Loaded.inputs` has them."""
    constants = {initialiser.name for initialiser in graph.initializer}
    return [
        {
            "name": value.name,
            "shape": dims(value),
            "dtype": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        }
        for value in graph.input
        if value.name not in constants and value.type.HasField("tensor_type")
    ]


def dims(value: onnx.ValueInfoProto) -> list[int | str | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
        for dim in value.type.tensor_type.shape.dim
    ]
