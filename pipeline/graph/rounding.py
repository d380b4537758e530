"""The same graph without the rounding of its activations.

A sum in another order may land on the other side of a rounding boundary, and then the outputs of two graphs that are
equal differ by a quantum. Without the rounding they are equal as numbers are; saturation stays, as a Clip.
"""

from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.graph.editing import Names, add_initialiser, attribute, copied, opset
from pipeline.graph.quanta import origins

OPSET_OF_CLIP_INPUTS = 11


def without_rounding(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which QuantizeLinear -> DequantizeLinear of an activation, with one scale for all of it, is a Clip to
    the range that the integers hold. The same object where there is none."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    fixed, outputs = origins(proto), {value.name for value in proto.graph.output}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in proto.graph.node:
        for name in node.input:
            readers[name].append(node)
    found: dict[str, tuple[str, float, float]] = {}  # what DequantizeLinear makes: what it is a clipped copy of
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in fixed or node.output[0] in outputs:
            continue
        bounds = _range(node, tensors)
        after = readers[node.output[0]]
        if bounds and all(reader.op_type == "DequantizeLinear" and _same(node, reader, tensors) for reader in after):
            found.update((reader.output[0], (node.input[0], *bounds)) for reader in after)
    if not found or opset(proto) < OPSET_OF_CLIP_INPUTS:
        return proto
    smooth = copied(proto)
    names = Names(smooth.graph)
    for node in smooth.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in found:
            source, low, high = found[node.output[0]]
            dtype = numpy_helper.to_array(tensors[node.input[1]]).dtype
            limits = [
                add_initialiser(smooth.graph, names, f"{node.output[0]}:{end}", np.asarray(value, dtype))
                for end, value in (("low", low), ("high", high))
            ]
            node.CopyFrom(helper.make_node("Clip", [source, *limits], [node.output[0]], node.name))
    return smooth


def _range(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> tuple[float, float] | None:
    """The smallest and the largest number that the integers stand for; None where scales are many or computed."""
    if len(node.input) < 3 or any(name not in tensors for name in node.input[1:3]):
        return None
    scale, point = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
    if (
        scale.size != 1
        or point.size != 1
        or attribute(node, "output_dtype")
        or not np.issubdtype(point.dtype, np.integer)
    ):
        return None
    limits, zero = np.iinfo(point.dtype), int(point.reshape(()))
    low, high = ((limit - zero) * float(scale.reshape(())) for limit in (limits.min, limits.max))
    return low, high


def _same(node: onnx.NodeProto, reader: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> bool:
    """Whether the reader's scale and zero point undo the node's."""
    if len(reader.input) < 3 or any(name not in tensors for name in reader.input[1:3]):
        return False
    return all(
        np.array_equal(numpy_helper.to_array(tensors[one]), numpy_helper.to_array(tensors[other]))
        for one, other in zip(node.input[1:3], reader.input[1:3], strict=True)
    )
