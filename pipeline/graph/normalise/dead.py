"""Nodes that do nothing, and nodes whose results nobody reads."""

import onnx

from pipeline.graph.editing import all_captured_names, captured_names, is_standard, set_nodes
from pipeline.graph.shapes import Shapes, is_opaque


def identities_are_gone(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Identity passes its input on; names of graph outputs, and names that a body takes, are kept."""
    fixed = {value.name for value in proto.graph.output} | all_captured_names(proto.graph)
    alias: dict[str, str] = {}
    kept = []
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            if name in alias:
                node.input[position] = alias[name]
        if is_standard(node, "Identity") and node.output[0] not in fixed:
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    set_nodes(proto.graph, kept)


def dead_nodes_are_gone(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Nodes and initialisers that lead to no output go; so do declared shapes, which a cut makes stale, but for those
    of what nobody can infer and nobody cuts."""
    needed = {value.name for value in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            for entry in node.attribute:
                needed.update(captured_names(entry))
            kept.append(node)
    set_nodes(proto.graph, kept[::-1])
    unread = [number for number, tensor in enumerate(proto.graph.initializer) if tensor.name not in needed]
    for number in reversed(unread):
        del proto.graph.initializer[number]
    lasting = {name for node in proto.graph.node if is_opaque(node) for name in node.output}
    declared = [value for value in proto.graph.value_info if value.name in lasting]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(declared)
