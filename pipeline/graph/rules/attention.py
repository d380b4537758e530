"""Attention as one operator: heads do not see each other, so whole heads can go."""

from collections.abc import Callable

import numpy as np

from pipeline.graph.labels import Labelling, Labels, SizeEdit, Use, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, lock_others, refuse

MASK = 3
NAMES = ("query", "key", "value")


def attention(node: Node, run: Labelling) -> Outputs:
    """Whole heads go, from query, key, value and output at once: (N, length, heads * size) or (N, heads, length, size).

    The size of a head stays, since the scale hangs on it.
    """
    if all(node.labels(run, number) is None for number in range(len(node.inputs))):
        return (None,) * len(node.outputs)
    if any(node.has(number) for number in (4, 5, 6)) or any(node.outputs[1:]):
        return refuse(node, run, "carries keys and values from call to call, or shows its inside")
    found = [_heads(node, run, number, f"{'q' if number == 0 else 'kv'}_num_heads") for number in range(3)]
    shape = node.output_shape()
    missing = [name for name, blocks in zip(NAMES, found, strict=True) if blocks is None]
    if shape is None or missing:
        return refuse(node, run, f"has a fixed {missing[0]}" if missing else "makes a shape that is not known")
    query, key, value = (blocks for blocks in found if blocks is not None)
    if not len(query) == len(key) == len(value):
        return refuse(node, run, "shares keys and values among heads")
    for blocks in (query, key, value):
        run.classes.unite(query[:, :1], blocks)
    if len(shape) == 3:
        for attribute in ("q_num_heads", "kv_num_heads"):
            run.sizes.append(SizeEdit(node.name, ("attribute", attribute), None, query[:, :1]))
    _mask(node, run, query[:, 0])
    line = (1, 1, -1) if len(shape) == 3 else (1, -1, 1, 1)
    return (np.broadcast_to(value.reshape(line), shape),)


def _heads(node: Node, run: Labelling, number: int, attribute: str) -> Labels | None:
    """(heads, labels of each) of an input; None where nobody may cut it."""
    labels = node.labels(run, number)
    if labels is None:
        return None
    if labels.ndim == 3:
        heads = int(node.attributes[attribute])
        return run.along(labels, 2).reshape(heads, -1) if labelled_axes(labels) == (2,) else None
    return run.along(labels, 1).reshape(-1, 1) if 1 in labelled_axes(labels) else None


def _mask(node: Node, run: Labelling, heads: Labels) -> None:
    """A bias of its own for every head goes with the head."""
    shape = node.input_shape(MASK)
    lock_others(node, run, first=MASK)
    if shape is not None and len(shape) > 2 and shape[-3] > 1:
        if node.is_constant(MASK):
            run.uses.append(Use(node.inputs[MASK], len(shape) - 3, heads, "rides"))
        else:
            run.lock(heads, f"{node.op} ({node.name}) adds {node.inputs[MASK]!r} to the scores of its heads")


def rotary(node: Node, run: Labelling) -> Outputs:
    """RotaryEmbedding turns pairs inside each head by angles that all heads share: whole heads go."""
    lock_others(node, run)
    if node.labels(run) is None:
        return (None,)
    heads, shape = _heads(node, run, 0, "num_heads"), node.output_shape()
    if heads is None or shape is None:
        return refuse(node, run, "turns pairs of channels inside a head")
    run.classes.unite(heads[:, :1], heads)
    if len(shape) == 3:
        run.sizes.append(SizeEdit(node.name, ("attribute", "num_heads"), None, heads[:, :1]))
    return (np.broadcast_to(heads.reshape((1, 1, -1) if len(shape) == 3 else (1, -1, 1, 1)), shape),)


RULES: dict[str, Callable[[Node, Labelling], Outputs]] = {"Attention": attention, "RotaryEmbedding": rotary}
