"""Operators that give elements another shape: they do to labels what they do to numbers, and numpy does it.

Each also says which of its constants count channels, so that the cut can count again.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipeline.graph.labels import Labelling, Labels, compact, index_labels, labelled_axes, simplify
from pipeline.graph.rules.node import Node, Outputs, count, refuse
from pipeline.graph.rules.parameter import parameter


def reshape(node: Node, run: Labelling) -> Outputs:
    labels, shape = node.labels(run), node.output_shape()
    if labels is None:
        return (None,)
    if shape is None:
        return refuse(node, run, "cannot be followed: the shape it makes is not known")
    if math.prod(shape) != labels.size:
        return refuse(node, run, f"makes {math.prod(shape)} elements of {labels.size}")
    moved = reshaped(labels, shape)
    if node.op == "Reshape":
        target = node.integers(1, "shape")
        if target is None:
            return refuse(node, run, "cannot be followed: its target is computed in the graph")
        zeros_copy = not node.attributes.get("allowzero", 0)
        for axis, size in enumerate(target):
            if size == 0 and zeros_copy and not _same_axis(labels, moved, axis):
                return refuse(node, run, "copies a size from an axis that is cut otherwise")
        for axis in labelled_axes(moved):
            if target[axis] > 0:
                count(node, run, 1, "shape", axis, index_labels(moved, axis))
    return (moved,)


def transpose(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,)
    order = node.attributes.get("perm") or list(range(labels.ndim))[::-1]
    if sorted(order) != list(range(labels.ndim)):
        return refuse(node, run, f"permutes {labels.ndim} axes by {order}")
    return (labels.transpose(order),)


def squeeze(node: Node, run: Labelling) -> Outputs:
    """Squeeze and Unsqueeze: axes of length one come and go."""
    labels, shape = node.labels(run), node.output_shape()
    if labels is None:
        return (None,)
    if shape is None:
        return refuse(node, run, "cannot be followed: the shape it makes is not known")
    return (reshaped(labels, shape),)


def expand(node: Node, run: Labelling) -> Outputs:
    """Broadcasting to a shape that a constant names."""
    labels, shape, target = node.labels(run), node.output_shape(), node.integers(1, "shape")
    if labels is None:
        _pass_parameter_on(node, run, shape)
        return (None,)
    if shape is None:
        return refuse(node, run, "cannot be followed: the shape it makes is not known")
    small = compact(labels).reshape((1,) * (len(shape) - labels.ndim) + compact(labels).shape)
    moved = np.broadcast_to(small, shape)
    before = (1,) * (len(shape) - labels.ndim) + labels.shape
    if not labelled_axes(moved) and len(shape) > 1 and before[1] == 1 < shape[1]:
        moved = _spread(node, run, labels, shape)
    elif labelled_axes(moved) and target is None:
        computed = node.computed_integers(1)
        behind = [axis - len(shape) for axis in labelled_axes(moved)]
        if computed is None or any(len(computed) >= -axis and computed[axis] != 1 for axis in behind):
            return refuse(node, run, "cannot be followed: its target is computed in the graph")
    for axis in labelled_axes(moved):
        own = axis - (len(shape) - len(target)) if target else -1
        if target and own >= 0 and target[own] > 1:
            count(node, run, 1, "shape", own, index_labels(moved, axis))
    return (moved,)


def _pass_parameter_on(node: Node, run: Labelling, shape: Sequence[int] | None) -> None:
    """A parameter repeated along axes of length one is cut along the others, whose size the target leaves alone."""
    found, own, computed = parameter(node, run, 0), node.input_shape(0), node.computed_integers(1)
    if found is None or own is None or shape is None or computed is None:
        return
    offset = len(shape) - len(own)
    long = [axis for axis in range(offset, len(shape)) if own[axis - offset] > 1]
    if all(len(shape) - axis > len(computed) or computed[axis - len(shape)] == 1 for axis in long):
        run.parameters[node.outputs[0]] = tuple(
            found[axis - offset] if axis in long else () for axis in range(len(shape))
        )


def tile(node: Node, run: Labelling) -> Outputs:
    """Repeated channels are the same channels; a single channel repeated along axis 1 gives channels of their own."""
    labels, repeats, shape = node.labels(run), node.integers(1, "repeats"), node.output_shape()
    if labels is None:
        return (None,)
    if repeats is None or shape is None or len(repeats) != labels.ndim:
        return refuse(node, run, "cannot be followed: its repeats are computed in the graph")
    if not labelled_axes(labels) and labels.ndim > 1 and labels.shape[1] == 1 < repeats[1]:
        moved = _spread(node, run, labels, shape)
        count(node, run, 1, "repeats", 1, index_labels(moved, 1))
        return (moved,)
    small = compact(labels)
    tiled = np.tile(small, [times if size > 1 else 1 for times, size in zip(repeats, small.shape, strict=True)])
    return (np.broadcast_to(tiled, shape),)


def _spread(node: Node, run: Labelling, labels: Labels, shape: Sequence[int]) -> Labels:
    """Labels for the copies of a single channel. All copies need it, so it stays."""
    run.lock(labels, f"{node.op} ({node.name}) repeats this single channel")
    return run.fresh_axis(shape, 1)


def sizes_of(node: Node, run: Labelling) -> Outputs:
    """Sizes read at run time are right after any cut; constants that meet them are the trouble: normalise's task."""
    return (None,) * len(node.outputs)


def reshaped(labels: Labels, shape: Sequence[int]) -> Labels:
    """`labels.reshape(shape)`, spreading out only the axes that both carry channels and change."""
    small = compact(labels)
    middle: list[int] = []
    compacted: list[int] = []
    for before, after in _blocks(labels.shape, shape):
        changing = any(size > 1 for size in small.shape[before])
        middle += labels.shape[before] if changing else (1,) * (before.stop - before.start)
        compacted += shape[after] if changing else (1,) * (after.stop - after.start)
    return np.broadcast_to(simplify(np.broadcast_to(small, middle).reshape(compacted)), tuple(shape))


def _blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The shortest runs of axes on both sides that hold the same number of elements."""
    i = j = 0
    while i < len(before) or j < len(after):
        stop_i, stop_j = min(i + 1, len(before)), min(j + 1, len(after))
        while (held := math.prod(before[i:stop_i])) != (wanted := math.prod(after[j:stop_j])):
            if held < wanted:
                stop_i += 1
            else:
                stop_j += 1
        yield slice(i, stop_i), slice(j, stop_j)
        i, j = stop_i, stop_j


def _same_axis(before: Labels, after: Labels, axis: int) -> bool:
    """Whether the axis carries the same channels, or none, on both sides."""
    sides = [compact(side) for side in (before, after)]
    if all(side.shape[axis] == 1 for side in sides):
        return True
    return np.array_equal(index_labels(before, axis)[:, 0], index_labels(after, axis)[:, 0])


RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {
    "Reshape": reshape,
    "Flatten": reshape,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": squeeze,
    "Expand": expand,
    "Tile": tile,
    "Shape": sizes_of,
    "Size": sizes_of,
}
