"""Norms without a learned mean: each divides by what it measures along some axes."""

from collections.abc import Callable

from pipeline.graph.labels import Labelling
from pipeline.graph.normalise.defaults import ALL_BUT_CHANNELS
from pipeline.graph.rules.mixing import mixed
from pipeline.graph.rules.node import Node, Outputs, lock_others, refuse
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
    axes = {int(axis) % labels.ndim for axis in node.attributes.get("axes", ALL_BUT_CHANNELS)}
    met = mixed(node, run, labels, axes, statistics=True)
    return refuse(node, run, "averages over channels that lie on several axes") if met is None else (met,)


RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": rms_norm,
}
