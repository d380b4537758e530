"""Reading and writing at indices: gathers, scatters, and what sorts or finds."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.sizes import Sizes

SCATTERS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}  # ONNX's names, torch's names


def counted_from_zero(indices: Tensor, size: int) -> Tensor:
    """Indices as int64, negative ones counted from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _gather_elements(node: Node) -> Operation:
    axis = node.attributes.get("axis", 0)

    def apply(x: Tensor, indices: Tensor) -> Tensor:
        # torch.gather reads within the index's own bounds on the other axes, as ONNX does
        return torch.gather(x, axis, counted_from_zero(indices, x.shape[axis]))

    return apply


def _flat_positions(indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Index tuples (in the last axis) into axes of this shape -> positions in their flattened axis."""
    flat = torch.zeros_like(indices[..., 0], dtype=torch.int64)
    for axis, size in enumerate(shape):
        flat = flat * size + counted_from_zero(indices[..., axis], size)
    return flat


def _gather_nd(node: Node) -> Operation:
    batched = node.attributes.get("batch_dims", 0)

    def apply(x: Tensor, indices: Tensor) -> Tensor:
        depth, lead = indices.shape[-1], x.shape[:batched]
        rest = x.shape[batched + depth :]
        groups = x.reshape(-1, *x.shape[batched:]).flatten(1, depth) if depth else x
        positions = _flat_positions(indices, x.shape[batched : batched + depth])
        positions = positions.reshape(groups.shape[0], -1)
        offsets = torch.arange(groups.shape[0], device=x.device).reshape(-1, 1) * groups.shape[1]
        taken = groups.flatten(0, 1).index_select(0, (positions + offsets).reshape(-1))
        return taken.reshape([*lead, *indices.shape[batched:-1], *rest])

    return apply


def _reduction(node: Node) -> str:
    reduction: str = node.attributes.get("reduction", "none")
    if reduction not in ("none", *SCATTERS):
        raise node.refusal(f"reduction {reduction!r} is unknown")
    return reduction


def _scatter(x: Tensor, axis: int, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, SCATTERS[reduction])


def _scatter_elements(node: Node) -> Operation:
    axis, reduction = node.attributes.get("axis", 0), _reduction(node)

    def apply(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        return _scatter(x, axis, counted_from_zero(indices, x.shape[axis]), updates, reduction)

    return apply


def _scatter_nd(node: Node) -> Operation:
    reduction = _reduction(node)

    def apply(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        rows = x.reshape(-1, *x.shape[depth:]).flatten(1) if depth < x.dim() else x.reshape(-1, 1)
        positions = _flat_positions(indices, x.shape[:depth]).reshape(-1, 1).expand(-1, rows.shape[1])
        return _scatter(rows, 0, positions, updates.reshape(positions.shape), reduction).reshape(x.shape)

    return apply


def _extreme(function: Callable[..., Tensor]) -> Rule:
    """The index of the first extreme, or of the last."""

    def build(node: Node) -> Operation:
        axis, keep = node.attributes.get("axis", 0), bool(node.attributes.get("keepdims", 1))
        last = bool(node.attributes.get("select_last_index", 0))

        def apply(x: Tensor) -> Tensor:
            if not last:
                return function(x, axis, keepdim=keep)
            from_the_end: Tensor = x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)
            return from_the_end

        return apply

    return Rule(build, gradient="none")


def _top_k(node: Node) -> Operation:
    axis, largest = node.attributes.get("axis", -1), bool(node.attributes.get("largest", 1))
    node.attributes.get("sorted")  # sorted results are right either way
    attribute = node.attributes.get("k")

    def apply(x: Tensor, k: Sizes | None = None) -> tuple[Tensor, Tensor]:
        count = attribute if k is None else k.ints[0]
        # Where values are equal, ONNX takes the lower index first: a stable sort does, torch.topk does not.
        order = torch.sort(x, dim=axis, descending=largest, stable=True)
        return order.values.narrow(axis, 0, count), order.indices.narrow(axis, 0, count)

    return apply


def _one_hot(node: Node) -> Operation:
    axis = node.attributes.get("axis", -1)

    def apply(indices: Tensor, depth: Sizes, values: Tensor) -> Tensor:
        count = depth.ints[0]
        at = axis % (indices.dim() + 1)
        positions = torch.arange(count, device=indices.device)
        positions = positions.reshape([-1] + [1] * (indices.dim() - at))
        inside = torch.where(indices < 0, indices + count, indices).unsqueeze(at)
        return torch.where(inside == positions, values[1], values[0])

    return apply


def _compress(node: Node) -> Operation:
    axis = node.attributes.get("axis")

    def apply(x: Tensor, condition: Tensor) -> Tensor:
        chosen = torch.nonzero(condition.reshape(-1)).reshape(-1)
        return x.reshape(-1).index_select(0, chosen) if axis is None else x.index_select(axis, chosen)

    return apply


def _unique(node: Node) -> Operation:
    axis, ordered = node.attributes.get("axis"), bool(node.attributes.get("sorted", 1))

    def apply(x: Tensor) -> tuple[Tensor, ...]:
        along = x.reshape(-1) if axis is None else x
        dim = 0 if axis is None else axis
        _, inverse, counts = torch.unique(along, sorted=True, return_inverse=True, return_counts=True, dim=dim)
        places = torch.arange(inverse.shape[0], device=x.device)
        first = torch.full_like(counts, inverse.shape[0]).scatter_reduce(0, inverse, places, "amin")
        if not ordered:  # in the order of their first appearance
            order = torch.argsort(first)
            first, counts = first[order], counts[order]
            inverse = torch.argsort(order)[inverse]
        return along.index_select(dim, first), first, inverse, counts  # the gradient goes to the first of equals

    return apply


def _reverse_sequence(node: Node) -> Operation:
    batch_axis, time_axis = node.attributes.get("batch_axis", 1), node.attributes.get("time_axis", 0)
    return lambda x, lengths: reversed_within(x, lengths, batch_axis % x.dim(), time_axis % x.dim())


def reversed_within(x: Tensor, lengths: Tensor, batch_axis: int, time_axis: int) -> Tensor:
    """x with the first `lengths` entries of each batch element reversed in time, the rest as they are."""
    times = torch.arange(x.shape[time_axis], device=x.device)
    positions = torch.where(times < lengths.reshape(-1, 1), lengths.reshape(-1, 1) - 1 - times, times)  # batch, time
    shape = [1] * x.dim()
    shape[batch_axis], shape[time_axis] = positions.shape
    positions = positions if batch_axis < time_axis else positions.t()
    return torch.gather(x, time_axis, positions.reshape(shape).expand_as(x))


RULES: dict[str, Rule] = {
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "Compress": Rule(_compress),
    "GatherElements": Rule(_gather_elements),
    "GatherND": Rule(_gather_nd),
    "NonZero": Rule(lambda node: lambda x: torch.nonzero(x).t(), gradient="none"),
    "OneHot": Rule(_one_hot, sizes=frozenset({1})),
    "ReverseSequence": Rule(_reverse_sequence),
    "Scatter": Rule(_scatter_elements),
    "ScatterElements": Rule(_scatter_elements),
    "ScatterND": Rule(_scatter_nd),
    "TopK": Rule(_top_k, sizes=frozenset({1})),
    "Unique": Rule(_unique),
}
