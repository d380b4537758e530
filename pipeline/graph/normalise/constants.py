"""What is known before the first input arrives becomes an initialiser."""

from collections import Counter

import onnx
from onnx import numpy_helper

from pipeline.graph.editing import all_captured_names, is_standard, set_nodes
from pipeline.graph.evaluate import evaluable, evaluate
from pipeline.graph.shapes import Shapes
from pipeline.graph.tensors import stored_bytes

# All folded constants together, beyond what the file holds: a chain of small nodes may make very many of them.
MAX_FOLDED_BYTES = 2**28


def constants_are_initialisers(proto: onnx.ModelProto, bound: Shapes) -> None:
    kept = []
    for node in proto.graph.node:
        tensor = _constant(proto, node) if is_standard(node, "Constant") else None
        if tensor is None:
            kept.append(node)
        else:
            proto.graph.initializer.append(tensor)
    set_nodes(proto.graph, kept)


def constants_are_folded(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Nodes that read nothing but constants become constants; the older exporter's shared zeros hide behind some."""
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    outputs = {value.name for value in proto.graph.output}
    readers: Counter[str] = Counter(name for node in proto.graph.node for name in node.input)
    readers.update(all_captured_names(proto.graph))
    kept: list[onnx.NodeProto] = []
    folded: dict[str, onnx.TensorProto] = {}
    budget_bytes = MAX_FOLDED_BYTES + 2 * sum(stored_bytes(tensor) for tensor in proto.graph.initializer)
    for node in proto.graph.node:
        tensors = None if budget_bytes < 0 or outputs.intersection(node.output) else _fold(proto, node, values)
        if tensors is None:
            kept.append(node)
            continue
        budget_bytes -= sum(len(tensor.raw_data) for tensor in tensors)
        folded.update((tensor.name, tensor) for tensor in tensors)
        values.update((tensor.name, tensor) for tensor in tensors)
        readers.subtract(node.input)
        for name in {name for name in node.input if name in folded and not readers[name]}:
            del folded[name], values[name]  # a step on the way to a large weight is as large as the weight
    set_nodes(proto.graph, kept)
    proto.graph.initializer.extend(folded.values())


def _fold(
    proto: onnx.ModelProto, node: onnx.NodeProto, values: dict[str, onnx.TensorProto]
) -> list[onnx.TensorProto] | None:
    if not node.input or not all(name in values for name in node.input if name) or not evaluable(node):
        return None
    inputs = {name: numpy_helper.to_array(values[name]) for name in node.input if name}
    results = evaluate(proto, node, inputs)
    if results is None:
        return None
    names = [name for name in node.output if name]
    return [numpy_helper.from_array(r, n) for r, n in zip(results, names, strict=True)]


def _constant(proto: onnx.ModelProto, node: onnx.NodeProto) -> onnx.TensorProto | None:
    if [entry.name for entry in node.attribute] == ["value"]:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        return tensor
    results = evaluate(proto, node, {})
    return None if results is None else numpy_helper.from_array(results[0], node.output[0])
