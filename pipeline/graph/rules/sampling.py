"""Operators that take samples somewhere in space: every channel by itself, at places that all channels share."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from pipeline.graph.labels import Labelling, compact, labelled_axes
from pipeline.graph.rules.linear import conv
from pipeline.graph.rules.node import Node, Outputs, like, lock_others, refuse
from pipeline.graph.rules.spatial import spatial


def sample(node: Node, run: Labelling) -> Outputs:
    """GridSample, RoiAlign, MaxRoiPool: channels of the image pass; grid and regions are needed whole."""
    lock_others(node, run)
    return spatial(node, run)


def max_pool(node: Node, run: Labelling) -> Outputs:
    """Channels pass. The optional indices number all elements, channels with them: only MaxUnpool may read them."""
    labels, shape = node.labels(run), node.input_shape(0)
    moved, *_ = spatial(node, run)
    if len(node.outputs) < 2 or not node.outputs[1]:
        return (moved,) + (None,) * (len(node.outputs) - 1)
    if moved is not None and shape is not None:
        run.numbered[node.outputs[1]] = shape
    return moved, moved if labels is not None else None


def max_unpool(node: Node, run: Labelling) -> Outputs:
    """The opposite of a MaxPool, whose indices it reads: right for fewer channels too, where both shapes are equal."""
    labels, indices, shape = node.labels(run), node.labels(run, 1), node.output_shape()
    if labels is None and indices is None:
        return (None,)
    if labels is None or indices is None or shape is None or run.numbered.get(node.inputs[1]) != shape:
        return refuse(node, run, "writes to numbered elements that it cannot be shown to count like the pooling did")
    if set(labelled_axes(labels)) | set(labelled_axes(indices)) != {1}:
        return refuse(node, run, "runs over an axis that carries channels")
    run.classes.unite(compact(labels), compact(indices))
    return (like(labels, shape),)


def columns(node: Node, run: Labelling) -> Outputs:
    """Col2Im: (N, C * block, L) -> (N, C, image...); all of a channel's block goes with it."""
    labels, shape = node.labels(run), node.output_shape()
    lock_others(node, run)
    if labels is None:
        return (None,)
    if shape is None or any(axis != 1 for axis in labelled_axes(labels)):
        return refuse(node, run, "runs over an axis that carries channels, or makes a shape that is not known")
    blocks = run.along(labels, 1).reshape(shape[1], -1)
    run.classes.unite(blocks[:, :1], blocks)
    return (np.broadcast_to(blocks[:, 0].reshape(1, -1, *(1,) * (len(shape) - 2)), shape),)


def deformable(node: Node, run: Labelling) -> Outputs:
    """DeformConv: a convolution (weight: out, in / groups, kernel) at offsets that its input channels share."""
    for number in (2, 4):
        run.lock(node.labels(run, number), f"{node.op} ({node.name}) samples where they say")
    labels, shared = node.labels(run), int(node.attributes.get("offset_group", 1))
    if labels is not None and shared > 1:
        line = run.along(labels, 1).reshape(shared, -1)
        run.classes.unite(line[:1], line)
    plain = onnx.NodeProto()
    plain.CopyFrom(node.proto)
    del plain.input[2:]
    if node.has(3):
        plain.input.append(node.inputs[3])
    return conv(Node(plain, node.opset, node.constants, node.shapes, node.captured), run)


def determinant(node: Node, run: Labelling) -> Outputs:
    """Of the matrices on the last two axes; channels before them pass."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    if any(axis >= labels.ndim - 2 for axis in labelled_axes(labels)):
        return refuse(node, run, "takes channels for rows or columns of a matrix")
    return (labels[..., 0, 0],)


RULES: Mapping[str, Callable[[Node, Labelling], Outputs]] = {
    **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool"), sample),
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
    "Col2Im": columns,
    "DeformConv": deformable,
    "Det": determinant,
}
