"""The same graph in float32, whatever precision it is written in.

Runtimes on a CPU have no kernels for many operators in half, bfloat16 or double, and half a precision hides what a
comparison is after.
"""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pipeline.graph.editing import bodies, copied

OTHER_FLOATS = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
# Attributes that name the type of what an operator makes.
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def in_float32(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with every float tensor in float32; the same object where all of them are."""
    if not _uses_others(proto):
        return proto
    copy = copied(proto)
    _convert(copy.graph)
    return copy


def _uses_others(proto: onnx.ModelProto) -> bool:
    graph = proto.graph
    values = (value.type.tensor_type.elem_type for value in (*graph.input, *graph.output))
    made = (entry.i for node in graph.node for entry in node.attribute if entry.name in TYPE_ATTRIBUTES)
    held = (tensor.data_type for tensor in graph.initializer)
    return not OTHER_FLOATS.isdisjoint((*values, *made, *held))


def _convert(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type in OTHER_FLOATS:
            kind.elem_type = TensorProto.FLOAT
    del graph.value_info[:]
    for tensor in graph.initializer:
        _convert_tensor(tensor)
    for node in graph.node:
        for entry in node.attribute:
            if entry.name in TYPE_ATTRIBUTES and entry.i in OTHER_FLOATS:
                entry.i = TensorProto.FLOAT
            if entry.HasField("t"):
                _convert_tensor(entry.t)
        for body in bodies(node):
            _convert(body)


def _convert_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in OTHER_FLOATS:
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):  # what only a double can hold is infinite here, in every graph compared
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
