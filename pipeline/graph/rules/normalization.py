"""Norms: batch-norm scales each channel by itself; those that average over channels make the group inexact."""

import numpy as np

from pipeline.graph.labels import Labelling, Labels, SizeEdit, labelled_axes
from pipeline.graph.normalise.defaults import ALL_BUT_CHANNELS
from pipeline.graph.rules.mixing import mixed
from pipeline.graph.rules.node import Node, Outputs, like, lock_others, refuse
from pipeline.graph.rules.parameter import parameter, use

OPSET_OF_SCALES_PER_CHANNEL = 21  # GroupNormalization has one scale a group before


def batch_norm(node: Node, run: Labelling) -> Outputs:
    """Scale, bias, mean and variance are indexed by axis 1."""
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    if 1 not in labelled_axes(labels) and labelled_axes(labels):
        return refuse(node, run, "runs over an axis that carries channels")
    return _with_parameters(node, run, labels, range(1, 5))


def instance_norm(node: Node, run: Labelling) -> Outputs:
    """Each index of axis 1 is normalised by itself, over all axes behind it; exporters write group norms so."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    met = mixed(node, run, labels, set(range(2, labels.ndim)), statistics=True)
    if met is None:
        return refuse(node, run, "averages over channels that lie on several axes")
    return (met,) if set(labelled_axes(met)) - {1} else _with_parameters(node, run, met, range(1, 3))


def layer_norm(node: Node, run: Labelling) -> Outputs:
    """Normalises over all axes from `axis` on. Scale and bias have the shape of those axes; RMSNormalization has no
    bias, and no mean."""
    lock_others(node, run)
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    first = int(node.attributes.get("axis", -1)) % labels.ndim
    met = mixed(node, run, labels, set(range(first, labels.ndim)), statistics=True)
    if met is None:
        return refuse(node, run, "averages over channels that lie on several axes")
    for axis in labelled_axes(met):
        for number in (1, 2):
            own = axis - labels.ndim + len(node.input_shape(number) or ())
            if node.has(number) and own >= 0:
                _ride(node, run, met, axis, number, own)
    inside = any(axis >= first for axis in labelled_axes(met))
    statistics = (None if inside else like(met, node.output_shape(n)) for n in range(1, len(node.outputs)))
    return (met, *statistics)


def group_norm(node: Node, run: Labelling) -> Outputs:
    """Every group of neighbouring channels has its own statistics: whole groups go exactly, or each group loses the
    same inner channels, which is not exact."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    groups = int(node.attributes.get("num_groups", 0))
    if set(labelled_axes(labels)) - {1} or groups < 1 or labels.shape[1] % groups:
        return refuse(node, run, "has groups into which its channels do not divide")
    line = run.along(labels, 1)
    table = line.reshape(groups, -1)
    parameters: Labels | None = line if node.opset >= OPSET_OF_SCALES_PER_CHANNEL else None
    if groups > 1 and run.blocks != "inside":
        run.classes.unite(table[:, :1], table)
        run.sizes.append(SizeEdit(node.name, ("attribute", "num_groups"), None, table[:, :1]))
        parameters = np.ascontiguousarray(table[:, 0]) if parameters is None else line
    else:
        run.classes.unite(table[:1], table)
        mixed(node, run, labels, {1}, statistics=True)
    for number in (1, 2):
        if parameters is not None and node.is_constant(number):
            use(node, run, number, 0, parameters, "rides")
        elif parameters is not None:
            run.lock(labels, f"parameter {number} of {node.name} is computed in the graph")
    return (labels,)


def mean_variance(node: Node, run: Labelling) -> Outputs:
    """MeanVarianceNormalization is exact unless it runs over channels."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    return _over(node, run, labels, {int(axis) % labels.ndim for axis in node.attributes.get("axes", ALL_BUT_CHANNELS)})


def softmax(node: Node, run: Labelling) -> Outputs:
    """Exact unless it runs over channels. Before opset 13 it runs over all axes from `axis` on."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1)) % labels.ndim
    return _over(node, run, labels, {axis} if node.opset >= 13 else set(range(axis, labels.ndim)))


def response_norm(node: Node, run: Labelling) -> Outputs:
    """LRN divides by the energy of neighbouring channels: without one, others become neighbours."""
    labels = node.labels(run)
    return (None,) if labels is None else _over(node, run, labels, {1})


def lp_norm(node: Node, run: Labelling) -> Outputs:
    """Divides by the norm along `axis`, to which a channel of zeros adds nothing."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    return _over(node, run, labels, {int(node.attributes.get("axis", -1)) % labels.ndim}, statistics=False)


def _over(node: Node, run: Labelling, labels: Labels, axes: set[int], *, statistics: bool = True) -> Outputs:
    met = mixed(node, run, labels, axes, statistics=statistics)
    return refuse(node, run, "mixes channels that lie on several axes") if met is None else (met,)


def _with_parameters(node: Node, run: Labelling, labels: Labels, numbers: range) -> Outputs:
    """The node's parameters `numbers` are indexed by axis 1."""
    for number in numbers:
        _ride(node, run, labels, 1, number, 0)
    lock_others(node, run)
    line = run.along(labels, 1)  # statistics, where the graph is one for training
    return (labels,) + (line,) * (len(node.outputs) - 1)


def _ride(node: Node, run: Labelling, labels: Labels, axis: int, number: int, own: int) -> None:
    """Axis `own` of parameter `number` is indexed by `axis`; where the parameter is computed, nothing may be cut."""
    # Where statistics leave channels out, the masked original cuts initialisers alone.
    if not node.is_constant(number) and (parameter(node, run, number) is None or node.op != "BatchNormalization"):
        run.lock(labels, f"parameter {number} of {node.name} is computed in the graph")
    elif (node.input_shape(number) or (1,))[own] > 1 or labels.shape[axis] == 1:
        use(node, run, number, own, run.along(labels, axis), "rides")


RULES = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LRN": response_norm,
    "LpNormalization": lp_norm,
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": layer_norm,
    "Softmax": softmax,
    "LogSoftmax": softmax,
}
