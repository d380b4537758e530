"""Every node has a name of its own: plans, kernels and reports speak of nodes by name."""

import onnx

from pipeline.graph.shapes import Shapes


def nodes_have_names(proto: onnx.ModelProto, bound: Shapes) -> None:
    """A name that is the node's own already stays, whoever comes before with the same one."""
    taken = {node.name for node in proto.graph.node}
    seen: set[str] = set()
    for node in proto.graph.node:
        name = node.name or f"{node.op_type}_{node.output[0] if node.output else ''}"
        candidate, count = name, 1
        while candidate in seen or (candidate in taken and candidate != node.name):
            count += 1
            candidate = f"{name}#{count}"
        seen.add(candidate)
        node.name = candidate
