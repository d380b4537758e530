"""Reductions: over space they are harmless; over channels they mix them, and the mean of fewer is another mean."""

import numpy as np

from pipeline.graph.labels import Labelling, Labels, compact, labelled_axes
from pipeline.graph.rules.node import Node


def reduce(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    labels = node.labels(run)
    shape = node.output_shape()
    if labels is None or shape is None:
        return (None,)
    axes = _axes(node, labels.ndim)
    if axes is None or axes.intersection(labelled_axes(labels)):
        reason = f"{node.op} ({node.name}) reduces over channels"
        run.lock(labels, reason)
        run.pinned[node.outputs[0]] = reason
        return (None,)
    small = compact(labels)
    if not node.attributes.get("keepdims", 1):
        small = small.squeeze(tuple(axes))
    return (np.broadcast_to(small, shape),)


def _axes(node: Node, ndim: int) -> set[int] | None:
    """The reduced axes, or None where they are computed in the graph."""
    if node.has(1) and not node.is_constant(1):
        return None
    listed = node.integers(1, "axes")
    if not listed:
        return set() if node.attributes.get("noop_with_empty_axes", 0) else set(range(ndim))
    return {axis % ndim for axis in listed}


def arg(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """ArgMax and ArgMin name channels by number: whoever reads the numbers counts on all of them."""
    labels = node.labels(run)
    if labels is not None:
        axis = int(node.attributes.get("axis", 0)) % labels.ndim
        if axis in labelled_axes(labels):
            run.lock(labels, f"{node.op} ({node.name}) numbers the channels")
    return (None,)


RULES = {
    **{
        f"Reduce{kind}": reduce
        for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    },
    "ArgMax": arg,
    "ArgMin": arg,
}
