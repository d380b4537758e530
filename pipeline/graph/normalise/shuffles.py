"""A channel shuffle is a Gather: which channels stay need not make a rectangle of blocks any more.

Written as Reshape - Transpose - Reshape it splits the channels into blocks, and a cut would have to take the same ones
out of every block. As a list of numbers any of them may go.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pipeline.graph.editing import Names, add_initialiser, all_captured_names, attribute, is_standard, set_nodes
from pipeline.graph.normalise.bindings import bindings
from pipeline.graph.shapes import Shapes, infer_shapes


def shuffles_are_gathers(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Only where one axis is split, its parts change places, and they become the same axis again."""
    chains = list(_chains(proto.graph))
    if not chains:
        return
    runs = [infer_shapes(proto, binding) for binding in bindings(proto, bound)]
    names = Names(proto.graph)
    gathers: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for split, move, join in chains:
        orders = [_order(split, move, join, shapes) for shapes in runs]
        if all(order is not None and order == orders[0] for order in orders):
            assert orders[0] is not None
            axis, indices = orders[0]
            numbers = add_initialiser(proto.graph, names, f"{join.name}:order", np.asarray(indices, np.int64))
            gathers[join.name] = helper.make_node(
                "Gather", [split.input[0], numbers], list(join.output), join.name, axis=axis
            )
            gone.update((split.name, move.name))
    set_nodes(proto.graph, [gathers.get(node.name, node) for node in proto.graph.node if node.name not in gone])


def _chains(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto]]:
    """Reshape, Transpose, Reshape, of which only the last one is read by others."""
    fixed = {value.name for value in graph.output} | all_captured_names(graph)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in set(node.input):
            readers.setdefault(name, []).append(node)

    def only_reader(node: onnx.NodeProto, operator: str) -> onnx.NodeProto | None:
        found = readers.get(node.output[0], [])
        alone = len(found) == 1 and node.output[0] not in fixed and found[0].input[0] == node.output[0]
        return found[0] if alone and is_standard(found[0], operator) else None

    chains = []
    for node in graph.node:
        move = only_reader(node, "Transpose") if is_standard(node, "Reshape") else None
        join = only_reader(move, "Reshape") if move is not None else None
        if move is not None and join is not None:
            chains.append((node, move, join))
    return chains


def _order(
    split: onnx.NodeProto, move: onnx.NodeProto, join: onnx.NodeProto, shapes: Shapes
) -> tuple[int, tuple[int, ...]] | None:
    """The axis that is shuffled and which entry goes where; None where the three do anything else."""
    before, parts, after = (shapes.get(name) for name in (split.input[0], split.output[0], join.output[0]))
    entry = attribute(move, "perm")
    if before is None or parts is None or entry is None or before != after or len(parts) <= len(before):
        return None
    axis = next((a for a, (size, part) in enumerate(zip(before, parts, strict=False)) if size != part), len(before) - 1)
    stop = axis + len(parts) - len(before) + 1
    if (*before[:axis], *before[axis + 1 :]) != (*parts[:axis], *parts[stop:]):
        return None
    order = list(entry.ints)
    inside = order[axis:stop]
    if [a for a in order if not axis <= a < stop] != [*range(axis), *range(stop, len(parts))]:
        return None
    if sorted(inside) != list(range(axis, stop)) or math.prod(parts[axis:stop]) != before[axis]:
        return None
    return axis, tuple(_moved(parts[axis:stop], [a - axis for a in inside]).tolist())


def _moved(parts: Sequence[int], order: Sequence[int]) -> NDArray[np.int64]:
    return np.arange(math.prod(parts)).reshape(parts).transpose(order).reshape(-1)
