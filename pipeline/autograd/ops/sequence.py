"""Sequences of tensors, as Python lists."""

import torch
from torch import Tensor

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.sizes import Sizes

Sequence = list[Tensor]


def _empty(node: Node) -> Operation:
    node.attributes.get("dtype", next(iter(TORCH_TYPES)))  # nothing has no type
    return list


def _insert(node: Node) -> Operation:
    def apply(sequence: Sequence, entry: Tensor, at: Sizes | None = None) -> Sequence:
        position = len(sequence) if at is None else at.ints[0]
        position = position + len(sequence) if position < 0 else position
        return [*sequence[:position], entry, *sequence[position:]]

    return apply


def _erase(node: Node) -> Operation:
    def apply(sequence: Sequence, at: Sizes | None = None) -> Sequence:
        position = (-1 if at is None else at.ints[0]) % len(sequence)
        return [*sequence[:position], *sequence[position + 1 :]]

    return apply


def _split(node: Node) -> Operation:
    axis, keep = node.attributes.get("axis", 0), bool(node.attributes.get("keepdims", 1))

    def apply(x: Tensor, split: Sizes | None = None) -> Sequence:
        size = x.shape[axis]
        if split is None:
            parts = torch.split(x, 1, axis)
            return list(parts) if keep else [part.squeeze(axis) for part in parts]
        if split.shape:
            return list(torch.split(x, list(split.ints), axis))
        return list(torch.split(x, split.ints[0], axis)) if size else [x]

    return apply


def _concat(node: Node) -> Operation:
    axis, new = node.attributes.get("axis"), bool(node.attributes.get("new_axis", 0))
    return lambda sequence: torch.stack(sequence, axis) if new else torch.cat(sequence, axis)


def _length(sequence: Sequence) -> Sizes:
    return Sizes((), (len(sequence),), torch.int64)


RULES: dict[str, Rule] = {
    "ConcatFromSequence": Rule(_concat),
    "SequenceAt": Rule(lambda node: lambda sequence, at: sequence[at.ints[0]], sizes=frozenset({1})),
    "SequenceConstruct": Rule(lambda node: lambda *entries: list(entries)),
    "SequenceEmpty": Rule(_empty, gradient="none"),
    "SequenceErase": Rule(_erase, sizes=frozenset({1})),
    "SequenceInsert": Rule(_insert, sizes=frozenset({2})),
    "SequenceLength": Rule(lambda node: _length, gradient="none"),
    "SplitToSequence": Rule(_split, sizes=frozenset({1})),
}
