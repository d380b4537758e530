"""Reading and writing elements by number: channels pass where the numbers speak of other axes."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.graph.labels import Labelling, Labels, Use, compact, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, like, refuse

BY_NUMBER = "takes or writes channels by their number"
SHAPELESS = "cannot be followed: the shapes that meet in it are not known"


def elements(node: Node, run: Labelling) -> Outputs:
    """Data, indices and updates meet element by element, except along `axis`."""
    return _meeting(node, run, range(len(node.inputs)), int(node.attributes.get("axis", 0)))


def cache(node: Node, run: Labelling) -> Outputs:
    """TensorScatter writes an update into a cache along `axis`; both carry the same channels."""
    run.lock(node.labels(run, 2), f"{node.op} ({node.name}) writes where they say")
    return _meeting(node, run, range(2), int(node.attributes.get("axis", -2)))


def _meeting(node: Node, run: Labelling, numbers: Sequence[int], axis: int) -> Outputs:
    found = {number: labels for number in numbers if (labels := node.labels(run, number)) is not None}
    shapes = {number: node.input_shape(number) for number in numbers}
    whole = node.output_shape()
    if not found:
        return (None,)
    if whole is None or any(shape is None or len(shape) != len(whole) for shape in shapes.values()):
        return refuse(node, run, SHAPELESS)
    carrying = sorted({axis for labels in found.values() for axis in labelled_axes(labels)})
    if axis % len(whole) in carrying:
        return refuse(node, run, BY_NUMBER)
    if any(shape is None or shape[a] != whole[a] for shape in shapes.values() for a in carrying):
        return refuse(node, run, "cannot be followed: it speaks of the first few channels only")
    made = _united(run, [compact(labels) for labels in found.values()], whole)
    for number in numbers:
        if number not in found:
            _ride(node, run, number, made, {axis: axis for axis in carrying})
    return (made,)


def slices(node: Node, run: Labelling) -> Outputs:
    """GatherND and ScatterND number the leading axes; slices along the others move with their channels."""
    indices, source, made = node.input_shape(1), node.input_shape(0), node.output_shape()
    if all(node.labels(run, number) is None for number in range(len(node.inputs))):
        return (None,)
    if indices is None or source is None or made is None:
        return refuse(node, run, SHAPELESS)
    run.lock(node.labels(run, 1), f"{node.op} ({node.name}) takes or writes where they say")
    numbered = int(node.attributes.get("batch_dims", 0)) + indices[-1]
    rest = len(source) - numbered
    parts: dict[int, Labels] = {}
    for number in (0, 2):
        labels = node.labels(run, number)
        if labels is not None:
            if any(axis < labels.ndim - rest for axis in labelled_axes(labels)):
                return refuse(node, run, BY_NUMBER)
            small = compact(labels)
            parts[number] = small.reshape(small.shape[small.ndim - rest :])
    if not parts:
        return (None,)
    line = _united(run, list(parts.values()), source[numbered:])
    for number in (0, 2):
        shape = node.input_shape(number)
        if node.has(number) and number not in parts and shape is not None:
            _ride(node, run, number, line, {axis: len(shape) - rest + axis for axis in labelled_axes(line)})
    return (np.broadcast_to(line, made),)


def one_hot(node: Node, run: Labelling) -> Outputs:
    """Every element becomes a row along a new axis, in its own channel."""
    for number in (1, 2):
        run.lock(node.labels(run, number), f"{node.op} ({node.name}) needs {node.inputs[number]!r} whole")
    labels, shape = node.labels(run), node.output_shape()
    if labels is None:
        return (None,)
    if shape is None:
        return refuse(node, run, "cannot be followed: the shape it makes is not known")
    new = int(node.attributes.get("axis", -1)) % len(shape)
    return (like(np.expand_dims(labels, new), shape),)


def _united(run: Labelling, parts: list[Labels], shape: Sequence[int]) -> Labels:
    """One class for labels that meet; compact arrays of equal rank."""
    first = parts[0]
    for other in parts[1:]:
        run.classes.unite(first, other)
        first = first if first.size >= other.size else other
    return np.broadcast_to(first, tuple(shape))


def _ride(node: Node, run: Labelling, number: int, labels: Labels, axes: dict[int, int]) -> None:
    """A constant is cut along with the labels it meets: axis of `labels` -> its own; what is computed locks them."""
    for axis, own in axes.items():
        if node.is_constant(number):
            run.uses.append(Use(node.inputs[number], own, run.along(labels, axis), "rides"))
        else:
            why = run.pinned.get(node.inputs[number], "nobody may cut it")
            run.lock(labels, f"meets {node.inputs[number]!r} in {node.op} ({node.name}), which is fixed: {why}")


RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {
    "GatherElements": elements,
    "Scatter": elements,
    "ScatterElements": elements,
    "TensorScatter": cache,
    "GatherND": slices,
    "ScatterND": slices,
    "OneHot": one_hot,
}
