"""Einsum written as what it is made of: a matrix product, transposes, sums.

Two operands, or one. Several letters at once take a Reshape, whose sizes must not hang on a free dimension: they come
from a constant operand. What needs more stays an Einsum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from pipeline.graph.editing import Names, add_initialiser, attribute, is_standard, opset, set_nodes
from pipeline.graph.shapes import Shapes

OPSET_OF_AXES_AS_INPUT = 13


def einsums_are_products(proto: onnx.ModelProto, bound: Shapes) -> None:
    if not any(is_standard(node, "Einsum") for node in proto.graph.node):
        return
    constants = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    names = Names(proto.graph)
    kept: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        written = _written(proto, names, node, constants) if is_standard(node, "Einsum") else None
        kept.extend([node] if written is None else written)
    set_nodes(proto.graph, kept)


@dataclass(frozen=True)
class _Operand:
    """A tensor and the letter of each of its axes."""

    name: str
    letters: str


def _written(
    proto: onnx.ModelProto, names: Names, node: onnx.NodeProto, constants: dict[str, tuple[int, ...]]
) -> list[onnx.NodeProto] | None:
    """The nodes in place of an Einsum, or None where it stays."""
    equation = attribute(node, "equation")
    sides = equation.s.decode().replace(" ", "").split("->") if equation is not None else []
    terms = sides[0].split(",") if sides else []
    if len(sides) != 2 or any(not term.isalpha() or len(set(term)) < len(term) for term in terms):
        return None
    target, operands = sides[1], [_Operand(name, term) for name, term in zip(node.input, terms, strict=False)]
    if len(operands) != len(node.input) or (target and not target.isalpha()):
        return None
    writer = _Writer(proto, names, node)
    if len(operands) == 1:
        made: _Operand | None = writer.summed(operands[0], target)
    elif len(operands) == 2:
        made = _product(writer, operands, target, constants)
    else:
        made = None
    if made is None:
        return None
    writer.transposed(made, target, last=True)
    return writer.nodes


def _product(
    writer: "_Writer", operands: Sequence[_Operand], target: str, constants: dict[str, tuple[int, ...]]
) -> _Operand | None:
    """Constants come second: what a weight makes lies last."""
    left, right = operands if operands[1].name in constants else operands[::-1]
    if right.name not in constants:
        left, right = operands
    elif left.name in constants:
        return None  # folded anyway
    sizes = dict(zip(right.letters, constants.get(right.name, ()), strict=False))
    shared = [letter for letter in left.letters if letter in right.letters]
    left = writer.summed(left, "".join(c for c in left.letters if c in shared or c in target))
    right = writer.summed(right, "".join(c for c in right.letters if c in shared or c in target))
    batch = "".join(letter for letter in shared if letter in target)
    inner = "".join(letter for letter in shared if letter not in target)
    rows = "".join(letter for letter in left.letters if letter not in shared)
    columns = "".join(letter for letter in right.letters if letter not in shared)
    if not inner:
        return writer.multiplied(left, right, batch + rows + columns)
    if len(rows) > 1 and batch:
        return None
    if (len(inner) > 1 or len(columns) > 1) and not set(inner + columns) <= set(sizes):
        return None
    a = writer.transposed(left, batch + rows + inner).name
    b = writer.transposed(right, batch + inner + columns).name
    copied = [0] * len(batch)
    if len(inner) > 1:
        a = writer.reshaped(a, [0] * len(batch + rows) + [-1])
    if len(inner) > 1 or len(columns) != 1:
        width = int(np.prod([sizes.get(letter, 1) for letter in columns]))
        b = (
            writer.reshaped(b, [*copied, -1, width])
            if columns or len(inner) > 1
            else writer.stretched(b, [len(batch) + 1])
        )
    if not rows:
        a = writer.stretched(a, [len(batch)])
    product = writer.add("MatMul", [a, b])
    gone = ([len(batch)] if not rows else []) + ([len(batch + rows) + (not rows)] if not columns else [])
    if gone:
        product = writer.squeezed(product, gone)
    if len(columns) > 1:
        product = writer.reshaped(product, [0] * len(batch + rows) + [sizes[letter] for letter in columns])
    return _Operand(product, batch + rows + columns)


class _Writer:
    """Collects the nodes that stand for one Einsum."""

    def __init__(self, proto: onnx.ModelProto, names: Names, node: onnx.NodeProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph, self._names, self._node = proto.graph, names, node
        self._axes_as_input = opset(proto) >= OPSET_OF_AXES_AS_INPUT

    def add(self, kind: str, inputs: Sequence[str], *, last: bool = False, **attributes: Any) -> str:
        made = self._node.output[0] if last else self._names.fresh(f"{self._node.name}:{len(self.nodes)}")
        name = f"{self._node.name}:{kind}:{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [made], name, None, None, None, **attributes))
        return made

    def transposed(self, operand: _Operand, order: str, *, last: bool = False) -> _Operand:
        """`last`: what comes out is the Einsum's own output, even where nothing moves."""
        if operand.letters == order:
            return _Operand(self.add("Identity", [operand.name], last=True), order) if last else operand
        perm = [operand.letters.index(letter) for letter in order]
        return _Operand(self.add("Transpose", [operand.name], last=last, perm=perm), order)

    def summed(self, operand: _Operand, kept: str) -> _Operand:
        """Without the letters that are not in `kept`."""
        axes = [axis for axis, letter in enumerate(operand.letters) if letter not in kept]
        if not axes:
            return operand
        name = self._along("ReduceSum", operand.name, axes, keepdims=0)
        return _Operand(name, "".join(letter for letter in operand.letters if letter in kept))

    def multiplied(self, left: _Operand, right: _Operand, order: str) -> _Operand:
        """Element by element, each broadcast along the letters that it lacks."""
        sides = []
        for side in (left, right):
            moved = self.transposed(side, "".join(letter for letter in order if letter in side.letters))
            missing = [axis for axis, letter in enumerate(order) if letter not in side.letters]
            sides.append(self.stretched(moved.name, missing) if missing else moved.name)
        return _Operand(self.add("Mul", sides), order)

    def stretched(self, name: str, axes: Sequence[int]) -> str:
        return self._along("Unsqueeze", name, axes)

    def squeezed(self, name: str, axes: Sequence[int]) -> str:
        return self._along("Squeeze", name, axes)

    def reshaped(self, name: str, target: Sequence[int]) -> str:
        return self.add("Reshape", [name, self._constant("sizes", target)])

    def _along(self, kind: str, name: str, axes: Sequence[int], **attributes: Any) -> str:
        if self._axes_as_input:
            return self.add(kind, [name, self._constant("axes", axes)], **attributes)
        return self.add(kind, [name], axes=list(axes), **attributes)

    def _constant(self, what: str, values: Sequence[int]) -> str:
        name = f"{self._node.name}:{what}:{len(self.nodes)}"
        return add_initialiser(self._graph, self._names, name, np.asarray(values, np.int64))
