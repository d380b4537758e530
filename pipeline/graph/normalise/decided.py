"""An If whose condition is known is the branch that it takes.

Exporters write one around every Squeeze of an axis that might not have length one; once sizes are constants, most of
these conditions are too.
"""

from collections.abc import Mapping

import onnx
from onnx import helper, numpy_helper

from pipeline.graph.editing import Names, attribute, bodies, is_standard, set_nodes
from pipeline.graph.normalise.constants import constants_are_folded, constants_are_initialisers
from pipeline.graph.normalise.dead import identities_are_gone
from pipeline.graph.normalise.defaults import default_axes_are_written
from pipeline.graph.normalise.names import nodes_have_names
from pipeline.graph.normalise.sizes import sizes_are_constants
from pipeline.graph.shapes import Shapes

AGAIN = (
    nodes_have_names, constants_are_initialisers, default_axes_are_written, identities_are_gone, constants_are_folded,
    sizes_are_constants, constants_are_folded,
)  # fmt: skip


def decided_branches_are_inlined(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Until none is left: behind a branch that was taken more sizes are known, and they may decide another."""
    while _inline_all(proto):
        for step in AGAIN:
            step(proto, bound)


def _inline_all(proto: onnx.ModelProto) -> bool:
    """Nested ones too; whether there were any."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    if not any(_branch(node, constants) for node in proto.graph.node):
        return False
    names = Names(proto.graph)
    kept: list[onnx.NodeProto] = []
    waiting = list(proto.graph.node)[::-1]
    while waiting:
        node = waiting.pop()
        branch = _branch(node, constants)
        if branch is None:
            kept.append(node)
            continue
        inlined = _inline(proto.graph, node, branch, names)
        constants.update((tensor.name, tensor) for tensor in proto.graph.initializer)
        waiting.extend(inlined[::-1])
    set_nodes(proto.graph, kept)
    return True


def _branch(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> onnx.GraphProto | None:
    if not is_standard(node, "If") or node.input[0] not in constants:
        return None
    taken = bool(numpy_helper.to_array(constants[node.input[0]]).reshape(-1)[0])
    entry = attribute(node, "then_branch" if taken else "else_branch")
    return None if entry is None else entry.g


def _inline(
    graph: onnx.GraphProto, node: onnx.NodeProto, branch: onnx.GraphProto, names: Names
) -> list[onnx.NodeProto]:
    """The branch's nodes, under names that nobody else has; its initialisers join the graph's."""
    renamed: dict[str, str] = {}
    for tensor in branch.initializer:
        renamed[tensor.name] = names.fresh(f"{node.name}/{tensor.name}")
        own = graph.initializer.add()
        own.CopyFrom(tensor)
        own.name = renamed[tensor.name]
    nodes = []
    for inner in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        copy.name = f"{node.name}/{inner.name or inner.op_type}"
        renamed.update((name, names.fresh(f"{node.name}/{name}")) for name in inner.output if name)
        nodes.append(copy)
    for copy in nodes:
        _rename(copy, renamed)
    for shown, output in zip(branch.output, node.output, strict=True):
        if output:
            nodes.append(
                helper.make_node("Identity", [renamed.get(shown.name, shown.name)], [output], f"{output}:taken")
            )
    return nodes


def _rename(node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
    """In bodies too, but for what they define themselves."""
    for line in (node.input, node.output):
        for position, name in enumerate(line):
            line[position] = renamed.get(name, name)
    for body in bodies(node):
        own = {value.name for value in (*body.input, *body.initializer)}
        own.update(name for inner in body.node for name in inner.output)
        outside = {name: other for name, other in renamed.items() if name not in own}
        for inner in body.node:
            _rename(inner, outside)
        for value in body.output:
            value.name = outside.get(value.name, value.name)
