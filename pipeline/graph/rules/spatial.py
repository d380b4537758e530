"""Pooling and resizing: spatial axes change their length, channels stay where they are."""

import numpy as np

from pipeline.graph.labels import Labelling, index_labels, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, count, like, refuse


def spatial(node: Node, run: Labelling) -> Outputs:
    """Passes labels on axes 0 and 1; channels that lie on a spatial axis alone would be mixed, so they are locked."""
    labels, shape = node.labels(run), node.output_shape()
    if labels is None:
        return (None,) * len(node.outputs)
    axes = labelled_axes(labels)
    if 1 in axes and max(axes) > 1:  # after pixel shuffle: what shares an index of axis 1 goes together
        line = run.along(labels, 1)
        labels = np.broadcast_to(line.reshape([-1 if axis == 1 else 1 for axis in range(labels.ndim)]), labels.shape)
    moved = like(labels, shape)
    if moved is None or any(axis > 1 for axis in labelled_axes(labels)):
        return refuse(node, run, "runs over an axis that carries channels, or makes a shape that is not known")
    sizes = node.integers(3, "sizes") if node.op == "Resize" and node.is_constant(3) else None
    resized = [int(axis) % labels.ndim for axis in node.attributes.get("axes", range(labels.ndim))]
    if sizes and 1 in resized and 1 in labelled_axes(labels):
        count(node, run, 3, "sizes", resized.index(1), index_labels(labels, 1))
    return (moved,) + (None,) * (len(node.outputs) - 1)


POOLS = ("AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
RULES = dict.fromkeys((*POOLS, "Resize", "Upsample"), spatial)
