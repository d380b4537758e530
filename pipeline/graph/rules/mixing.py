"""Channels that an operator mixes without a weight: reductions, norms, softmax.

Where the mixed axis holds blocks of channels (the groups of a norm, heads), whole blocks can go exactly, since each has
its own statistics. Where it holds the channels themselves, the mean of fewer is another mean.
"""

import math

from pipeline.graph.labels import ChannelRead, Labelling, Labels, labelled_axes
from pipeline.graph.rules.node import Node


def mixed(node: Node, run: Labelling, labels: Labels, axes: set[int], *, statistics: bool) -> Labels | None:
    """The node's first input after its elements along `axes` met; None where channels lie on several of them.

    `statistics`: a channel of zeros is not the same as no channel, so that what is cut here is not exact.
    """
    labels = run.settled(labels)
    inside = axes.intersection(labelled_axes(labels))
    blocks = set(labelled_axes(labels)) - axes
    if inside and blocks:
        counts = [math.prod(labels.shape[axis] for axis in side) for side in (blocks, inside)]
        whole = run.blocks != "inside" if statistics else run.whole_blocks(*counts)
        labels = run.merged(labels, inside if whole else blocks)
        inside = axes.intersection(labelled_axes(labels))
    if len(inside) > 1:
        return None
    for axis in inside:
        if statistics:
            run.mark_inexact(labels)
        line = run.along(labels, axis)
        run.reads.append(ChannelRead(node.name, 0, node.inputs[0], axis, line, statistics))
    return labels
