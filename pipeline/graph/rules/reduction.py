"""Reductions: over space they are harmless; over channels they read them, and the mean of fewer is another mean."""

import numpy as np

from pipeline.graph.labels import Labelling, compact, labelled_axes
from pipeline.graph.rules.mixing import mixed
from pipeline.graph.rules.node import Node, Outputs, refuse

# To these a zero adds nothing, so a channel less is the same as a channel of zeros.
BLIND_TO_ZERO = {"ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"}


def reduce(node: Node, run: Labelling) -> Outputs:
    labels, shape = node.labels(run), node.output_shape()
    if labels is None:
        return (None,)
    axes = _axes(node, labels.ndim)
    if axes is None or shape is None:
        return refuse(node, run, "cannot be followed: its axes are computed in the graph")
    met = mixed(node, run, labels, axes, statistics=node.op not in BLIND_TO_ZERO)
    if met is None:
        return refuse(node, run, "reduces over channels that lie on several axes")
    if axes.intersection(labelled_axes(met)):
        run.pinned[node.outputs[0]] = f"{node.op} ({node.name}) leaves no channels"
        return (None,)
    small = compact(met)
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


def arg(node: Node, run: Labelling) -> Outputs:
    """ArgMax and ArgMin name channels by number: whoever reads the numbers counts on all of them."""
    labels, shape = node.labels(run), node.output_shape()
    if labels is None:
        return (None,)
    axis = int(node.attributes.get("axis", 0)) % labels.ndim
    if axis in labelled_axes(labels) or shape is None:
        return refuse(node, run, "numbers the channels")
    small = compact(labels)
    return (np.broadcast_to(small if node.attributes.get("keepdims", 1) else small.squeeze(axis), shape),)


RULES = {
    **{
        f"Reduce{kind}": reduce
        for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    },
    "ArgMax": arg,
    "ArgMin": arg,
}
