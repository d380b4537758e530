"""Elementwise operators: labels that meet in one element are one class.

An axis of length one that broadcasts against channels never unites with them: its own label is locked instead, since
all of the channels need it. Constants are labelled by what they meet.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.graph.labels import Labelling, Labels, compact, labelled_axes
from pipeline.graph.rectangles import finest_axis
from pipeline.graph.rules.node import Node, Outputs, lock_others, refuse
from pipeline.graph.rules.parameter import parameter, pass_parameters_on, use


def pass_on(node: Node, run: Labelling) -> Outputs:
    """One input, one output, nothing moves; bounds and types beside it are needed whole."""
    lock_others(node, run)
    return (node.labels(run),) + (None,) * (len(node.outputs) - 1)


def unite(node: Node, run: Labelling) -> Outputs:
    """Any number of inputs that broadcast against each other."""
    meeting = [run.tensors.get(name) for name in node.inputs]
    if all(labels is None for labels in meeting):
        pass_parameters_on(node, run)
        return (None,)
    shapes = [shape for number in range(len(meeting)) if (shape := node.input_shape(number)) is not None]
    if len(shapes) < len(meeting):
        return refuse(node, run, "cannot be followed: the shapes that meet in it are not known")
    try:
        whole = np.broadcast_shapes(*shapes)
    except ValueError:
        return refuse(node, run, "cannot be followed: the shapes that meet in it do not fit")
    aligned = [None if labels is None else _aligned(labels, len(whole)) for labels in meeting]
    changing = [small for small in aligned if small is not None and small.size > 1]
    if not changing:
        return _single_channel(node, run, [small for small in aligned if small is not None], whole)
    fixed = {number: shapes[number] for number, small in enumerate(aligned) if small is None}
    result = _one_axis(node, run, _one_class(run, changing, whole), fixed)
    for number, small in enumerate(aligned):
        if small is None:
            _label_constant(node, run, number, shapes[number], result)
        elif small.size == 1:
            _broadcast_one(node, run, small, shapes[number], result)
    return (result,)


def _aligned(labels: Labels, ndim: int) -> Labels:
    """Compact labels, with axes of length one put in front as broadcasting does."""
    small = compact(labels)
    return small.reshape((1,) * (ndim - small.ndim) + small.shape)


def _one_class(run: Labelling, changing: list[Labels], whole: tuple[int, ...]) -> Labels:
    """Unite element by element. Operands that change along different axes collapse into one class, which stays."""
    first = changing[0]
    for other in changing[1:]:
        run.classes.unite(first, other)
        first = first if first.size >= other.size else other
    return np.broadcast_to(first, whole)


def _one_axis(node: Node, run: Labelling, result: Labels, fixed: Mapping[int, tuple[int, ...]]) -> Labels:
    """Channels in blocks that meet parameters lie on one axis from here on: parameters have entries for every block, or
    for every inner channel. An axis on which something fixed has entries stays whole."""
    result = run.settled(result)
    axes = labelled_axes(result)
    entries = {number: _entries(result, shape) for number, shape in fixed.items()}
    if len(axes) < 2 or not any(entries.values()):
        return result
    stays = {axis for number, own in entries.items() if parameter(node, run, number) is None for axis in own}
    free = [axis for axis in axes if axis not in stays] or list(axes)
    kept = finest_axis(run, compact(result), free)
    return run.merged(result, set(axes) - {kept})


def _entries(result: Labels, shape: tuple[int, ...]) -> set[int]:
    """The axes with channels on which an operand of this shape has entries of its own."""
    offset = result.ndim - len(shape)
    return {axis for axis in labelled_axes(result) if axis >= offset and shape[axis - offset] > 1}


def _broadcast_one(node: Node, run: Labelling, small: Labels, shape: tuple[int, ...], result: Labels) -> None:
    """A single label meets many: where its axis has length one all of them need it, else it is one with all."""
    offset = result.ndim - len(shape)
    if all(axis < offset or shape[axis - offset] == 1 for axis in labelled_axes(result)):
        run.lock(small, f"one channel is broadcast over all others in {node.op} ({node.name})")
    else:
        run.classes.unite(small, compact(result))


def _single_channel(node: Node, run: Labelling, aligned: list[Labels], whole: tuple[int, ...]) -> Outputs:
    """No input changes its label along any axis: tensors of one channel."""
    for small in aligned:
        run.classes.unite(small, aligned[0])
    run.lock(aligned[0], f"a tensor of a single channel meets another in {node.op} ({node.name})")
    return (np.broadcast_to(aligned[0], whole),)


def _label_constant(node: Node, run: Labelling, number: int, shape: tuple[int, ...], result: Labels) -> None:
    """A parameter takes the labels of what it meets, along each axis on which it has entries of its own."""
    for axis in _entries(result, shape):
        own = axis - result.ndim + len(shape)
        if parameter(node, run, number) is not None:
            use(node, run, number, own, run.along(result, axis), "rides")
        else:
            why = run.pinned.get(node.inputs[number], "nobody may cut it")
            run.lock(result, f"meets {node.inputs[number]!r} in {node.op} ({node.name}), which is fixed: {why}")


UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitCast", "BitwiseNot", "CastLike", "Ceil",
    "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
MANY = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "SwiGLU",
    "Where", "Xor",
)  # fmt: skip
RULES = {**dict.fromkeys(UNARY, pass_on), **dict.fromkeys(MANY, unite)}
