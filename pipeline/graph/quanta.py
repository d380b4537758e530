"""What the integers of a quantised initialiser stand for."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.editing import attribute

# (operator, input that holds integers): the inputs with their scale and zero point, and the axis that these go along,
# None where an attribute says so. Operators on integers alone leave the scale to others.
QUANTISED: Mapping[tuple[str, int], tuple[int | None, int, int | None]] = {
    ("DequantizeLinear", 0): (1, 2, None),
    ("QLinearConv", 3): (4, 5, 0),
    ("QLinearMatMul", 3): (4, 5, -1),
    ("ConvInteger", 1): (None, 3, 0),
    ("MatMulInteger", 1): (None, 3, -1),
    ("QGemm", 3): (4, 5, None),
}
Values = NDArray[np.generic]
OF_ONE_PARAMETER = ("QuantizeLinear", "DequantizeLinear", "Cast")


def zero_points(proto: onnx.ModelProto) -> dict[str, Values]:
    """For every initialiser read as quantised values, the integers that mean zero, in a shape that broadcasts to its
    own. Those without a zero point are left out: their zero is 0."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    return {
        name: _spread(tensors[point], tensors[name], axis)
        for name, _, point, axis in _quantised(proto)
        if name in tensors and point in tensors
    }


def real_values(proto: onnx.ModelProto) -> Callable[[str], NDArray[np.float64]]:
    """The numbers that an initialiser holds, dequantised where its reader dequantises them."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    scales = {
        name: _spread(tensors[scale], tensors[name], axis)
        for name, scale, _, axis in _quantised(proto)
        if name in tensors and scale in tensors
    }
    zeros = zero_points(proto)

    def real(name: str) -> NDArray[np.float64]:
        values = np.asarray(numpy_helper.to_array(tensors[name])).astype(np.float64)
        zero = np.asarray(zeros.get(name, 0)).astype(np.float64)
        return (values - zero) * np.asarray(scales.get(name, 1)).astype(np.float64)

    return real


def quantised_values(proto: onnx.ModelProto) -> frozenset[str]:
    """The tensors that are read as quantised values."""
    return frozenset(
        node.input[number]
        for node in proto.graph.node
        for operator, number in QUANTISED
        if node.op_type == operator and number < len(node.input)
    )


def origins(proto: onnx.ModelProto) -> dict[str, str]:
    """The initialiser behind every tensor that is one of them dequantised, quantised or cast; itself for each."""
    found = {tensor.name: tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type in OF_ONE_PARAMETER and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _quantised(proto: onnx.ModelProto) -> Iterator[tuple[str, str, str, int]]:
    """(integers, scale, zero point, axis) of every tensor read as quantised values; "" for what there is not."""
    for node in proto.graph.node:
        for (operator, number), (scale, point, axis) in QUANTISED.items():
            if node.op_type == operator and number < len(node.input):
                given = [
                    node.input[place] if place is not None and place < len(node.input) else ""
                    for place in (scale, point)
                ]
                yield node.input[number], given[0], given[1], _axis(node) if axis is None else axis


def _spread(tensor: onnx.TensorProto, of: onnx.TensorProto, axis: int) -> Values:
    """One for all, one for each index of the axis, or one for each block of indices."""
    values, shape = numpy_helper.to_array(tensor), tuple(of.dims)
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
