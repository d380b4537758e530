"""Small edits that several passes need: names nobody uses yet, new initialisers, new node lists."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from targets.errors import BadInput

STANDARD_DOMAINS = ("", "ai.onnx")
IN_PLACE_BYTES = 2**20


class Names:
    """The tensor names of one graph; `fresh` gives one that nobody has, and takes it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        for node in graph.node:
            self._taken.update(node.input)
            self._taken.update(node.output)

    def fresh(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._taken:
            count += 1
            candidate = f"{name}~{count}"
        self._taken.add(candidate)
        return candidate


def add_initialiser(graph: onnx.GraphProto, names: Names, name: str, value: NDArray[np.generic]) -> str:
    """The name under which `value` is an initialiser now: `name`, or one like it."""
    fresh = names.fresh(name)
    write_initialiser(graph, fresh, value)
    return fresh


def write_initialiser(graph: onnx.GraphProto, name: str, value: NDArray[np.generic]) -> None:
    """Append `value` under `name`. A large one is written where it stays: a tensor made first would be a copy more."""
    if value.nbytes <= IN_PLACE_BYTES or value.dtype.isbuiltin != 1 or value.dtype.kind not in "fiu":
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return
    data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor = graph.initializer.add(name=name, data_type=data_type, dims=value.shape)
    raw = value.tobytes()
    del value  # where nobody else holds it, that makes room for the copy that stays
    tensor.raw_data = raw


def set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Make `nodes`, which may lie in the graph already, its whole node list."""
    if len(nodes) == len(graph.node) and all(a is b for a, b in zip(nodes, graph.node, strict=True)):
        return
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def is_standard(node: onnx.NodeProto, *operators: str) -> bool:
    """Whether the node is one of `operators` of the standard set; any of it where none are named."""
    return node.domain in STANDARD_DOMAINS and (not operators or node.op_type in operators)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    return next((entry for entry in node.attribute if entry.name == name), None)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node (If, Loop, Scan)."""
    for entry in node.attribute:
        if entry.HasField("g"):
            yield entry.g
        yield from entry.graphs


def captured_names(entry: onnx.AttributeProto) -> set[str]:
    """Names that a body graph (If, Loop, Scan) may take from outside; its own names are among them."""
    names: set[str] = set()
    for graph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
        names |= _names_read(graph)
    return names


def all_captured_names(graph: onnx.GraphProto) -> set[str]:
    """Every name that any body in the graph may take from outside."""
    return {name for node in graph.node for entry in node.attribute for name in captured_names(entry)}


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def opset(proto: onnx.ModelProto) -> int:
    """The version of the standard operator set the model speaks."""
    for entry in proto.opset_import:
        if entry.domain in STANDARD_DOMAINS:
            return int(entry.version)
    raise BadInput("The model imports no standard ONNX operator set. Export it again.")


def _names_read(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in graph.output}
    for node in graph.node:
        names.update(node.input)
        for body in bodies(node):
            names |= _names_read(body)
    return names
