"""Reductions over axes."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.readings import axes_of
from pipeline.autograd.sizes import Sizes

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep) if x.is_floating_point() else x.double().mean(axes, keepdim=keep).to(x.dtype)


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if not x.is_floating_point():
        return x.double().square().sum(axes, keepdim=keep).sqrt().to(x.dtype)
    norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keepdim=keep)  # its gradient at zero is zero, not NaN
    return norm


def _extreme(function: Callable[..., Tensor], *, least: bool) -> Reduction:
    """The extreme of nothing is the type's far end, as ONNX has it."""

    def reduce(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if all(x.shape[axis] for axis in axes):
            result: Tensor = function(x, axes, keepdim=keep)
            return result
        empty = x.sum(axes, keepdim=keep, dtype=x.dtype if x.dtype != torch.bool else torch.int64).to(x.dtype)
        if x.dtype == torch.bool:
            return torch.full_like(empty, least)
        if x.is_floating_point():
            return torch.full_like(empty, float("inf") if least else float("-inf"))
        ends = torch.iinfo(x.dtype)
        return torch.full_like(empty, ends.max if least else ends.min)

    return reduce


def _rule(reduction: Reduction, inputs_from: int) -> Rule:
    """`inputs_from`: the opset since which axes are an input."""

    def build(node: Node) -> Operation:
        keep = bool(node.attributes.get("keepdims", 1))
        idle = bool(node.attributes.get("noop_with_empty_axes", 0))
        if node.opset < inputs_from:
            node.attributes.get("axes")

        def apply(x: Tensor, axes: Sizes | None = None) -> Tensor:
            given = axes_of(node, axes, inputs_from)
            if not given and idle:
                return x
            chosen = [axis % x.dim() for axis in given] if given else list(range(x.dim()))
            return reduction(x, chosen, keep) if chosen else x

        return apply

    return Rule(build, sizes=frozenset({1}))


RULES: dict[str, Rule] = {
    "ReduceL1": _rule(lambda x, axes, keep: _sum(x.abs(), axes, keep), 18),
    "ReduceL2": _rule(_l2, 18),
    "ReduceLogSum": _rule(lambda x, axes, keep: _sum(x, axes, keep).log(), 18),
    "ReduceLogSumExp": _rule(lambda x, axes, keep: torch.logsumexp(x, axes, keep), 18),
    "ReduceMax": _rule(_extreme(torch.amax, least=False), 18),
    "ReduceMean": _rule(_mean, 18),
    "ReduceMin": _rule(_extreme(torch.amin, least=True), 18),
    "ReduceProd": _rule(_product, 18),
    "ReduceSum": _rule(_sum, 13),
    "ReduceSumSquare": _rule(lambda x, axes, keep: _sum(x * x, axes, keep), 18),
}
