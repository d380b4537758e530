"""Broadcasting makes an Expand superfluous: what it spreads would spread by itself where it is read."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.graph.editing import Names, add_initialiser, all_captured_names, is_standard, set_nodes
from pipeline.graph.evaluate import Value
from pipeline.graph.normalise.bindings import bindings
from pipeline.graph.shapes import Shapes, infer_shapes

BROADCASTING = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")


def expansions_are_left_to_broadcasting(proto: onnx.ModelProto, bound: Shapes) -> None:
    """An Expand goes where all its readers are elementwise and another operand has the full shape anyway: written out,
    it names a size for every axis, and channels among them could not be cut."""
    expands = [node for node in proto.graph.node if is_standard(node, "Expand")]
    if not expands:
        return
    fixed = {value.name for value in proto.graph.output} | all_captured_names(proto.graph)
    readers: dict[str, list[onnx.NodeProto]] = {node.output[0]: [] for node in expands}
    for node in proto.graph.node:
        for name in set(node.input):
            if name in readers:
                readers[name].append(node)
    runs = [infer_shapes(proto, binding) for binding in bindings(proto, bound)]
    alias = {
        node.output[0]: node.input[0]
        for node in expands
        if node.output[0] not in fixed
        and all(_spreads_by_itself(reader, node.output[0], runs) for reader in readers[node.output[0]])
    }
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = alias.get(name, name)
    set_nodes(proto.graph, [node for node in proto.graph.node if node.output[0] not in alias])


def expansions_name_only_what_grows(proto: onnx.ModelProto, bound: Shapes) -> None:
    """An entry of a computed target that repeats a size the tensor has already is written as 1, which means the same:
    channels among them may then be cut."""
    constants = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if len(tensor.dims) == 1
    }
    makers = {name: node for node in proto.graph.node if is_standard(node, "Concat") for name in node.output}
    expands = [node for node in proto.graph.node if is_standard(node, "Expand") and node.input[1] in makers]
    if not expands:
        return
    runs = [infer_shapes(proto, binding) for binding in bindings(proto, bound)]
    names = Names(proto.graph)
    joins: dict[str, onnx.NodeProto] = {}
    for expand in expands:
        join = makers[expand.input[1]]
        sizes = [runs[0].get(name, ())[:1] for name in join.input]
        if all(sizes):
            parts = _growing(expand, join, [size for (size,) in sizes], constants, runs)
            if any(part is not None for part in parts):
                read = [
                    name if part is None else add_initialiser(proto.graph, names, name, part)
                    for name, part in zip(join.input, parts, strict=True)
                ]
                expand.input[1] = names.fresh(f"{expand.name}:target")
                joins[expand.name] = helper.make_node("Concat", read, [expand.input[1]], expand.input[1], axis=0)
    set_nodes(
        proto.graph, [made for node in proto.graph.node for made in (joins.get(node.name), node) if made is not None]
    )


def _growing(
    expand: onnx.NodeProto, join: onnx.NodeProto, sizes: Sequence[int], constants: Mapping[str, Value],
    runs: Sequence[Shapes],
) -> list[Value | None]:  # fmt: skip
    """For every part of the target its entries with 1 for what stays as long as it is; None where nothing changes."""
    parts: list[Value | None] = []
    axis = -sum(sizes)
    for name, size in zip(join.input, sizes, strict=True):
        old = constants.get(name)
        stays = [all(_has_already(expand, axis + number, shapes) for shapes in runs) for number in range(size)]
        new = old if old is None else np.where(stays, np.ones_like(old), old)
        parts.append(None if old is None or new is None or np.array_equal(old, new) else new)
        axis += size
    return parts


def _has_already(expand: onnx.NodeProto, axis: int, shapes: Shapes) -> bool:
    own, whole = shapes.get(expand.input[0]), shapes.get(expand.output[0])
    return own is not None and whole is not None and len(own) >= -axis and own[axis] == whole[axis]


def _spreads_by_itself(reader: onnx.NodeProto, expanded: str, runs: Sequence[Shapes]) -> bool:
    if not is_standard(reader, *BROADCASTING) or len(reader.input) != 2 or reader.input[0] == reader.input[1]:
        return False
    (other,) = (name for name in reader.input if name != expanded)
    return all(other in shapes and shapes[other] == shapes.get(expanded) for shapes in runs)
