"""A node as the rules see it: attributes by name, constants and shapes at hand; and how a rule refuses or counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipeline.graph.labels import Labelling, Labels, SizeEdit, compact

Outputs = tuple[Labels | None, ...]


@dataclass(frozen=True, eq=False)
class Node:
    proto: onnx.NodeProto
    opset: int
    constants: Mapping[str, onnx.TensorProto]
    shapes: Mapping[str, tuple[int, ...]]
    captured: tuple[str, ...] = ()
    sizes: Callable[[], Mapping[str, NDArray[np.generic]]] = dict  # what computed sizes come to at the bound shapes

    @property
    def op(self) -> str:
        return self.proto.op_type

    @property
    def name(self) -> str:
        return self.proto.name

    @property
    def domain(self) -> str:
        return "" if self.proto.domain == "ai.onnx" else self.proto.domain

    @cached_property
    def inputs(self) -> list[str]:
        return list(self.proto.input)

    @cached_property
    def outputs(self) -> list[str]:
        return list(self.proto.output)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return {attribute.name: helper.get_attribute_value(attribute) for attribute in self.proto.attribute}

    def has(self, number: int) -> bool:
        """Whether optional input `number` is given."""
        return number < len(self.inputs) and self.inputs[number] != ""

    def is_constant(self, number: int) -> bool:
        return self.has(number) and self.inputs[number] in self.constants

    def is_float(self, number: int) -> bool:
        """Whether initialiser `number` holds floating-point values."""
        dtype = helper.tensor_dtype_to_np_dtype(self.constants[self.inputs[number]].data_type)
        return bool(np.issubdtype(dtype, np.floating))

    def constant(self, number: int) -> NDArray[np.generic] | None:
        """The value of input `number` where it is an initialiser."""
        return numpy_helper.to_array(self.constants[self.inputs[number]]) if self.is_constant(number) else None

    def integers(self, number: int, attribute: str) -> list[int] | None:
        """A list of integers that older operator sets give as an attribute, newer ones as an input."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            return [int(entry) for entry in value] if isinstance(value, (list, tuple)) else [int(value)]
        value = self.constant(number)
        return None if value is None else [int(entry) for entry in value.reshape(-1)]

    def computed_integers(self, number: int) -> list[int] | None:
        """What input `number`, computed in the graph, comes to at the bound shapes, where it follows from shapes."""
        value = self.sizes().get(self.inputs[number]) if self.has(number) else None
        return None if value is None else [int(entry) for entry in value.reshape(-1)]

    def input_shape(self, number: int) -> tuple[int, ...] | None:
        return self.shapes.get(self.inputs[number]) if self.has(number) else None

    def output_shape(self, number: int = 0) -> tuple[int, ...] | None:
        return self.shapes.get(self.outputs[number])

    def labels(self, run: Labelling, number: int = 0) -> Labels | None:
        return run.tensors.get(self.inputs[number]) if self.has(number) else None


def refuse(node: Node, run: Labelling, why: str) -> Outputs:
    """Lock every labelled input, pin every output, and say why: `why` follows "Op (name)" in the reason."""
    reason = f"{node.domain + '.' if node.domain else ''}{node.op} ({node.name}) {why}"
    run.refused.append(reason)
    for name in (*node.inputs, *node.captured):
        run.lock(run.tensors.get(name), reason)
    for name in node.outputs:
        run.pinned[name] = reason
    return (None,) * len(node.outputs)


def lock_others(node: Node, run: Labelling, first: int = 1) -> None:
    """Inputs from `first` on say what is done to all channels: those that they carry themselves stay."""
    for number in range(first, len(node.inputs)):
        run.lock(node.labels(run, number), f"{node.op} ({node.name}) needs {node.inputs[number]!r} whole")


def count(node: Node, run: Labelling, number: int, attribute: str, position: int, labels: Labels) -> None:
    """Entry `position` of an input or attribute counts the channels in `labels` (index x elements sharing it)."""
    where: Any = ("attribute", attribute) if attribute in node.attributes else ("input", number)
    run.sizes.append(SizeEdit(node.name, where, position, labels))


def like(labels: Labels, shape: tuple[int, ...] | None) -> Labels | None:
    """The same labels on a tensor whose unlabelled axes have other lengths."""
    if shape is None or len(shape) != labels.ndim:
        return None
    small = compact(labels)
    if any(size not in (1, whole) for size, whole in zip(small.shape, shape, strict=True)):
        return None
    return np.broadcast_to(small, shape)
