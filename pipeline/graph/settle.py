"""What to do with the constants that vanished branches leave behind.

`fold_constants` is exact: an Add of a constant goes into the bias of the operator before it, where nobody else reads
that. `drop_constants` is not: it takes the rest of the Adds out, for networks that are trained afterwards.
"""

from collections import defaultdict

import numpy as np
import onnx
from onnx import numpy_helper

from pipeline.graph.channels import Kept
from pipeline.graph.couple import Channels
from pipeline.graph.cut import whole
from pipeline.graph.model import Model, infer_shapes
from pipeline.graph.normalise import dead_nodes_are_gone
from pipeline.graph.vanish import vanishing_branches

BIAS_INPUT = {"BatchNormalization": 2, "Conv": 2}


def left_adds(model: Model, channels: Channels, kept: Kept) -> tuple[str, ...]:
    """The Adds, by node name, that lost a branch under `kept`. `model` is the uncut one."""
    full = whole(channels, kept)
    branches = vanishing_branches(model, channels)
    gone = [group.id for group in channels.groups if group.vanishes and not full[group.id]]
    return tuple(join for group in gone for join in branches[group].joins)


def fold_constants(cut: Model, adds: tuple[str, ...]) -> Model:
    """Exact. Each Add of a constant whose other side is a Conv or BatchNormalization read by nobody else, directly or
    through other such Adds, becomes part of that operator's bias."""
    proto = _copy(cut.proto)
    graph = _Editable(proto)
    for name in adds:
        node = graph.nodes[name]
        source, constant = graph.sides(node)
        home = graph.bias_owner(source)
        if home is not None and constant is not None and node.output[0] not in graph.outputs:
            value = graph.value(constant)
            if graph.add_to_bias(home, value):
                graph.bypass(node, source)
    dead_nodes_are_gone(proto, cut.bound)
    return Model(proto, cut.bound, infer_shapes(proto, cut.bound))


def drop_constants(cut: Model, adds: tuple[str, ...]) -> Model:
    """Not exact. The Adds are taken out, and a Relu that then follows another with them."""
    proto = _copy(cut.proto)
    graph = _Editable(proto)
    for name in adds:
        if name in graph.nodes and graph.nodes[name].output[0] not in graph.outputs:
            node = graph.nodes[name]
            source, constant = graph.sides(node)
            if constant is not None:
                graph.bypass(node, source)
    for node in list(proto.graph.node):
        before = graph.maker.get(node.input[0]) if node.op_type == "Relu" else None
        if before is not None and before.op_type == "Relu" and node.output[0] not in graph.outputs:
            graph.bypass(node, node.input[0])
    dead_nodes_are_gone(proto, cut.bound)
    return Model(proto, cut.bound, infer_shapes(proto, cut.bound))


class _Editable:
    """A proto with its makers and readers at hand; edits keep them true."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.nodes = {node.name: node for node in proto.graph.node}
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.outputs = {value.name for value in proto.graph.output}
        self.maker: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in proto.graph.node:
            self.maker.update((name, node) for name in node.output if name)
            for name in node.input:
                self.readers[name].append(node)

    def sides(self, node: onnx.NodeProto) -> tuple[str, str | None]:
        """(activation, constant) of an Add; the constant is None where both sides are activations."""
        first, second = node.input
        if first in self.constants:
            return second, first
        return first, second if second in self.constants else None

    def value(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.constants[name])

    def bias_owner(self, tensor: str) -> onnx.NodeProto | None:
        """The operator whose bias shifts `tensor` and nothing else."""
        node = self.maker.get(tensor)
        if node is None or len(self.readers[tensor]) != 1 or tensor in self.outputs:
            return None
        if node.op_type in BIAS_INPUT:
            return node
        if node.op_type == "Add":
            return next((home for name in node.input if (home := self.bias_owner(name)) is not None), None)
        return None

    def add_to_bias(self, node: onnx.NodeProto, value: np.ndarray) -> bool:
        """Whether `value`, one number a channel along axis 1, could be added to the node's bias."""
        position = BIAS_INPUT[node.op_type]
        if value.size != max(value.shape[1:2], default=0):
            return False
        line = value.reshape(-1)
        if position < len(node.input) and node.input[position] in self.constants:
            tensor = self.constants[node.input[position]]
            summed = numpy_helper.to_array(tensor) + line
            tensor.CopyFrom(numpy_helper.from_array(summed.astype(line.dtype), tensor.name))
            return True
        if node.op_type == "Conv" and len(node.input) == 2:
            bias = numpy_helper.from_array(np.ascontiguousarray(line), f"{node.name}:bias")
            self.proto.graph.initializer.append(bias)
            self.constants[bias.name] = bias
            node.input.append(bias.name)
            return True
        return False

    def bypass(self, node: onnx.NodeProto, source: str) -> None:
        """Readers of the node's output read `source` from now on."""
        for reader in self.readers.pop(node.output[0], []):
            for position, name in enumerate(reader.input):
                if name == node.output[0]:
                    reader.input[position] = source
            self.readers[source].append(reader)
        self.readers[source] = [reader for reader in self.readers[source] if reader is not node]


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy
