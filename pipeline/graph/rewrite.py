"""Exact rewrites into operators that runtimes run better. Same outputs, other kernels.

A parameter-free shortcut (every other pixel, padded with zero channels) is two or three small kernels, and worse: no
blocked layout survives them, so that additions and activations after them stay unfused. As a strided 1 x 1 convolution
with an identity for a weight it is one kernel in the layout of its neighbours.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from pipeline.graph.model import Model, infer_shapes

IDENTITY = "identity"


def rewritten(model: Model) -> Model:
    """The model with every rewrite that applies; the same object where none does."""
    for rewrite in REWRITES.values():
        model = rewrite(model)
    return model


def shortcuts_as_convolutions(model: Model) -> Model:
    """Slice (spatial, strided) -> Pad (channels, zeros) becomes Conv. Exact: each output is one input times one."""
    graph = gs.import_onnx(model.proto)
    found = [(pad, shortcut) for pad in graph.nodes if (shortcut := _shortcut(pad, model)) is not None]
    if not found:
        return model
    dtype = _dtype(graph)
    for pad, (source, stride, before) in found:
        (output,) = pad.outputs
        channels, width = model.shapes[source.name][1], model.shapes[output.name][1]
        weight = np.zeros((width, channels, 1, 1), dtype)
        weight[before + np.arange(channels), np.arange(channels)] = 1
        identity = gs.Constant(f"{pad.name}:{IDENTITY}", weight)
        pad.outputs.clear()
        attributes = {"kernel_shape": [1, 1], "strides": list(stride)}
        graph.nodes.append(gs.Node("Conv", pad.name, attributes, [source, identity], [output]))
    proto = gs.export_onnx(graph.cleanup().toposort(), ir_version=model.proto.ir_version)
    return Model(proto, model.bound, infer_shapes(proto, model.bound))


REWRITES: Mapping[str, Callable[[Model], Model]] = {"shortcuts_as_convolutions": shortcuts_as_convolutions}


def _shortcut(pad: gs.Node, model: Model) -> tuple[gs.Tensor, tuple[int, int], int] | None:
    """(what it reads, spatial stride, channels padded in front) of a Pad that ends a shortcut; None otherwise."""
    if pad.op != "Pad" or not 2 <= len(pad.inputs) <= 3 or not isinstance(pad.inputs[1], gs.Constant):
        return None
    amounts = [int(amount) for amount in pad.inputs[1].values]
    fill = pad.inputs[2].values if len(pad.inputs) > 2 and isinstance(pad.inputs[2], gs.Constant) else 0
    # The input of a graph may hold anything; what is not a number would not survive the zeros of the convolution.
    constant = pad.attrs.get("mode", "constant") == "constant" and not np.any(fill)
    if not constant or len(amounts) != 8 or min(amounts) < 0 or any(amounts[axis] for axis in (0, 2, 3, 4, 6, 7)):
        return None
    tensor, stride = pad.inputs[0], [1, 1]
    while len(tensor.inputs) == 1 and tensor.inputs[0].op == "Slice" and len(tensor.outputs) == 1:
        steps = _spatial_steps(tensor.inputs[0], model)
        if steps is None:
            return None
        stride = [stride[0] * steps[0], stride[1] * steps[1]]
        tensor = tensor.inputs[0].inputs[0]
    whole, part = model.shapes.get(tensor.name), model.shapes.get(pad.inputs[0].name)
    if tensor is pad.inputs[0] or whole is None or part is None or len(whole) != 4:
        return None
    fits = all(-(-size // step) == left for size, step, left in zip(whole[2:], stride, part[2:], strict=True))
    return (tensor, (stride[0], stride[1]), amounts[1]) if fits else None


def _spatial_steps(node: gs.Node, model: Model) -> tuple[int, int] | None:
    """The steps of a Slice that takes every so many rows and columns from the first on, and every channel."""
    if len(node.inputs) < 4 or not all(isinstance(bound, gs.Constant) for bound in node.inputs[1:]):
        return None
    starts, ends, axes, *rest = (bound.values.tolist() for bound in node.inputs[1:])
    steps = rest[0] if rest else [1] * len(starts)
    shape = model.shapes.get(node.inputs[0].name)
    found = [1, 1]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if shape is None or start != 0 or end < shape[axis] or step < 1:
            return None
        if axis in (2, 3):
            found[axis - 2] = int(step)
        elif step != 1:
            return None
    return found[0], found[1]


def _dtype(graph: gs.Graph) -> np.dtype[np.generic]:
    """The type that most weights have."""
    types = [np.dtype(tensor.dtype) for tensor in graph.tensors().values() if isinstance(tensor, gs.Constant)]
    floats = [dtype for dtype in types if dtype in (np.float32, np.float16)]
    return max(set(floats), key=floats.count) if floats else np.dtype(np.float32)
