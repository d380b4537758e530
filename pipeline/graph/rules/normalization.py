"""Norms: batch-norm scales each channel by itself; those that average over channels make the group inexact."""

from pipeline.graph.labels import Labelling, Labels, Use, labelled_axes
from pipeline.graph.rules.node import Node


def batch_norm(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """Scale, bias, mean and variance are indexed by axis 1."""
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    line = run.along(labels, 1)
    for number in range(1, 5):
        if node.is_constant(number):
            run.uses.append(Use(node.inputs[number], 0, line, "rides"))
        else:
            run.lock(labels, f"parameter {number} of {node.name} is computed in the graph")
    return (labels,) + (None,) * (len(node.outputs) - 1)


def instance_norm(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """Each channel is normalised by itself: exact."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    line = run.along(labels, 1)
    for number in (1, 2):
        if node.is_constant(number):
            run.uses.append(Use(node.inputs[number], 0, line, "rides"))
        else:
            run.lock(labels, f"parameter {number} of {node.name} is computed in the graph")
    return (labels,)


def softmax(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """Exact unless it runs over channels. Before opset 13 it runs over all axes from `axis` on."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)) % labels.ndim
    axes = {axis} if node.opset >= 13 else set(range(axis, labels.ndim))
    if axes.intersection(labelled_axes(labels)):
        run.mark_inexact(labels)
    return (labels,)


RULES = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "Softmax": softmax,
    "LogSoftmax": softmax,
}
