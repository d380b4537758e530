"""Norms without a learned mean: each divides by what it measures along some axes."""

from collections.abc import Callable

from pipeline.graph.labels import Labelling, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, lock_others
from pipeline.graph.rules.normalization import layer_norm


def rms_norm(node: Node, run: Labelling) -> Outputs:
    """As LayerNormalization, without mean and bias."""
    lock_others(node, run)
    return layer_norm(node, run)


def mean_variance(node: Node, run: Labelling) -> Outputs:
    """MeanVarianceNormalization is exact unless it runs over channels."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    if {axis % labels.ndim for axis in node.attributes["axes"]}.intersection(labelled_axes(labels)):
        run.mark_inexact(labels)
    return (labels,)


RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": rms_norm,
}
