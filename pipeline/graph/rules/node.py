"""A node as the rules see it: attributes by name, constants and shapes at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipeline.graph.labels import Labelling, Labels


@dataclass(frozen=True, eq=False)
class Node:
    proto: onnx.NodeProto
    opset: int
    constants: Mapping[str, onnx.TensorProto]
    shapes: Mapping[str, tuple[int, ...]]
    captured: tuple[str, ...] = ()

    @property
    def op(self) -> str:
        return self.proto.op_type

    @property
    def name(self) -> str:
        return self.proto.name

    @property
    def domain(self) -> str:
        return self.proto.domain

    @property
    def is_standard(self) -> bool:
        return self.proto.domain in ("", "ai.onnx")

    @property
    def inputs(self) -> list[str]:
        return list(self.proto.input)

    @property
    def outputs(self) -> list[str]:
        return list(self.proto.output)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return {attribute.name: helper.get_attribute_value(attribute) for attribute in self.proto.attribute}

    def has(self, number: int) -> bool:
        """Whether optional input `number` is given."""
        return number < len(self.proto.input) and self.proto.input[number] != ""

    def is_constant(self, number: int) -> bool:
        return self.has(number) and self.proto.input[number] in self.constants

    def constant(self, number: int) -> NDArray[np.generic] | None:
        """The value of input `number` where it is an initialiser."""
        return numpy_helper.to_array(self.constants[self.proto.input[number]]) if self.is_constant(number) else None

    def integers(self, number: int, attribute: str) -> list[int] | None:
        """A list of integers that older operator sets give as an attribute, newer ones as an input."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            return [int(entry) for entry in value] if isinstance(value, (list, tuple)) else [int(value)]
        value = self.constant(number)
        return None if value is None else [int(entry) for entry in value.reshape(-1)]

    def input_shape(self, number: int) -> tuple[int, ...] | None:
        return self.shapes.get(self.proto.input[number]) if self.has(number) else None

    def output_shape(self, number: int = 0) -> tuple[int, ...] | None:
        return self.shapes.get(self.proto.output[number])

    def labels(self, run: Labelling, number: int = 0) -> Labels | None:
        return run.tensors.get(self.proto.input[number]) if self.has(number) else None


def like(labels: Labels, shape: tuple[int, ...] | None) -> Labels | None:
    """The same labels on a tensor whose unlabelled axes have other lengths."""
    if shape is None or len(shape) != labels.ndim:
        return None
    small = labels[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in labels.strides)]
    if any(size not in (1, whole) for size, whole in zip(small.shape, shape, strict=True)):
        return None
    return np.broadcast_to(small, shape)
