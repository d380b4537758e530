"""Operators that put parts together or take them out along an axis."""

from collections.abc import Callable

import numpy as np

from pipeline.graph.labels import IndexEdit, Labelling, Labels, compact, index_labels, labelled_axes, simplify
from pipeline.graph.rules.node import Node, Outputs, count, lock_others, refuse
from pipeline.graph.rules.parameter import label_constant, parameter, use


def concat(node: Node, run: Labelling) -> Outputs:
    """Parts that nobody may cut, constants among them, get locked labels of their own."""
    parts = [run.tensors.get(name) for name in node.inputs]
    if all(part is None for part in parts):
        return (None,)
    shapes = [shape for number in range(len(parts)) if (shape := node.input_shape(number)) is not None]
    if len(shapes) < len(parts):
        return refuse(node, run, "cannot be followed: the shape of one part is not known")
    if any(0 in shape for shape in shapes):
        return refuse(node, run, "joins a part without elements")
    axis = int(node.attributes.get("axis", 1)) % len(shapes[0])
    axes = {labelled for part in parts if part is not None for labelled in labelled_axes(part)}
    if axes and axis not in axes and any(shape[axis] > 1 for shape in shapes):
        return (_beside(node, run, parts, shapes, axis, axes),)
    small = []
    for name, part, shape in zip(node.inputs, parts, shapes, strict=True):
        if part is None:
            part = run.fresh_axis(shape, axis)
            run.lock(part, f"{name!r} in {node.op} ({node.name}) is fixed: {run.pinned.get(name, 'a constant')}")
        small.append(compact(part))
    rest = np.max([part.shape for part in small], axis=0)
    widened = []
    for part, shape in zip(small, shapes, strict=True):
        target = list(rest)
        target[axis] = shape[axis]
        widened.append(np.broadcast_to(part, target))
    whole = list(shapes[0])
    whole[axis] = sum(shape[axis] for shape in shapes)
    return (np.broadcast_to(simplify(np.concatenate(widened, axis)), tuple(whole)),)


def _beside(
    node: Node, run: Labelling, parts: list[Labels | None], shapes: list[tuple[int, ...]], axis: int, axes: set[int]
) -> Labels:
    """Joined along an axis without channels (tokens, space): channels that come to lie behind each other are one."""
    given = []
    for number, (name, part, shape) in enumerate(zip(node.inputs, parts, shapes, strict=True)):
        if part is None and parameter(node, run, number) is not None and len(axes) == 1 and shape[min(axes)] > 1:
            part = label_constant(node, run, number, min(axes))
        if part is not None:
            given.append(compact(part))
            continue
        for other in parts:
            why = run.pinned.get(name, "a constant")
            run.lock(other, f"{name!r} beside them in {node.op} ({node.name}) is fixed: {why}")
    for part in given:
        run.classes.unite(given[0], part)
    whole = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    return np.broadcast_to(max(given, key=np.size), whole)


def split(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    axis = int(node.attributes.get("axis", 0)) % labels.ndim
    sizes = [node.shapes.get(name, (0,) * labels.ndim)[axis] for name in node.outputs]
    if sum(sizes) != labels.shape[axis] or (node.has(1) and not node.is_constant(1)):
        return refuse(node, run, "cannot be followed: its sizes are not known")
    parts, start = [], 0
    for number, size in enumerate(sizes):
        if axis in labelled_axes(labels):
            count(node, run, 1, "split", number, index_labels(labels, axis)[start : start + size])
        parts.append(_slice(labels, axis, slice(start, start + size)))
        start += size
    return tuple(parts)


def slice_(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    if starts is None or ends is None or any(node.has(n) and not node.is_constant(n) for n in (3, 4)):
        return _slice_somewhere(node, run, labels)
    axes = node.integers(3, "axes") or list(range(len(starts)))
    steps = node.integers(4, "steps") or [1] * len(starts)
    moved = labels
    for entry, (start, end, axis, step) in enumerate(zip(starts, ends, axes, steps, strict=True)):
        axis %= labels.ndim
        size = labels.shape[axis]
        if axis in labelled_axes(labels):
            if step != 1:
                return refuse(node, run, "cannot be followed: it takes every so many channels, or turns them around")
            line = index_labels(labels, axis)
            for number, attribute, bound in ((1, "starts", start), (2, "ends", end)):
                if bound < size:
                    count(node, run, number, attribute, entry, line[: max(bound + size if bound < 0 else bound, 0)])
        moved = _slice(moved, axis, _python_slice(start, end, step, size))
    return (moved,)


def gather(node: Node, run: Labelling) -> Outputs:
    """A list of indices picks channels; a single index picks one block, and there stay as many blocks as there are."""
    labels, indices = node.labels(run), node.constant(1)
    lock_others(node, run)
    if labels is None and node.is_constant(0):
        return _look_up(node, run)
    if labels is None:
        return (None,)
    axis = int(node.attributes.get("axis", 0)) % labels.ndim
    if axis not in labelled_axes(labels):
        shape, picked = node.output_shape(), node.input_shape(1)
        if shape is None or picked is None:
            return refuse(node, run, "cannot be followed: the shape it makes is not known")
        small = np.take(compact(labels), np.zeros((1,) * len(picked), np.int64), axis=axis)
        return (np.broadcast_to(small, shape),)
    if indices is None:
        return refuse(node, run, "cannot be followed: its indices are computed in the graph")
    if indices.ndim > 1:
        return refuse(node, run, "cannot be followed: it spreads channels over several axes")
    if indices.ndim == 1:
        run.indices.append(IndexEdit(node.name, 1, run.along(labels, axis)))
    elif len(labelled_axes(labels)) == 1:
        return refuse(node, run, "picks a single channel")
    else:
        small = compact(labels)
        run.classes.unite(small.take([0], axis=axis), small)
    shape = (*labels.shape[:axis], *indices.shape, *labels.shape[axis + 1 :])
    taken = np.take(compact(labels), indices.astype(np.int64), axis=axis)
    return (np.broadcast_to(simplify(taken), shape),)


def _look_up(node: Node, run: Labelling) -> Outputs:
    """Rows of a table, picked at run time: an embedding, whose columns are channels."""
    table, shape = node.input_shape(0), node.output_shape()
    if not node.is_float(0) or not table or len(table) != 2 or shape is None or node.attributes.get("axis", 0) != 0:
        return (None,)
    made = run.fresh_axis(shape, len(shape) - 1)
    use(node, run, 0, 1, run.along(made, len(shape) - 1), "makes")
    return (made,)


def pad(node: Node, run: Labelling) -> Outputs:
    """Padded channels come from nowhere: each gets a label of its own."""
    labels, amounts = node.labels(run), node.integers(1, "pads")
    if labels is None:
        return (None,)
    if amounts is None or node.has(3) or min(amounts) < 0:
        shape = node.output_shape()
        if shape is None or labelled_axes(labels):
            return refuse(node, run, "cannot be followed: its amounts are computed, negative, or given per axis")
        return (np.broadcast_to(compact(labels), shape),)
    small, ndim = compact(labels), labels.ndim
    grown = [size + amounts[axis] + amounts[axis + ndim] for axis, size in enumerate(labels.shape)]
    for axis in labelled_axes(labels):
        before, after = amounts[axis], amounts[axis + ndim]
        if not before and not after:
            continue
        if node.attributes.get("mode", b"constant") not in (b"constant", "constant"):
            return refuse(node, run, "cannot be followed: it mirrors channels")
        ends = []
        for position, amount in ((axis, before), (axis + ndim, after)):
            line = run.classes.fresh(amount)
            if amount:
                count(node, run, 1, "pads", position, line[:, None])
            along = line.reshape([amount if a == axis else 1 for a in range(ndim)])
            ends.append(np.broadcast_to(along, [*small.shape[:axis], amount, *small.shape[axis + 1 :]]))
        small = np.concatenate([ends[0], small, ends[1]], axis)
    return (np.broadcast_to(small, tuple(grown)),)


def _slice(labels: Labels, axis: int, part: slice) -> Labels:
    taken = labels[(slice(None),) * axis + (part,)]
    return np.broadcast_to(compact(taken), taken.shape)


def _python_slice(start: int, end: int, step: int, size: int) -> slice:
    """ONNX bounds are clamped; with a negative step an end before the first element means "to the very start"."""
    if step > 0:
        return slice(max(start + size, 0) if start < 0 else start, max(end + size, 0) if end < 0 else end, step)
    first = min(start + size if start < 0 else start, size - 1)
    last = end + size if -size <= end < 0 else end
    return slice(first, last if last >= 0 else None, step)


def _slice_somewhere(node: Node, run: Labelling, labels: Labels) -> Outputs:
    """Bounds that are computed: fine where only unlabelled axes get shorter."""
    axes, shape = node.integers(3, "axes"), node.output_shape()
    if axes is None or shape is None or {axis % labels.ndim for axis in axes}.intersection(labelled_axes(labels)):
        return refuse(node, run, "cannot be followed: its bounds are computed in the graph")
    return (np.broadcast_to(compact(labels), shape),)


RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Pad": pad,
}
