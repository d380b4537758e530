"""Norms, softmaxes and means of the masked original: they leave removed channels out.

Zeroing a channel changes the mean it is part of, so where an operator takes statistics of the channels it cannot say
what a cut must be equal to. There the masked original takes the kept channels, lets the operator run on them alone, and
puts its results back in their places.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipeline.graph.editing import Names, add_initialiser, copied, opset, set_nodes

OPSET_OF_PAD_INPUTS = 11  # amounts are an attribute before

Line = NDArray[np.bool_]


def leave_out(
    proto: onnx.ModelProto,
    lines: Mapping[tuple[str, int], tuple[int, Line]],
    kept: Mapping[str, Mapping[int, list[int]]],
    scattered: Mapping[str, frozenset[int]],
    ranks: Mapping[str, int],
) -> onnx.ModelProto:
    """The graph in which node and input of `lines` see only the channels that stay, along the axis given.

    `kept` says which indices of the initialisers stay, `scattered` along which axes a tensor carries channels.
    """
    changed = copied(proto)
    graph, names, version = changed.graph, Names(changed.graph), opset(changed)
    values = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        places = {number: line for (name, number), line in lines.items() if name == node.name}
        if not places:
            nodes.append(node)
            continue
        for number, (axis, line) in places.items():
            indices = add_initialiser(graph, names, f"{node.name}:{number}:kept", np.flatnonzero(line))
            taken = names.fresh(f"{node.input[number]}:kept")
            nodes.append(helper.make_node("Gather", [node.input[number], indices], [taken], axis=axis))
            node.input[number] = taken
        for number, name in enumerate(node.input):
            if name in kept and name in values:
                value = numpy_helper.to_array(values[name])
                for axis, stays in kept[name].items():
                    value = np.take(value, stays, axis=axis)
                node.input[number] = add_initialiser(graph, names, f"{name}:kept", value)
        nodes.append(node)
        for axis, line in places.values():
            if axis in scattered.get(node.output[0], ()):
                nodes += _put_back(graph, names, node, axis, line, ranks[node.output[0]], version)
    set_nodes(graph, nodes)
    return changed


def _put_back(
    graph: onnx.GraphProto, names: Names, node: onnx.NodeProto, axis: int, line: Line, rank: int, version: int
) -> list[onnx.NodeProto]:
    """The node's output at full width: its own entries where channels stay, zeros elsewhere."""
    output = node.output[0]
    alone, padded = names.fresh(f"{output}:alone"), names.fresh(f"{output}:padded")
    node.output[0] = alone
    amounts = np.zeros(2 * rank, np.int64)
    amounts[rank + axis] = 1
    if version >= OPSET_OF_PAD_INPUTS:
        pad = helper.make_node("Pad", [alone, add_initialiser(graph, names, f"{output}:pads", amounts)], [padded])
    else:
        pad = helper.make_node("Pad", [alone], [padded], pads=amounts.tolist())
    places = np.where(line, np.cumsum(line) - 1, line.sum())
    indices = add_initialiser(graph, names, f"{output}:places", places)
    return [pad, helper.make_node("Gather", [padded, indices], [output], axis=axis)]
