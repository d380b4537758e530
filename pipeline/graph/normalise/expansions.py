"""Broadcasting makes an Expand superfluous: what it spreads would spread by itself where it is read."""

from collections.abc import Sequence

import onnx

from pipeline.graph.editing import all_captured_names, is_standard, set_nodes
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


def _spreads_by_itself(reader: onnx.NodeProto, expanded: str, runs: Sequence[Shapes]) -> bool:
    if not is_standard(reader, *BROADCASTING) or len(reader.input) != 2 or reader.input[0] == reader.input[1]:
        return False
    (other,) = (name for name in reader.input if name != expanded)
    return all(other in shapes and shapes[other] == shapes.get(expanded) for shapes in runs)
