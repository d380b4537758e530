"""Sizes that the graph reads of its own tensors while it runs.

They are right after any cut as long as they only say how large a tensor shall be. So every entry of such a list is
followed with the channels that it counts; whoever computes with the number itself locks them.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.graph.labels import Labelling, Labels, compact, index_labels, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, refuse
from pipeline.graph.rules.parameter import parameter, use

Counts = tuple[Labels | None, ...]  # per entry of a list of sizes: (index x labels sharing it) that it counts


def follow_sizes(node: Node, run: Labelling) -> Outputs | None:
    """The outputs of a node that has to do with sizes read at run time; None where its own rule shall say."""
    if node.domain == "" and node.op == "Shape":
        return _shape(node, run)
    if node.domain == "" and node.op == "Size":
        return _compute(node, run, node.inputs)
    read = [name for name in (*node.inputs, *node.captured) if name in run.counts]
    if not read:
        return None
    passed = PASSING[node.op](node, run) if node.domain == "" and node.op in PASSING else None
    if passed is not None:
        run.counts[node.outputs[0]] = passed
        return (None,)
    if node.domain == "" and node.op in MAKING and read == [node.inputs[MAKING[node.op][0]]]:
        return MAKING[node.op][1](node, run)
    _compute(node, run, read)
    return None


def lock_sizes(run: Labelling, name: str, reason: str) -> None:
    """Nobody may cut what the sizes in tensor `name` count."""
    for counted in run.counts.get(name, ()):
        run.lock(counted, reason)


def _shape(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is not None:
        start, end = int(node.attributes.get("start", 0)), int(node.attributes.get("end", labels.ndim))
        axes = range(labels.ndim)[start:end]
        counts = tuple(index_labels(labels, axis) if axis in labelled_axes(labels) else None for axis in axes)
        if any(entry is not None for entry in counts):
            run.counts[node.outputs[0]] = counts
    return (None,)


def _compute(node: Node, run: Labelling, names: Sequence[str]) -> Outputs:
    reason = f"{node.domain + '.' if node.domain else ''}{node.op} ({node.name}) computes with the number of them"
    for name in names:
        lock_sizes(run, name, reason)
        if node.op == "Size":
            run.lock(run.tensors.get(name), reason)
    return (None,) * len(node.outputs)


# What moves entries of a list, and leaves each what it is.


def _as_it_is(node: Node, run: Labelling) -> Counts | None:
    return run.counts.get(node.inputs[0])


def _joined(node: Node, run: Labelling) -> Counts | None:
    parts: list[Labels | None] = []
    for number, name in enumerate(node.inputs):
        shape = node.input_shape(number)
        if shape is None or len(shape) != 1:
            return None
        parts += run.counts.get(name, (None,) * shape[0])
    return tuple(parts)


def _picked(node: Node, run: Labelling) -> Counts | None:
    counts, indices = run.counts.get(node.inputs[0]), node.constant(1)
    if counts is None or indices is None or indices.ndim > 1:
        return None
    return tuple(counts[int(index)] for index in indices.reshape(-1))


def _sliced(node: Node, run: Labelling) -> Counts | None:
    counts, starts, ends = run.counts.get(node.inputs[0]), node.integers(1, "starts"), node.integers(2, "ends")
    steps = node.integers(4, "steps") if node.has(4) else [1]
    if counts is None or starts is None or ends is None or not steps:
        return None
    return counts[starts[0] : ends[0] : steps[0]]


def _times_one(node: Node, run: Labelling) -> Counts | None:
    """An entry times one is itself; a list of scales for height and width leaves the channels so."""
    number = 0 if node.inputs[0] in run.counts else 1
    factors = node.constant(1 - number)
    counts = run.counts[node.inputs[number]]
    if factors is None or factors.size not in (1, len(counts)) or (node.op == "Div" and number):
        return None
    line = np.broadcast_to(factors.reshape(-1), len(counts))
    if any(entry is not None and factor != 1 for entry, factor in zip(counts, line, strict=True)):
        return None
    return counts


# What makes a tensor of the size that a list says.


def _constant_of_shape(node: Node, run: Labelling) -> Outputs:
    """Every element is the same, so a position more or less on an axis is all that there is to cut."""
    counts, shape = run.counts[node.inputs[0]], node.output_shape()
    if shape is None:
        return _compute(node, run, node.inputs)
    return (_spread(run, counts, shape),)


def _expand(node: Node, run: Labelling) -> Outputs:
    """Axes of length one, and those in front, take the labels that the target counts; others are one with them."""
    counts, shape, own = run.counts[node.inputs[1]], node.output_shape(), node.input_shape(0)
    if shape is None or own is None or len(counts) > len(shape):
        _compute(node, run, node.inputs[1:])
        return refuse(node, run, "cannot be followed: the shape it makes is not known")
    target = _spread(run, (None,) * (len(shape) - len(counts)) + counts, shape)
    labels, offset = node.labels(run), len(shape) - len(own)
    if labels is None:
        for axis in () if target is None else labelled_axes(target):
            if target is not None and axis >= offset and own[axis - offset] > 1:
                line = run.along(target, axis)
                if parameter(node, run, 0) is None:
                    run.lock(line, f"meets {node.inputs[0]!r} in {node.op} ({node.name}), which is fixed")
                else:
                    use(node, run, 0, axis - offset, line, "rides")
        return (target,)
    small = compact(labels).reshape((1,) * offset + compact(labels).shape)
    if target is None:
        return (np.broadcast_to(small, shape),)
    if any(axis not in labelled_axes(target) for axis in labelled_axes(np.broadcast_to(small, shape))):
        return refuse(node, run, "has channels on an axis whose size is computed otherwise")
    if any(size > 1 for size in small.shape):
        run.classes.unite(small, compact(target))
    else:
        run.lock(small, f"one channel is broadcast over all others in {node.op} ({node.name})")
    return (target,)


def _resize(node: Node, run: Labelling) -> None:
    """Channels that are asked for are those that come in; what else happens is for the operator's own rule."""
    labels, counts = node.labels(run), run.counts[node.inputs[3]]
    axes = node.attributes.get("axes", range(len(counts)))
    for axis, entry in zip(axes, counts, strict=True):
        if entry is not None and labels is not None and labels.shape[axis] == len(entry):
            run.classes.unite(index_labels(labels, axis)[:, :1], entry)
        elif entry is not None:
            run.lock(entry, f"{node.op} ({node.name}) computes with the number of them")


def _spread(run: Labelling, counts: Counts, shape: Sequence[int]) -> Labels | None:
    """A tensor of `shape` that carries on each axis the channels that its entry counts; None where there are none.

    Channels on several axes at once are locked: no rectangle of a constant says which of them an element belongs to.
    """
    counted = [(axis, entry) for axis, entry in enumerate(counts) if entry is not None]
    if len(counted) != 1 or counted[0][1].shape[1] != 1 or len(counted[0][1]) != shape[counted[0][0]]:
        for _, entry in counted:
            run.lock(entry, "a tensor is made whose size they give on several axes")
        return None
    axis, entry = counted[0]
    return np.broadcast_to(entry[:, 0].reshape([-1 if own == axis else 1 for own in range(len(shape))]), tuple(shape))


PASSING: Mapping[str, Callable[[Node, Labelling], Counts | None]] = {
    **dict.fromkeys(("Cast", "Identity", "Floor", "Ceil", "Round", "Unsqueeze", "Squeeze"), _as_it_is),
    "Concat": _joined,
    "Gather": _picked,
    "Slice": _sliced,
    "Mul": _times_one,
    "Div": _times_one,
}
# Operator: the input that speaks of sizes, and what is made of it.
MAKING: Mapping[str, tuple[int, Callable[[Node, Labelling], Outputs | None]]] = {
    "ConstantOfShape": (0, _constant_of_shape),
    "Expand": (1, _expand),
    "Resize": (3, _resize),
}
