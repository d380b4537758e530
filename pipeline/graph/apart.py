"""A graph without the operators that the runtime does not know.

What they make becomes an input, what they read an output: two graphs that agree there agree as a whole, whatever those
operators do.
"""

import onnx

from pipeline.graph.editing import captured_names, copied, set_nodes
from pipeline.graph.shapes import Shapes

RUNTIME_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft", "com.microsoft.nchwc"}


def without_foreign(proto: onnx.ModelProto, bound: Shapes) -> tuple[onnx.ModelProto, Shapes]:
    """The graph and the shapes of its inputs; the same objects where the runtime knows all of it.

    A foreign result whose shape nobody declares takes with it all that is computed from it.
    """
    if all(node.domain in RUNTIME_DOMAINS for node in proto.graph.node):
        return proto, bound
    declared = {value.name: value for value in proto.graph.value_info}
    given = {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
    apart, shapes = copied(proto), dict(bound)
    kept: list[onnx.NodeProto] = []
    lost: set[str] = set()
    seen: list[str] = []
    for node in apart.graph.node:
        foreign = node.domain not in RUNTIME_DOMAINS
        read = {*node.input, *(name for entry in node.attribute for name in captured_names(entry))} - {""}
        if not foreign and not read & lost:
            kept.append(node)
            continue
        seen += [name for name in node.input if name and name not in given | lost and name not in seen]
        for name in node.output:
            if foreign and name in declared:
                apart.graph.input.append(declared[name])
                given.add(name)
                shapes[name] = tuple(dim.dim_value for dim in declared[name].type.tensor_type.shape.dim)
            elif name:
                lost.add(name)
    set_nodes(apart.graph, kept)
    shown = [value for value in apart.graph.output if value.name not in given | lost]
    listed = {value.name for value in shown}
    shown += [onnx.ValueInfoProto(name=name) for name in seen if name not in listed]
    del apart.graph.output[:], apart.graph.value_info[:]
    apart.graph.output.extend(shown)
    return apart, shapes
