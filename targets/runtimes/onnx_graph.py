"""The little of an ONNX graph that joins need (host side): who makes a tensor, who reads it, and its shape."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from targets.feeds import bind
from targets.runtimes.onnx_inputs import dims, specs_of

LARGEST_SHAPE_CONSTANT = 1024  # elements; what shape arithmetic reads is small, weights are not needed for shapes


class Graph:
    """Lookups over the top level of a model's graph; the model is not changed. Node names are taken as unique."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = tuple(model.graph.node)
        self.constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}  # and their shapes
        self.by_name = {node.name: node for node in self.nodes if node.name}
        self.producer = {output: node for node in self.nodes for output in node.output if output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.inputs = frozenset(value.name for value in model.graph.input) - self.constants.keys()
        self.tensors = self.inputs | self.constants.keys() | self.producer.keys()
        self.varying = frozenset(self._made_from_inputs())

    def _made_from_inputs(self) -> set[str]:
        """The tensors that hang on an input; others are known before the first run."""
        known, found = set(self.inputs), set()
        for node in self.nodes:
            if not known.isdisjoint(node.input):
                made = {output for output in node.output if output}
                known |= made
                found |= made
        return found

    def between(self, inputs: set[str], outputs: set[str], stops: set[str]) -> tuple[onnx.NodeProto, ...] | None:
        """The nodes that turn `inputs` into `outputs`, in order. None when the way back from the outputs meets one of
        `stops`, or an input of the graph, that is not in `inputs`."""
        reached, wanted = set(), list(outputs)
        while wanted:
            name = wanted.pop()
            node = self.producer.get(name)
            if name in inputs or name in reached or name in self.constants:
                continue
            if (name in stops and name not in outputs) or node is None:
                return None
            reached.add(name)
            wanted += [name for name in node.input if name]
        fed = set(inputs)
        found = []
        for node in self.nodes:  # in topological order; what hangs on constants alone was folded before the run
            if not reached.isdisjoint(node.output) and not fed.isdisjoint(node.input):
                fed.update(node.output)
                found.append(node)
        return tuple(found)


def infer_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that ONNX can tell, free dimensions bound as a runtime binds them. Consumes `model`."""
    graph = model.graph
    values = {value.name: value for value in graph.input}
    for name, bound in bind(specs_of(graph), shapes).items():
        for dim, size in zip(values[name].type.tensor_type.shape.dim, bound, strict=True):
            dim.dim_value = size
    large = [tensor for tensor in graph.initializer if elements(tensor) > LARGEST_SHAPE_CONSTANT]
    for tensor in large:
        if tensor.name not in {value.name for value in graph.input}:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        graph.initializer.remove(tensor)
    del graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shape = dims(value)
        if value.type.tensor_type.HasField("shape") and all(isinstance(dim, int) for dim in shape):
            found[value.name] = tuple(dim for dim in shape if isinstance(dim, int))
    return found


def elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Numbers, strings and lists of them; tensors and bodies say nothing that a key could hold."""
    plain: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            plain[attribute.name] = value.decode(errors="replace")
        elif isinstance(value, int | float):
            plain[attribute.name] = finite(value)
        elif isinstance(value, Sequence) and all(isinstance(item, int | float) for item in value):
            plain[attribute.name] = [finite(item) for item in value]
    return plain


def finite(value: float) -> float | str:
    """JSON has no word for the others."""
    return value if math.isfinite(value) else str(value)
