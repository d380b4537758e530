"""Exact rewrites into operators that runtimes run better. Same outputs, other kernels.

A parameter-free shortcut (every other pixel, padded with zero channels) is two or three small kernels, and worse: no
blocked layout survives them, so that additions and activations after them stay unfused. As a strided 1 x 1 convolution
with an identity for a weight it is one kernel in the layout of its neighbours.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.graph.model import Model, infer_shapes
from pipeline.graph.normalise import dead_nodes_are_gone

IDENTITY = "identity"


def rewritten(model: Model) -> Model:
    """The model with every rewrite that applies; the same object where none does."""
    for rewrite in REWRITES.values():
        model = rewrite(model)
    return model


def shortcuts_as_convolutions(model: Model) -> Model:
    """Slice (spatial, strided) -> Pad (channels, zeros) becomes Conv. Exact: each output is one input times one."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    maker = {name: node for node in proto.graph.node for name in node.output}
    readers: dict[str, int] = defaultdict(int)
    for node in proto.graph.node:
        for name in node.input:
            readers[name] += 1
    changed = False
    for node in proto.graph.node:
        found = _shortcut(node, model, values, maker, readers)
        if found is not None:
            source, stride, before = found
            channels, width = model.shapes[source][1], model.shapes[node.output[0]][1]
            weight = np.zeros((width, channels, 1, 1), _dtype(values, node))
            weight[before + np.arange(channels), np.arange(channels)] = 1
            name = f"{node.name}:{IDENTITY}"
            proto.graph.initializer.append(numpy_helper.from_array(weight, name))
            conv = helper.make_node(
                "Conv", [source, name], [node.output[0]], node.name, kernel_shape=[1, 1], strides=list(stride)
            )
            node.CopyFrom(conv)
            changed = True
    if not changed:
        return model
    dead_nodes_are_gone(proto, model.bound)
    return Model(proto, model.bound, infer_shapes(proto, model.bound))


REWRITES: Mapping[str, Callable[[Model], Model]] = {"shortcuts_as_convolutions": shortcuts_as_convolutions}


def _shortcut(
    node: onnx.NodeProto,
    model: Model,
    values: Mapping[str, onnx.TensorProto],
    maker: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, int],
) -> tuple[str, tuple[int, int], int] | None:
    """(what it reads, spatial stride, channels padded in front) of a Pad that ends a shortcut; None otherwise."""
    if node.op_type != "Pad" or len(node.input) < 2 or node.input[1] not in values:
        return None
    mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"constant")
    amounts = [int(amount) for amount in numpy_helper.to_array(values[node.input[1]])]
    fill = numpy_helper.to_array(values[node.input[2]]) if len(node.input) > 2 and node.input[2] in values else 0
    # The input of a graph may hold anything; what is not a number would not survive the zeros of the convolution.
    plain = mode == b"constant" and len(amounts) == 8 and not np.any(fill) and min(amounts) >= 0
    if not plain or any(amounts[axis] for axis in (0, 2, 3, 4, 6, 7)) or len(node.input) > 3:
        return None
    tensor, stride = node.input[0], [1, 1]
    while tensor in maker and maker[tensor].op_type == "Slice" and readers[tensor] == 1:
        steps = _spatial_steps(maker[tensor], model, values)
        if steps is None:
            return None
        stride = [stride[0] * steps[0], stride[1] * steps[1]]
        tensor = maker[tensor].input[0]
    whole, part = model.shapes.get(tensor), model.shapes.get(node.input[0])
    if tensor == node.input[0] or whole is None or part is None or len(whole) != 4:
        return None
    fits = all(-(-size // step) == left for size, step, left in zip(whole[2:], stride, part[2:], strict=True))
    return (tensor, (stride[0], stride[1]), amounts[1]) if fits else None


def _spatial_steps(
    node: onnx.NodeProto, model: Model, values: Mapping[str, onnx.TensorProto]
) -> tuple[int, int] | None:
    """The steps of a Slice that takes every so many rows and columns from the first on, and every channel."""
    if len(node.input) < 4 or any(name not in values for name in node.input[1:] if name):
        return None
    starts, ends, axes = (numpy_helper.to_array(values[node.input[number]]).tolist() for number in (1, 2, 3))
    steps = numpy_helper.to_array(values[node.input[4]]).tolist() if len(node.input) > 4 else [1] * len(starts)
    shape = model.shapes.get(node.input[0])
    found = [1, 1]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if shape is None or start != 0 or end < shape[axis] or step < 1:
            return None
        if axis in (2, 3):
            found[axis - 2] = int(step)
        elif step != 1:
            return None
    return found[0], found[1]


def _dtype(values: Mapping[str, onnx.TensorProto], node: onnx.NodeProto) -> np.dtype[np.generic]:
    floats = [t.data_type for t in values.values() if t.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)]
    return np.dtype(helper.tensor_dtype_to_np_dtype(max(set(floats), key=floats.count) if floats else 1))
