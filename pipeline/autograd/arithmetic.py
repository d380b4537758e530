"""Shape arithmetic: the ops that graphs apply to sizes, evaluated on the host.

The same ops on activations are in `ops`; which of the two a node gets is decided once, when the module is made.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.autograd.dtypes import torch_dtype
from pipeline.autograd.node import Node, Operation
from pipeline.autograd.readings import axes_of, cast_target, slice_bounds, split_lengths, target_shape
from pipeline.autograd.sizes import Index, Sizes, broadcast_shape, indices_of, product_of

Build = Callable[[Node], Operation]


def _elementwise(function: Callable[..., Any], dtype: torch.dtype | None = None) -> Build:
    """From a function of numbers to an operation with broadcasting; `dtype` None means that of the inputs, promoted."""

    def apply(*operands: Sizes) -> Sizes:
        result = operands[0].dtype
        for operand in operands[1:]:
            result = torch.promote_types(result, operand.dtype)
        shape = broadcast_shape([operand.shape for operand in operands])
        return Sizes.of_function(
            shape, lambda index: function(*[operand.at(index) for operand in operands]), dtype or result
        )

    return lambda node: apply


def divide(a: Any, b: Any) -> Any:
    """Integers towards zero, as ONNX divides them; floats as always."""
    if isinstance(a, (float, torch.SymFloat)) or isinstance(b, (float, torch.SymFloat)):
        return a / b
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


def _where(node: Node) -> Operation:
    def apply(condition: Sizes, a: Sizes, b: Sizes) -> Sizes:
        shape = broadcast_shape([condition.shape, a.shape, b.shape])
        return Sizes.of_function(shape, lambda index: a.at(index) if condition.at(index) else b.at(index), a.dtype)

    return apply


def _cast(node: Node) -> Operation:
    dtype = cast_target(node)
    convert: Callable[[Any], Any] = torch.sym_float if dtype.is_floating_point else torch.sym_int
    if dtype == torch.bool:
        convert = bool
    return lambda data: Sizes(data.shape, tuple(convert(entry) for entry in data.entries), dtype)


def _concat(node: Node) -> Operation:
    axis = node.attributes.get("axis", 1)

    def apply(*parts: Sizes) -> Sizes:
        along = axis % len(parts[0].shape)
        origins = [(part, position) for part in parts for position in range(part.shape[along])]
        shape = (*parts[0].shape[:along], len(origins), *parts[0].shape[along + 1 :])

        def entry(index: Index) -> Any:
            part, position = origins[index[along]]
            return part.at((*index[:along], position, *index[along + 1 :]))

        return Sizes.of_function(shape, entry, parts[0].dtype)

    return apply


def _gather(node: Node) -> Operation:
    axis = node.attributes.get("axis", 0)

    def apply(data: Sizes, indices: Sizes) -> Sizes:
        along, inner = axis % len(data.shape), len(indices.shape)
        shape = (*data.shape[:along], *indices.shape, *data.shape[along + 1 :])

        def entry(index: Index) -> Any:
            position = indices.at(index[along : along + inner]) % data.shape[along]
            return data.at((*index[:along], position, *index[along + inner :]))

        return Sizes.of_function(shape, entry, data.dtype)

    return apply


def _take(data: Sizes, chosen: Sequence[Sequence[int]]) -> Sizes:
    """The entries at the chosen positions of every axis."""
    shape = tuple(len(positions) for positions in chosen)

    def entry(index: Index) -> Any:
        return data.at(tuple(positions[i] for positions, i in zip(chosen, index, strict=True)))

    return Sizes.of_function(shape, entry, data.dtype)


def _slice(node: Node) -> Operation:
    def apply(data: Sizes, *bounds: Sizes | None) -> Sizes:
        chosen: list[Sequence[int]] = [range(size) for size in data.shape]
        for axis, start, end, step in slice_bounds(node, bounds):
            chosen[axis] = chosen[axis][slice(start, None if step < 0 and end < -data.shape[axis] else end, step)]
        return _take(data, chosen)

    return apply


def _split(node: Node) -> Operation:
    axis, outputs, attribute = node.attributes.get("axis", 0), len(node.outputs), node.attributes.get("split")

    def apply(data: Sizes, split: Sizes | None = None) -> tuple[Sizes, ...]:
        along, pieces, start = axis % len(data.shape), [], 0
        lengths = attribute if split is None else split.ints
        for length in lengths or split_lengths(data.shape[along], outputs):
            chosen: list[Sequence[int]] = [range(size) for size in data.shape]
            chosen[along] = range(start, start + length)
            pieces.append(_take(data, chosen))
            start += length
        return tuple(pieces)

    return apply


def _reshape(node: Node) -> Operation:
    attribute, allow_zero = node.attributes.get("shape"), bool(node.attributes.get("allowzero", 0))

    def apply(data: Sizes, shape: Sizes | None = None) -> Sizes:
        target = target_shape(data.shape, attribute if shape is None else shape.ints, allow_zero=allow_zero)
        known = product_of(size for size in target if size != -1)
        full = tuple(len(data.entries) // known if size == -1 else size for size in target)
        return Sizes(full, data.entries, data.dtype)

    return apply


def _flatten(node: Node) -> Operation:
    axis = node.attributes.get("axis", 1)

    def apply(data: Sizes) -> Sizes:
        shape = (product_of(data.shape[:axis]), product_of(data.shape[axis:]))
        return Sizes(shape, data.entries, data.dtype)

    return apply


def _squeeze(node: Node) -> Operation:
    def apply(data: Sizes, axes: Sizes | None = None) -> Sizes:
        chosen = axes_of(node, axes, 13)
        gone = {axis % len(data.shape) for axis in chosen} if chosen is not None else set(range(len(data.shape)))
        shape = tuple(size for axis, size in enumerate(data.shape) if size != 1 or axis not in gone)
        return Sizes(shape, data.entries, data.dtype)

    return apply


def _unsqueeze(node: Node) -> Operation:
    def apply(data: Sizes, axes: Sizes | None = None) -> Sizes:
        chosen = axes_of(node, axes, 13) or ()
        shape = list(data.shape)
        for axis in sorted(axis % (len(shape) + len(chosen)) for axis in chosen):
            shape.insert(axis, 1)
        return Sizes(tuple(shape), data.entries, data.dtype)

    return apply


def _transpose(node: Node) -> Operation:
    given = node.attributes.get("perm")

    def apply(data: Sizes) -> Sizes:
        order = given or list(reversed(range(len(data.shape))))

        def entry(index: Index) -> Any:
            return data.at(tuple(index[order.index(axis)] for axis in range(len(order))))

        return Sizes.of_function(tuple(data.shape[axis] for axis in order), entry, data.dtype)

    return apply


def _expand(node: Node) -> Operation:
    def apply(data: Sizes, shape: Sizes) -> Sizes:
        return Sizes.of_function(broadcast_shape([data.shape, shape.ints]), data.at, data.dtype)

    return apply


def _tile(node: Node) -> Operation:
    def apply(data: Sizes, repeats: Sizes) -> Sizes:
        return _take(data, [list(range(s)) * count for s, count in zip(data.shape, repeats.ints, strict=True)])

    return apply


def _constant_of_shape(node: Node) -> Operation:
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    dtype, number = torch_dtype(value.dtype), value.item()
    return lambda shape: Sizes(shape.ints, (number,) * product_of(shape.ints), dtype)


def _range(node: Node) -> Operation:
    def apply(start: Sizes, limit: Sizes, delta: Sizes) -> Sizes:
        first, last, step = (entry.entries[0] for entry in (start, limit, delta))
        count = max(math.ceil((last - first) / step), 0) if isinstance(step, float) else len(range(first, last, step))
        return Sizes((count,), tuple(first + position * step for position in range(count)), start.dtype)

    return apply


def _reduction(function: Callable[[Sequence[Any]], Any], inputs_from: int) -> Build:
    def build(node: Node) -> Operation:
        keep = bool(node.attributes.get("keepdims", 1))

        def apply(data: Sizes, axes: Sizes | None = None) -> Sizes:
            given = axes_of(node, axes, inputs_from)
            if not given and node.attributes.get("noop_with_empty_axes", 0):
                return data
            rank = len(data.shape)
            gone = {axis % rank for axis in given} if given else set(range(rank))
            inner = [range(size) if axis in gone else range(1) for axis, size in enumerate(data.shape)]
            outer = tuple(1 if axis in gone else size for axis, size in enumerate(data.shape))
            offsets = indices_of([len(positions) for positions in inner])

            def entry(index: Index) -> Any:
                moved = [tuple(i + j for i, j in zip(index, offset, strict=True)) for offset in offsets]
                return function([data.at(position) for position in moved])

            reduced = Sizes.of_function(outer, entry, data.dtype)
            kept = outer if keep else tuple(size for axis, size in enumerate(outer) if axis not in gone)
            return Sizes(kept, reduced.entries, data.dtype)

        return apply

    return build


ARITHMETIC: dict[str, Build] = {
    "Abs": _elementwise(abs),
    "Add": _elementwise(operator.add),
    "And": _elementwise(lambda a, b: bool(a and b), torch.bool),
    "Cast": _cast,
    "Ceil": _elementwise(math.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(divide),
    "Equal": _elementwise(lambda a, b: bool(a == b), torch.bool),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _elementwise(math.floor),
    "Gather": _gather,
    "Greater": _elementwise(lambda a, b: bool(a > b), torch.bool),
    "GreaterOrEqual": _elementwise(lambda a, b: bool(a >= b), torch.bool),
    "Identity": _elementwise(lambda a: a),
    "Less": _elementwise(lambda a, b: bool(a < b), torch.bool),
    "LessOrEqual": _elementwise(lambda a, b: bool(a <= b), torch.bool),
    "Max": _elementwise(max),
    "Min": _elementwise(min),
    "Mul": _elementwise(operator.mul),
    "Neg": _elementwise(operator.neg),
    "Not": _elementwise(lambda a: not a, torch.bool),
    "Or": _elementwise(lambda a, b: bool(a or b), torch.bool),
    "Range": _range,
    "ReduceMax": _reduction(max, 18),
    "ReduceMin": _reduction(min, 18),
    "ReduceProd": _reduction(product_of, 18),
    "ReduceSum": _reduction(sum, 13),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _elementwise(operator.sub),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
