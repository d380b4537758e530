"""Norms: batch-norm scales each channel by itself; those that average over channels make the group inexact."""

from pipeline.graph.labels import Labelling, Labels, Use, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, refuse


def batch_norm(node: Node, run: Labelling) -> Outputs:
    """Scale, bias, mean and variance are indexed by axis 1."""
    return _per_channel(node, run, parameters=range(1, 5))


def instance_norm(node: Node, run: Labelling) -> Outputs:
    """Each index of axis 1 is normalised by itself: exact."""
    return _per_channel(node, run, parameters=range(1, 3))


def layer_norm(node: Node, run: Labelling) -> Outputs:
    """Normalises over all axes from `axis` on. Scale and bias have the shape of those axes."""
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    first = int(node.attributes.get("axis", -1)) % labels.ndim
    inside = [axis for axis in labelled_axes(labels) if axis >= first]
    if inside and not all(node.is_constant(number) for number in (1, 2) if node.has(number)):
        return refuse(node, run, "has a scale or bias that is computed in the graph")
    for axis in inside:
        run.mark_inexact(labels)
        for number in (1, 2):
            shape = node.input_shape(number)
            own = axis - labels.ndim + len(shape or ())
            if shape and own >= 0 and shape[own] > 1:
                run.uses.append(Use(node.inputs[number], own, run.along(labels, axis), "rides"))
    return (labels,) + (None,) * (len(node.outputs) - 1)


def softmax(node: Node, run: Labelling) -> Outputs:
    """Exact unless it runs over channels. Before opset 13 it runs over all axes from `axis` on."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)) % labels.ndim
    return _mixes(run, labels, {axis} if node.opset >= 13 else set(range(axis, labels.ndim)))


def response_norm(node: Node, run: Labelling) -> Outputs:
    """LRN divides by the energy of neighbouring channels: without one, others become neighbours."""
    labels = node.labels(run)
    return (None,) if labels is None else _mixes(run, labels, {1})


def lp_norm(node: Node, run: Labelling) -> Outputs:
    """Divides by the norm along `axis`, to which a channel of zeros adds nothing; but nothing zeroes what it reads."""
    labels = node.labels(run)
    return (None,) if labels is None else _mixes(run, labels, {int(node.attributes.get("axis", -1)) % labels.ndim})


def _mixes(run: Labelling, labels: Labels, axes: set[int]) -> Outputs:
    if axes.intersection(labelled_axes(labels)):
        run.mark_inexact(labels)
    return (labels,)


def _per_channel(node: Node, run: Labelling, parameters: range) -> Outputs:
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    if 1 not in labelled_axes(labels) and labelled_axes(labels):
        return refuse(node, run, "runs over an axis that carries channels")
    line = run.along(labels, 1)
    for number in parameters:
        if node.is_constant(number):
            run.uses.append(Use(node.inputs[number], 0, line, "rides"))
        else:
            run.lock(labels, f"parameter {number} of {node.name} is computed in the graph")
    return (labels,) + (None,) * (len(node.outputs) - 1)


RULES = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LRN": response_norm,
    "LpNormalization": lp_norm,
    "Softmax": softmax,
    "LogSoftmax": softmax,
}
