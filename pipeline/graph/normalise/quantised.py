"""Quantised parameters stand right before the one node that reads them.

Rules then find the integers, their scale and their zero point with one look; sharing would tie readers together that
have nothing in common.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipeline.graph.editing import Names, add_initialiser, attribute, is_standard, set_nodes
from pipeline.graph.shapes import Shapes, infer_shapes

# What leaves every element at its place: a parameter behind these is still that parameter.
IN_PLACE = ("QuantizeLinear", "DequantizeLinear", "Cast")
MOVING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")


def quantised_parameters_are_unshared(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Every reader of a dequantised parameter gets a DequantizeLinear of its own. From the outputs backwards, so that
    chains are copied whole."""
    makers = _makers(proto)
    if not makers:
        return
    names, outputs = Names(proto.graph), {value.name for value in proto.graph.output}
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {name: [] for name in makers}
    kept: list[onnx.NodeProto] = []
    for node in reversed(proto.graph.node):
        own = [node]
        if node.output[0] in makers and node.output[0] not in outputs:
            for number, (reader, position) in enumerate(readers[node.output[0]][1:], start=2):
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.name, copy.output[0] = f"{node.name}#{number}", names.fresh(f"{node.output[0]}#{number}")
                reader.input[position] = copy.output[0]
                own.append(copy)
        for made in own:
            for position, name in enumerate(made.input):
                if name in readers:
                    readers[name].append((made, position))
        kept.extend(own)
    set_nodes(proto.graph, kept[::-1])


def movement_goes_before_dequantising(proto: onnx.ModelProto, bound: Shapes) -> None:
    """DequantizeLinear -> Transpose of a parameter is DequantizeLinear of the transposed integers; likewise Reshape and
    its kin, where the axis that scales go along stays whole."""
    makers = _makers(proto)
    if not any(is_standard(node, *MOVING) and node.input[0] in makers for node in proto.graph.node):
        return
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers: Counter[str] = Counter(name for node in proto.graph.node for name in node.input)
    outputs = {value.name for value in proto.graph.output}
    shapes, names = infer_shapes(proto, bound), Names(proto.graph)
    gone: set[str] = set()
    for node in proto.graph.node:
        chain = _chain(node.input[0], makers) if is_standard(node, *MOVING) else []
        passed = [step.output[0] for step in chain]
        alone = all(readers[name] == 1 and name not in outputs for name in passed)
        if not chain or not alone or node.output[0] not in shapes:
            continue
        values = numpy_helper.to_array(tensors[chain[0].input[0]])
        moved, axes = _move(node, values, shapes[node.output[0]])
        targets = [_new_axis(step, tensors, axes) for step in chain]
        if any(target == LOST for target in targets):
            continue
        for step, target in zip(chain, targets, strict=True):
            if target is not None:
                _set_axis(step, target)
        name = add_initialiser(proto.graph, names, chain[0].input[0], moved)
        tensors[name] = proto.graph.initializer[-1]
        chain[0].input[0] = name
        readers[name] = 1
        chain[-1].output[0] = node.output[0]
        makers[node.output[0]] = chain[-1]
        gone.add(node.name)
    set_nodes(proto.graph, [node for node in proto.graph.node if node.name not in gone])


LOST = -1


def _makers(proto: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """What makes each tensor that is an initialiser dequantised, quantised or cast."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    found: dict[str, onnx.NodeProto] = {}
    for node in proto.graph.node:
        if node.op_type in IN_PLACE and (node.input[0] in constants or node.input[0] in found):
            found[node.output[0]] = node
    return found


def _chain(tensor: str, makers: Mapping[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """From the initialiser on."""
    chain: list[onnx.NodeProto] = []
    while tensor in makers:
        chain.insert(0, makers[tensor])
        tensor = makers[tensor].input[0]
    return chain


def _move(
    node: onnx.NodeProto, values: NDArray[np.generic], shape: Sequence[int]
) -> tuple[NDArray[np.generic], list[int]]:
    """The values as `node` moves them, and where each of their axes is then, LOST where it is taken apart or merged."""
    if node.op_type == "Transpose":
        entry = attribute(node, "perm")
        order = list(entry.ints) if entry else list(range(values.ndim))[::-1]
        return values.transpose(order), [order.index(axis) for axis in range(values.ndim)]
    places = {(math.prod(shape[:axis]), size): axis for axis, size in enumerate(shape) if size > 1}
    axes = [places.get((math.prod(values.shape[:axis]), size), LOST) for axis, size in enumerate(values.shape)]
    return values.reshape(shape), axes


def _new_axis(step: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto], axes: Sequence[int]) -> int | None:
    """The axis that the step's scales go along afterwards; None where one scale serves all, LOST where it cannot be."""
    if step.op_type == "Cast":
        return None
    scale = tensors.get(step.input[1])
    if scale is None or len(scale.dims) > 1:
        return LOST
    if math.prod(scale.dims) == 1:
        return None
    entry = attribute(step, "axis")
    return axes[(1 if entry is None else entry.i) % len(axes)]


def _set_axis(step: onnx.NodeProto, axis: int) -> None:
    entry = attribute(step, "axis")
    if entry is None:
        step.attribute.append(helper.make_attribute("axis", axis))
    else:
        entry.i = axis
