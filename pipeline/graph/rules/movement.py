"""Operators that move elements: they do to labels what they do to numbers, and numpy does it.

Each also says which of its constants count channels, so that the cut can count again.
"""

from collections.abc import Callable

import numpy as np

from pipeline.graph.labels import IndexEdit, Labelling, Labels, SizeEdit, compact, labelled_axes, simplify
from pipeline.graph.rules.node import Node

Outputs = tuple[Labels | None, ...]


def reshape(node: Node, run: Labelling) -> Outputs:
    labels, shape = node.labels(run), node.output_shape()
    if labels is None or shape is None:
        return _stop(node, run, "the shape it makes is not known") if labels is not None else (None,)
    moved = simplify(np.ascontiguousarray(labels).reshape(shape))
    if node.op == "Reshape":
        target = node.integers(1, "shape")
        if target is None:
            return _stop(node, run, "its target is computed in the graph")
        allow_zero = bool(node.attributes.get("allowzero", 0))
        for axis in labelled_axes(moved):
            copied = target[axis] == 0 and not allow_zero
            if copied and not _same_axis(labels, moved, axis):
                return _stop(node, run, "it copies a size from an axis that is cut otherwise")
            if target[axis] > 0:
                count(node, run, 1, "shape", axis, index_labels(moved, axis))
    return (moved,)


def flatten(node: Node, run: Labelling) -> Outputs:
    return reshape(node, run)


def transpose(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,)
    order = node.attributes.get("perm") or list(range(labels.ndim))[::-1]
    return (labels.transpose(order),)


def squeeze(node: Node, run: Labelling) -> Outputs:
    """Squeeze and Unsqueeze: axes of length one come and go."""
    labels, shape = node.labels(run), node.output_shape()
    if labels is None or shape is None:
        return _stop(node, run, "the shape it makes is not known") if labels is not None else (None,)
    small = compact(labels)
    kept = [size for size, whole in zip(small.shape, labels.shape, strict=True) if whole != 1]
    ones = iter(kept)
    return (np.broadcast_to(small.reshape([next(ones) if size != 1 else 1 for size in shape]), shape),)


def concat(node: Node, run: Labelling) -> Outputs:
    """Parts that nobody may cut, constants among them, get locked labels of their own."""
    parts = [run.tensors.get(name) for name in node.inputs]
    shapes = [node.input_shape(number) for number in range(len(parts))]
    if all(part is None for part in parts):
        return (None,)
    if any(shape is None for shape in shapes):
        return _stop(node, run, "the shape of one part is not known")
    known = [shape for shape in shapes if shape is not None]
    axis = int(node.attributes.get("axis", 1)) % len(known[0])
    labelled = []
    for name, part, shape in zip(node.inputs, parts, known, strict=True):
        if part is None:
            part = run.fresh_axis(shape, axis)
            run.lock(part, f"{name!r} in {node.op} ({node.name}) is fixed: {run.pinned.get(name, 'a constant')}")
        labelled.append(part)
    small = [compact(part) for part in labelled]
    rest = np.max([part.shape for part in small], axis=0)
    widened = []
    for part, shape in zip(small, known, strict=True):
        target = list(rest)
        target[axis] = shape[axis]
        widened.append(np.broadcast_to(part, target))
    whole = list(known[0])
    whole[axis] = sum(shape[axis] for shape in known)
    return (simplify(np.broadcast_to(np.concatenate(widened, axis), whole)),)


def split(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    axis = int(node.attributes.get("axis", 0)) % labels.ndim
    sizes = [node.shapes.get(name, (0,) * labels.ndim)[axis] for name in node.outputs]
    if sum(sizes) != labels.shape[axis] or (node.has(1) and not node.is_constant(1)):
        return _stop(node, run, "its sizes are not known")
    parts, start = [], 0
    for number, size in enumerate(sizes):
        part = _slice(labels, axis, start, start + size, 1)
        if axis in labelled_axes(labels):
            count(node, run, 1, "split", number, index_labels(labels, axis)[start : start + size])
        parts.append(part)
        start += size
    return tuple(parts)


def slice_(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    if starts is None or ends is None or any(node.has(n) and not node.is_constant(n) for n in (3, 4)):
        return _stop(node, run, "its bounds are computed in the graph")
    axes = node.integers(3, "axes") or list(range(len(starts)))
    steps = node.integers(4, "steps") or [1] * len(starts)
    moved = labels
    for entry, (start, end, axis, step) in enumerate(zip(starts, ends, axes, steps, strict=True)):
        axis %= labels.ndim
        size = labels.shape[axis]
        if axis in labelled_axes(labels):
            if step != 1:
                return _stop(node, run, "it takes every so many channels")
            line = index_labels(labels, axis)
            for number, attribute, bound in ((1, "starts", start), (2, "ends", end)):
                if bound < size:
                    count(node, run, number, attribute, entry, line[: max(bound + size if bound < 0 else bound, 0)])
        moved = _slice(moved, axis, start, end, step)
    return (moved,)


def gather(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,)
    axis = int(node.attributes.get("axis", 0)) % labels.ndim
    indices = node.constant(1)
    if axis not in labelled_axes(labels):
        shape = node.output_shape()
        if shape is None or indices is None:
            return _stop(node, run, "its indices are computed in the graph")
        taken = np.take(labels, np.zeros(indices.shape, np.int64), axis=axis)
        return (simplify(taken),)
    if indices is None:
        return _stop(node, run, "its indices are computed in the graph")
    if indices.ndim != 1:
        return _stop(node, run, "it picks single channels")
    run.indices.append(IndexEdit(node.name, 1, index_labels(labels, axis)[:, 0]))
    run.along(labels, axis)
    return (simplify(np.take(labels, indices.astype(np.int64), axis=axis)),)


def pad(node: Node, run: Labelling) -> Outputs:
    """Padded channels come from nowhere: each gets a label of its own."""
    labels, amounts = node.labels(run), node.integers(1, "pads")
    if labels is None:
        return (None,)
    if amounts is None or node.has(3) or min(amounts) < 0:
        return _stop(node, run, "its amounts are computed in the graph, negative, or given per axis")
    moved, ndim = labels, labels.ndim
    for axis in range(ndim):
        before, after = amounts[axis], amounts[axis + ndim]
        if not before and not after:
            continue
        if axis not in labelled_axes(labels):
            shape = list(moved.shape)
            shape[axis] += before + after
            moved = np.broadcast_to(compact(moved), shape)
            continue
        if node.attributes.get("mode", b"constant") not in (b"constant", "constant"):
            return _stop(node, run, "it mirrors channels")
        ends = []
        for position, amount in ((axis, before), (axis + ndim, after)):
            line = run.classes.fresh(amount)
            if amount:
                count(node, run, 1, "pads", position, line[:, None])
            ends.append(line.reshape([amount if a == axis else 1 for a in range(ndim)]))
        small = compact(moved)
        edges = [np.broadcast_to(e, [*small.shape[:axis], e.shape[axis], *small.shape[axis + 1 :]]) for e in ends]
        grown = np.concatenate([edges[0], small, edges[1]], axis)
        shape = list(moved.shape)
        shape[axis] += before + after
        moved = np.broadcast_to(grown, shape)
    return (moved,)


def expand(node: Node, run: Labelling) -> Outputs:
    labels, shape = node.labels(run), node.output_shape()
    if labels is None or shape is None:
        return _stop(node, run, "the shape it makes is not known") if labels is not None else (None,)
    small = compact(labels).reshape((1,) * (len(shape) - labels.ndim) + compact(labels).shape)
    moved = np.broadcast_to(small, shape)
    target = node.integers(1, "shape")
    for axis in labelled_axes(moved):
        own = axis - (len(shape) - len(target)) if target is not None else -1
        if target is None:
            return _stop(node, run, "its target is computed in the graph")
        if own >= 0 and target[own] > 1:
            count(node, run, 1, "shape", own, index_labels(moved, axis))
    return (moved,)


def depth_to_space(node: Node, run: Labelling) -> Outputs:
    """(N, C * b * b, H, W) -> (N, C, H * b, W * b); DCR keeps the block outermost, CRD innermost."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    block = int(node.attributes["blocksize"])
    n, c, h, w = labels.shape
    if node.attributes.get("mode", b"DCR") == b"CRD":
        blocks = labels.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        blocks = labels.reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return (simplify(blocks.reshape(n, c // block**2, h * block, w * block)),)


def space_to_depth(node: Node, run: Labelling) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,)
    block = int(node.attributes["blocksize"])
    n, c, h, w = labels.shape
    blocks = labels.reshape(n, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
    return (simplify(blocks.reshape(n, c * block**2, h // block, w // block)),)


def shape_of(node: Node, run: Labelling) -> Outputs:
    """Sizes read at run time are right after any cut; constants that meet them are the trouble, and normalise's task."""
    return (None,) * len(node.outputs)


def count(node: Node, run: Labelling, number: int, attribute: str, position: int, labels: Labels) -> None:
    """Entry `position` counts the channels in `labels` (index x elements sharing it)."""
    where: tuple[object, object] = ("attribute", attribute) if attribute in node.attributes else ("input", number)
    run.sizes.append(SizeEdit(node.name, where, position, labels))  # type: ignore[arg-type]


def index_labels(labels: Labels, axis: int) -> Labels:
    """(length of the axis, elements that share an index)."""
    small = np.moveaxis(compact(labels), axis, 0)
    lines = small.reshape(small.shape[0], -1)
    return np.broadcast_to(lines, (labels.shape[axis], lines.shape[1]))


def _slice(labels: Labels, axis: int, start: int, end: int, step: int) -> Labels:
    taken = labels[(slice(None),) * axis + (_python_slice(start, end, step, labels.shape[axis]),)]
    return np.broadcast_to(compact(taken), taken.shape)


def _python_slice(start: int, end: int, step: int, size: int) -> slice:
    """ONNX bounds are clamped; with a negative step an end before the first element means "to the very start"."""
    if step > 0:
        return slice(max(start + size, 0) if start < 0 else start, max(end + size, 0) if end < 0 else end, step)
    first = min(start + size if start < 0 else start, size - 1)
    last = end + size if -size <= end < 0 else end
    return slice(first, last if 0 <= last else None, step)


def _same_axis(before: Labels, after: Labels, axis: int) -> bool:
    return axis < before.ndim and np.array_equal(_first(before, axis), _first(after, axis))


def _first(labels: Labels, axis: int) -> Labels:
    return index_labels(labels, axis)[:, 0]


def _stop(node: Node, run: Labelling, why: str) -> Outputs:
    reason = f"{node.op} ({node.name}) cannot be followed: {why}"
    for name in node.inputs:
        run.lock(run.tensors.get(name), reason)
    for name in node.outputs:
        run.pinned[name] = reason
    return (None,) * len(node.outputs)


RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": squeeze,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Pad": pad,
    "Expand": expand,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Shape": shape_of,
    "Size": shape_of,
}
