"""Shape arithmetic: the ops that graphs apply to sizes, evaluated on the host.

The same ops on activations are in `ops`; which of the two a node gets is decided once, when the module is made.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.autograd.dtypes import TORCH_TYPES, torch_dtype
from pipeline.autograd.node import Node, Operation
from pipeline.autograd.sizes import Sizes, cast, divide

Array = NDArray[Any]


def _movement(function: Callable[[Node, Array, list[Sizes | None]], Array]) -> Callable[[Node], Operation]:
    """From (node, array, further inputs) to an operation that keeps the element type."""

    def build(node: Node) -> Operation:
        return lambda data, *rest: Sizes(np.asarray(function(node, data.array, list(rest))), data.dtype)

    return build


def _elementwise(function: Callable[..., Any], dtype: torch.dtype | None = None) -> Callable[[Node], Operation]:
    """From a numpy function of arrays to an operation; `dtype` None means that of the inputs, promoted."""

    def apply(*operands: Sizes) -> Sizes:
        result = operands[0].dtype
        for operand in operands[1:]:
            result = torch.promote_types(result, operand.dtype)
        array = np.asarray(function(*(operand.array for operand in operands)))
        if dtype == torch.bool:
            return Sizes(array.astype(bool), torch.bool)
        return Sizes(array if array.dtype == object else cast(array, result), result)

    return lambda node: apply


def axes_of(node: Node, index: int, given: Sequence[Sizes | None], inputs_from: int) -> tuple[int, ...] | None:
    """Axes from input `index` (given[index - 1]) since opset `inputs_from`, from the attribute before; None: not given."""
    if node.opset < inputs_from:
        attribute = node.attributes.get("axes")
        return None if attribute is None else tuple(attribute)
    axes = given[index - 1] if len(given) >= index else None
    return None if axes is None else axes.ints


def _squeeze(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
    return np.squeeze(data, axis=axes_of(node, 1, rest, 13))


def _unsqueeze(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
    return np.expand_dims(data, axes_of(node, 1, rest, 13) or ())


def _slice(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
    starts, ends, axes, steps = slice_bounds(node, rest)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(index)]


def slice_bounds(node: Node, rest: Sequence[Sizes | None]) -> tuple[tuple[int, ...], ...]:
    """Slice's starts, ends, axes and steps, from attributes (before opset 10) or inputs."""
    given: list[tuple[int, ...] | None]
    if node.opset < 10:
        given = [node.attributes.get("starts"), node.attributes.get("ends"), node.attributes.get("axes"), None]
    else:
        given = [None if entry is None else entry.ints for entry in (*rest, *[None] * (4 - len(rest)))]
    starts, ends = tuple(given[0] or ()), tuple(given[1] or ())
    axes = tuple(range(len(starts))) if given[2] is None else tuple(given[2])
    return starts, ends, axes, (1,) * len(starts) if given[3] is None else tuple(given[3])


def target_shape(shape: Sequence[int], target: Sequence[int], *, allow_zero: bool) -> list[int]:
    """Reshape's target with 0 replaced by the input's own size (unless `allow_zero`); -1 stays."""
    return [shape[i] if isinstance(size, int) and size == 0 and not allow_zero else size for i, size in enumerate(target)]


def _reshape(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
    target = node.attributes.get("shape") if node.opset < 5 else rest[0].ints  # type: ignore[union-attr]
    allow_zero = bool(node.attributes.get("allowzero", 0))
    return data.reshape(target_shape(data.shape, target, allow_zero=allow_zero))


def _gather(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
    indices = rest[0]
    assert indices is not None  # required by the op's schema
    return np.take(data, indices.array.astype(np.int64), axis=node.attributes.get("axis", 0))


def _expand(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
    shape = rest[0]
    assert shape is not None  # required by the op's schema
    return data * np.ones(shape.ints, dtype=data.dtype)


def _tile(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
    repeats = rest[0]
    assert repeats is not None  # required by the op's schema
    return np.tile(data, repeats.ints)


def _concat(node: Node) -> Operation:
    axis = node.attributes.get("axis", 1)
    return lambda *parts: Sizes(np.concatenate([part.array for part in parts], axis=axis), parts[0].dtype)


def _split(node: Node) -> Operation:
    axis, outputs = node.attributes.get("axis", 0), len(node.outputs)
    node.attributes.get("num_outputs")
    attribute = node.attributes.get("split")

    def apply(data: Sizes, split: Sizes | None = None) -> tuple[Sizes, ...]:
        lengths = attribute if split is None else split.ints
        if lengths is None:
            lengths = split_lengths(data.array.shape[axis], outputs)
        pieces = np.split(data.array, np.cumsum(lengths)[:-1].tolist(), axis=axis)
        return tuple(Sizes(piece, data.dtype) for piece in pieces)

    return apply


def split_lengths(size: int, outputs: int) -> list[int]:
    """Split without lengths: equal pieces, the last one shorter (ONNX, opset 18)."""
    piece = -(-size // outputs)
    return [piece] * (outputs - 1) + [size - piece * (outputs - 1)]


def _cast(node: Node) -> Operation:
    dtype = cast_target(node)
    return lambda data: Sizes(cast(data.array, dtype), dtype)


def cast_target(node: Node) -> torch.dtype:
    """Cast's target type; refused where torch does not compute with it."""
    number = node.attributes.get("to")
    node.attributes.get("saturate")  # concerns float8 only
    node.attributes.get("round_mode")  # concerns float8 only
    if number not in TORCH_TYPES:
        raise node.refusal(f"element type {number} of the ONNX enumeration has no torch type to compute with")
    return TORCH_TYPES[number]


def _constant_of_shape(node: Node) -> Operation:
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return lambda shape: Sizes(np.full(shape.ints, value), torch_dtype(value.dtype))


def _reduction(function: Callable[..., Any], inputs_from: int) -> Callable[[Node], Operation]:
    def reduce(node: Node, data: Array, rest: list[Sizes | None]) -> Array:
        axes = axes_of(node, 1, rest, inputs_from)
        if not axes and node.attributes.get("noop_with_empty_axes", 0):
            return data
        result = function(data, axis=axes or None, keepdims=bool(node.attributes.get("keepdims", 1)))
        return np.asarray(result)

    return _movement(reduce)


def _range(node: Node) -> Operation:
    def apply(start: Sizes, limit: Sizes, delta: Sizes) -> Sizes:
        bounds = [entry.array.item() for entry in (start, limit, delta)]
        return Sizes(np.arange(*bounds), start.dtype)

    return apply


def _division(node: Node) -> Operation:
    return lambda a, b: Sizes(divide(a.array, b.array, a.dtype), a.dtype)


def _same_type(function: Callable[[Array], Any]) -> Callable[[Node], Operation]:
    return _movement(lambda node, data, rest: np.asarray(function(data)))


ARITHMETIC: dict[str, Callable[[Node], Operation]] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and, torch.bool),
    "Cast": _cast,
    "Ceil": _same_type(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _division,
    "Equal": _elementwise(np.equal, torch.bool),
    "Expand": _movement(_expand),
    "Flatten": _movement(
        lambda node, data, rest: data.reshape(int(np.prod(data.shape[: node.attributes.get("axis", 1)])), -1)
    ),
    "Floor": _same_type(np.floor),
    "Gather": _movement(_gather),
    "Greater": _elementwise(np.greater, torch.bool),
    "GreaterOrEqual": _elementwise(np.greater_equal, torch.bool),
    "Identity": _same_type(lambda data: data),
    "Less": _elementwise(np.less, torch.bool),
    "LessOrEqual": _elementwise(np.less_equal, torch.bool),
    "Max": _elementwise(lambda *arrays: _fold(np.maximum, arrays)),
    "Min": _elementwise(lambda *arrays: _fold(np.minimum, arrays)),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not, torch.bool),
    "Or": _elementwise(np.logical_or, torch.bool),
    "Range": _range,
    "ReduceMax": _reduction(np.max, 18),
    "ReduceMin": _reduction(np.min, 18),
    "ReduceProd": _reduction(np.prod, 18),
    "ReduceSum": _reduction(np.sum, 13),
    "Reshape": _movement(_reshape),
    "Slice": _movement(_slice),
    "Split": _split,
    "Squeeze": _movement(_squeeze),
    "Sub": _elementwise(np.subtract),
    "Tile": _movement(_tile),
    "Transpose": _movement(lambda node, data, rest: np.transpose(data, node.attributes.get("perm"))),
    "Unsqueeze": _movement(_unsqueeze),
    "Where": lambda node: lambda condition, a, b: Sizes(np.where(condition.array, a.array, b.array), a.dtype),
}


def _fold(function: Callable[[Any, Any], Any], arrays: Sequence[Array]) -> Any:
    result: Any = arrays[0]
    for array in arrays[1:]:
        result = function(result, array)
    return result
