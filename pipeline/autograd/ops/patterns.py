"""Tensors cut to or made in a pattern: triangles, diagonals, centred crops, running sums."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.windows import pad
from pipeline.autograd.sizes import Sizes


def _trilu(node: Node) -> Operation:
    triangle = torch.triu if node.attributes.get("upper", 1) else torch.tril

    def apply(x: Tensor, k: Sizes | None = None) -> Tensor:
        return triangle(x, 0 if k is None else k.ints[0])

    return apply


def _eye_like(node: Node) -> Operation:
    offset, number = node.attributes.get("k", 0), node.attributes.get("dtype")
    if number is not None and number not in TORCH_TYPES:
        raise node.refusal(f"element type {number} of the ONNX enumeration has no torch type to compute with")

    def apply(x: Tensor) -> Tensor:
        rows, columns = (torch.arange(size, device=x.device) for size in x.shape)
        diagonal: Tensor = columns - rows.reshape(-1, 1) == offset
        return diagonal.to(x.dtype if number is None else TORCH_TYPES[number])

    return apply


def _running(function: Callable[[Tensor, int], Tensor], start: int) -> Rule:
    """Running sums or products; `start` is what an exclusive one begins with."""

    def build(node: Node) -> Operation:
        exclusive, reverse = node.attributes.get("exclusive", 0), node.attributes.get("reverse", 0)

        def apply(x: Tensor, axis: Sizes) -> Tensor:
            along = axis.ints[0] % x.dim()
            y = function(x.flip(along) if reverse else x, along).to(x.dtype)
            if exclusive:
                first = torch.full_like(y.narrow(along, 0, 1), start)
                y = torch.cat([first, y.narrow(along, 0, y.shape[along] - 1)], along)
            return y.flip(along) if reverse else y

        return apply

    return Rule(build, sizes=frozenset({1}))


def _center_crop_pad(node: Node) -> Operation:
    chosen = node.attributes.get("axes")

    def apply(x: Tensor, shape: Sizes) -> Tensor:
        amounts = [(0, 0)] * x.dim()
        for axis, want in zip(range(x.dim()) if chosen is None else chosen, shape.ints, strict=True):
            short = abs(want - x.shape[axis])
            begin, end = short // 2, short - short // 2
            # An odd one is padded at the end, and cropped at the end.
            amounts[axis] = (begin, end) if want > x.shape[axis] else (-begin, -end)
        return pad(x, amounts)

    return apply


RULES: dict[str, Rule] = {
    "CenterCropPad": Rule(_center_crop_pad, sizes=frozenset({1})),
    "CumProd": _running(torch.cumprod, 1),
    "CumSum": _running(torch.cumsum, 0),
    "EyeLike": Rule(_eye_like, gradient="none"),
    "Trilu": Rule(_trilu, sizes=frozenset({1})),
}
