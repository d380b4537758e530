"""The edits of a cut: initialisers lose indices, and what counts or names channels is written again."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipeline.graph.editing import attribute, write_initialiser
from pipeline.graph.labels import IndexEdit, SizeEdit

Plan = Mapping[str, Mapping[int, list[int]]]  # initialiser -> axis -> kept indices
Value = NDArray[Any]

OPSET_WITH_SPLIT_INPUT = 13
# Where the output channels lie in a weight.
OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1}


class Editor:
    """A graph whose nodes are edited in place, and whose initialisers are written once, at the end.

    `source` holds the initialisers as they were, `taken` the indices that stay of those that get smaller.
    """

    def __init__(self, proto: onnx.ModelProto, source: Mapping[str, onnx.TensorProto], taken: Plan) -> None:
        self._graph = proto.graph
        self._nodes = {node.name: node for node in proto.graph.node}
        self._source, self._taken = source, taken
        self._written: dict[str, Value] = {}

    def count_again(self, edit: SizeEdit, count: int, version: int) -> None:
        """The constant or attribute that the edit names says `count` from now on."""
        node, (kind, key) = self._nodes[edit.node], edit.where
        if kind == "attribute":
            if edit.position is None:
                _set_attribute(node, str(key), count)
            else:
                entries = list(_attribute_value(node, str(key)))
                entries[edit.position] = count
                _set_attribute(node, str(key), entries)
        elif len(node.input) > int(key) and self._is_constant(node.input[int(key)]):
            values = np.array(self._value(node.input[int(key)]))
            values.reshape(-1)[edit.position] = count
            self._written[node.input[int(key)]] = values
        else:
            self._write_split(node, edit.position, count, version)

    def renumber(self, edit: IndexEdit, stays: NDArray[np.bool_]) -> None:
        """Indices of channels that go are taken out, the others named anew."""
        name = self._nodes[edit.node].input[edit.input]
        kept = stays[edit.source]
        position = np.cumsum(kept) - 1
        indices = self._value(name)
        wrapped = np.where(indices < 0, indices + len(kept), indices)
        self._written[name] = position[wrapped[kept[wrapped]]].astype(indices.dtype)

    def leave_constants(self, ends: set[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Readers of nothing give their bias, the same at every position: whoever read them reads that."""
        if not ends:
            return
        readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self._graph.node:
            for name in node.input:
                readers[name].append(node)
        for end in sorted(ends):
            output = self._nodes[end].output[0]
            constant = f"{output}:constant"
            self._written[constant] = self._bias(self._nodes[end], len(shapes[output]))
            for reader in readers[output]:
                for position, name in enumerate(reader.input):
                    if name == output:
                        reader.input[position] = constant

    def write_initialisers(self) -> None:
        """All that are still to be had, in their order; new ones last."""
        for name, tensor in self._source.items():
            if name in self._written or name in self._taken:
                write_initialiser(self._graph, name, self._value(name))
            else:
                self._graph.initializer.append(tensor)
        for name, value in self._written.items():
            if name not in self._source:
                write_initialiser(self._graph, name, value)

    def _is_constant(self, name: str) -> bool:
        return name in self._written or name in self._source

    def _value(self, name: str) -> Value:
        if name in self._written:
            return self._written[name]
        value: Value = numpy_helper.to_array(self._source[name])
        taken = self._taken.get(name, {})
        if not taken:
            return value
        axes = (taken.get(axis, range(size)) for axis, size in enumerate(value.shape[: max(taken) + 1]))
        return value[np.ix_(*axes)]  # all axes at once: each by itself would make a copy of its own

    def _write_split(self, node: onnx.NodeProto, position: int | None, count: int, version: int) -> None:
        """A Split into equal parts has no sizes to change: write them down."""
        assert position is not None
        if version >= OPSET_WITH_SPLIT_INPUT:
            _drop_attribute(node, "num_outputs")
            name = f"{node.name}:split"
            sizes = np.zeros(len(node.output), np.int64)
            sizes[position] = count
            self._written[name] = sizes
            del node.input[1:]
            node.input.append(name)
        else:
            entry = attribute(node, "split")
            parts = list(entry.ints) if entry else [0] * len(node.output)
            parts[position] = count
            _set_attribute(node, "split", parts)

    def _bias(self, node: onnx.NodeProto, rank: int) -> Value:
        """What a Conv, Gemm or MatMul makes of zeros, shaped to broadcast."""
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        channel_axis = rank - 1 if node.op_type == "MatMul" else 1
        out_axis = OUTPUT_AXIS.get(node.op_type, 0 if attributes.get("transB") else 1)
        weight = self._value(node.input[1])
        size = weight.shape[out_axis] * (attributes.get("group", 1) if node.op_type == "ConvTranspose" else 1)
        has_bias = node.op_type != "MatMul" and len(node.input) > 2 and self._is_constant(node.input[2])
        scale = float(attributes.get("beta", 1.0)) if node.op_type == "Gemm" else 1.0
        bias = np.asarray(self._value(node.input[2])).reshape(-1) * scale if has_bias else np.zeros(1)
        shape = [size if axis == channel_axis else 1 for axis in range(rank)]
        return np.asarray(np.broadcast_to(bias, size).reshape(shape).astype(weight.dtype))


def _attribute_value(node: onnx.NodeProto, name: str) -> Any:
    entry = attribute(node, name)
    assert entry is not None  # a rule says that a node counts channels in an attribute only where it has it
    return helper.get_attribute_value(entry)


def _set_attribute(node: onnx.NodeProto, name: str, value: int | Sequence[int]) -> None:
    _drop_attribute(node, name)
    node.attribute.append(helper.make_attribute(name, value))


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    if len(kept) < len(node.attribute):
        old = onnx.NodeProto(attribute=kept)
        del node.attribute[:]
        node.attribute.extend(old.attribute)
