"""Convolutions and products of integers; evaluated, without gradients."""

import torch
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.conv import build_convolution

WHOLE = {torch.uint8: (0, 255), torch.int8: (-128, 127)}


def _exact(x: Tensor, zero: Tensor | None, *, rows: bool = False) -> Tensor:
    """Integers less their zero point, as doubles, which hold every sum of such products exactly."""
    wide = x.double()
    if zero is None:
        return wide
    offset = zero.double()
    if offset.dim() == 0 or offset.numel() == 1:
        return wide - offset.reshape(())
    return wide - (offset.unsqueeze(-1) if rows and offset.dim() == 1 else offset)


def _per_filter(entry: Tensor, rank: int) -> Tensor:
    return entry.reshape(-1, *[1] * (rank - 1)) if entry.numel() > 1 else entry.reshape(())


def _to_range(x: Tensor, zero: Tensor) -> Tensor:
    low, high = WHOLE[zero.dtype]
    return torch.clamp(torch.round(x) + zero.double(), low, high).to(zero.dtype)


def _conv_integer(node: Node) -> Operation:
    convolve = build_convolution(node)

    def apply(x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
        shifted = w.double() if w_zero is None else w.double() - _per_filter(w_zero.double(), w.dim())
        sums: Tensor = convolve(_exact(x, x_zero), shifted)
        return sums.to(torch.int32)

    return apply


def _qlinear_conv(node: Node) -> Operation:
    convolve = build_convolution(node)

    def apply(
        x: Tensor,
        x_scale: Tensor,
        x_zero: Tensor,
        w: Tensor,
        w_scale: Tensor,
        w_zero: Tensor,
        y_scale: Tensor,
        y_zero: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        shifted = w.double() - _per_filter(w_zero.double(), w.dim())
        sums = convolve(_exact(x, x_zero), shifted, None if bias is None else bias.double())
        scale = (x_scale.double() * w_scale.double() / y_scale.double()).reshape(1, -1, *[1] * (w.dim() - 2))
        return _to_range(sums * scale, y_zero)

    return apply


def _matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    return torch.matmul(_exact(a, a_zero, rows=True), _exact(b, b_zero)).to(torch.int32)


def _qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    rows = a_scale.double().unsqueeze(-1) if a_scale.dim() == 1 and a_scale.numel() > 1 else a_scale.double()
    product = torch.matmul(_exact(a, a_zero, rows=True), _exact(b, b_zero))
    return _to_range(product * (rows * b_scale.double() / y_scale.double()), y_zero)


RULES: dict[str, Rule] = {
    "ConvInteger": Rule(_conv_integer, since=10, gradient="none"),
    "MatMulInteger": Rule(lambda node: _matmul_integer, since=10, gradient="none"),
    "QLinearConv": Rule(_qlinear_conv, since=10, gradient="none"),
    "QLinearMatMul": Rule(lambda node: _qlinear_matmul, since=10, gradient="none"),
}
