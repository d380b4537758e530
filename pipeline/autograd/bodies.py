"""Graphs inside nodes: the branches of If, the bodies of Loop and Scan, in one flat world of names.

Two branches may use the same names for different things. Here each inner name gets the place of its graph in front, so
that values, weights and constants of all graphs live side by side in one table.
"""

from collections.abc import Iterator, Mapping

import onnx
from onnx import inliner


def bodies_of(node: onnx.NodeProto) -> dict[str, onnx.GraphProto]:
    """The node's inner graphs, by attribute."""
    return {entry.name: entry.g for entry in node.attribute if entry.type == onnx.AttributeProto.GRAPH}


def without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model with its own functions inlined."""
    if model.functions:
        return inliner.inline_local_functions(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def flat(graph: onnx.GraphProto) -> onnx.GraphProto:
    """The graph with unique names in its inner graphs; itself where it has none."""
    if not any(bodies_of(node) for node in graph.node):
        return graph
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    _rename(copy, "", {})
    return copy


def stored(graph: onnx.GraphProto, place: str = "") -> Iterator[tuple[str, onnx.TensorProto | onnx.NodeProto]]:
    """Initialisers and Constant nodes of the graph and its inner graphs, under the names that `flat` gives them."""
    for tensor in graph.initializer:
        yield place + tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            yield place + node.output[0], node
        for name, body in bodies_of(node).items():
            yield from stored(body, _inside(place, node, name))


def _inside(place: str, node: onnx.NodeProto, attribute: str) -> str:
    """Names of the graph's nodes may repeat, those of outputs may not."""
    return f"{place}{next(filter(None, node.output), '')}/{attribute}/"


def _rename(graph: onnx.GraphProto, place: str, outer: Mapping[str, str]) -> None:
    scope = dict(outer)
    for entry in (*graph.input, *graph.initializer, *graph.sparse_initializer):
        if isinstance(entry, onnx.SparseTensorProto):
            continue
        scope[entry.name] = entry.name = place + entry.name
    for node in graph.node:
        for name, body in bodies_of(node).items():
            _rename(body, _inside(place, node, name), scope)
        node.input[:] = [scope.get(name, name) for name in node.input]
        for index, name in enumerate(node.output):
            if name:
                scope[name] = node.output[index] = place + name
    for output in graph.output:
        output.name = scope.get(output.name, output.name)
