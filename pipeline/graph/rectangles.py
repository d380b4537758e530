"""A cut tensor must stay a rectangle: where channels lie on two axes, one of them decides."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.graph.labels import Labelling, Labels, compact


def keep_rectangles(run: Labelling) -> None:
    """Unite along one axis of every tensor whose channels lie on several.

    Keeping an axis means that all labels which share an index on it become one class: a reshape that splits channels
    into blocks then loses whole blocks, or the same inner channels of every block. The axis that leaves the most
    classes wins; most tensors are rectangles already by what their neighbours united. What is united later only
    makes classes larger, so a rectangle stays one.
    """
    for labels in run.tensors.values():
        if labels is None:
            continue
        small = compact(labels)
        if sum(size > 1 for size in small.shape) < 2:
            continue
        classes = run.classes.find(small)
        axes = [axis for axis in range(classes.ndim) if not _constant_along(classes, axis)]
        if len(axes) > 1:
            best = finest_axis(run, classes, axes)
            lines = np.moveaxis(classes, best, 0).reshape(classes.shape[best], -1)
            run.classes.unite(lines[:, :1], lines)


def finest_axis(run: Labelling, classes: Labels, axes: Sequence[int]) -> int:
    """The one of `axes` to keep: that which leaves the most classes, or of two that which the choice of blocks says.
    Blocks lie outside of what they hold: the first axis counts them, the second one their inner channels."""
    if run.blocks == "auto" or len(axes) != 2:
        return max(axes, key=lambda axis: _classes_left(classes, axis))
    return axes[0] if run.blocks == "whole" else axes[-1]


def _constant_along(classes: Labels, axis: int) -> bool:
    return bool((classes == classes.take([0], axis=axis)).all())


def _classes_left(classes: Labels, axis: int) -> int:
    lines = np.moveaxis(classes, axis, 0).reshape(classes.shape[axis], -1)
    unique, numbers = np.unique(lines, return_inverse=True)
    numbers = numbers.reshape(lines.shape)
    first = np.broadcast_to(numbers[:, :1], numbers.shape)
    edges = coo_matrix((np.ones(numbers.size), (first.ravel(), numbers.ravel())), shape=(len(unique),) * 2)
    return int(connected_components(edges, directed=False, return_labels=False))
