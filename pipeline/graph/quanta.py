"""Which integer stands for zero in a quantised initialiser."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.editing import attribute

# (operator, input that holds integers): the input with their zero point, and the axis that it goes along, None where
# an attribute says so.
ZERO_POINTS: Mapping[tuple[str, int], tuple[int, int | None]] = {
    ("DequantizeLinear", 0): (2, None),
    ("QLinearConv", 3): (5, 0),
    ("QLinearMatMul", 3): (5, -1),
    ("ConvInteger", 1): (3, 0),
    ("MatMulInteger", 1): (3, -1),
    ("QGemm", 3): (5, None),
}
OF_ONE_PARAMETER = ("QuantizeLinear", "DequantizeLinear", "Cast")


def zero_points(proto: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """For every initialiser read as quantised values, the integers that mean zero, in a shape that broadcasts to its
    own. Those without a zero point are left out: their zero is 0."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    found: dict[str, NDArray[np.generic]] = {}
    for node in proto.graph.node:
        for (operator, number), (point, axis) in ZERO_POINTS.items():
            if node.op_type != operator or len(node.input) <= point:
                continue
            if node.input[number] in tensors and node.input[point] in tensors:
                values = numpy_helper.to_array(tensors[node.input[point]])
                shape = tuple(tensors[node.input[number]].dims)
                found[node.input[number]] = _spread(values, shape, _axis(node) if axis is None else axis)
    return found


def quantised_values(proto: onnx.ModelProto) -> frozenset[str]:
    """The tensors that are read as quantised values."""
    return frozenset(
        node.input[number]
        for node in proto.graph.node
        for operator, number in ZERO_POINTS
        if node.op_type == operator and number < len(node.input)
    )


def origins(proto: onnx.ModelProto) -> dict[str, str]:
    """The initialiser behind every tensor that is one of them dequantised, quantised or cast; itself for each."""
    found = {tensor.name: tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type in OF_ONE_PARAMETER and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _spread(values: NDArray[np.generic], shape: tuple[int, ...], axis: int) -> NDArray[np.generic]:
    """One for all, one for each index of the axis, or one for each block of indices."""
    if values.size == 1 or not shape:
        return values.reshape(())
    axis %= len(shape)
    if values.ndim == 1:
        return values.reshape([-1 if own == axis else 1 for own in range(len(shape))])
    block = -(-shape[axis] // values.shape[axis])
    return np.repeat(values, block, axis).take(range(shape[axis]), axis)


def _axis(node: onnx.NodeProto) -> int:
    if node.op_type == "QGemm":
        entry = attribute(node, "transB")
        return 0 if entry is not None and entry.i else 1
    entry = attribute(node, "axis")
    return 1 if entry is None else entry.i
