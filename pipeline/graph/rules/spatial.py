"""Pooling and resizing: spatial axes change their length, channels stay where they are."""

from pipeline.graph.labels import Labelling, Labels, labelled_axes
from pipeline.graph.rules.movement import count, index_labels
from pipeline.graph.rules.node import Node, like


def spatial(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """Passes labels on axis 1; labels on a spatial axis would be mixed, so they are locked."""
    labels = node.labels(run)
    if labels is None:
        return (None,) * len(node.outputs)
    moved = like(labels, node.output_shape())
    if moved is None or any(axis > 1 for axis in labelled_axes(labels)):
        reason = f"{node.op} ({node.name}) runs over an axis that carries channels"
        run.lock(labels, reason)
        run.pinned[node.outputs[0]] = reason
        return (None,) * len(node.outputs)
    sizes = node.integers(3, "sizes") if node.op == "Resize" else None
    if sizes and len(sizes) == labels.ndim and labelled_axes(labels):
        count(node, run, 3, "sizes", 1, index_labels(labels, 1))
    return (moved,) + (None,) * (len(node.outputs) - 1)


RULES = {
    op: spatial
    for op in (
        "MaxPool",
        "AveragePool",
        "LpPool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GlobalLpPool",
        "Resize",
        "Upsample",
    )
}
