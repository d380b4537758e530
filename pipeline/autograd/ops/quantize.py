"""Quantisation and its way back; between the two the rounding counts as the identity (a straight-through gradient).

Values that only move between QuantizeLinear and DequantizeLinear stay floats that hold whole numbers
(pipeline.autograd.quantized). Inside the range gradients pass, outside none does (Bengio, Leonard, Courville 2013);
the scale gets the gradient that follows (Esser et al. 2020, without their scaling of it).
"""

import onnx
import torch
from torch import Tensor

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Node, Operation, Rule

WHOLE = {
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.int16: (-32768, 32767),
    torch.int32: (-(2**31), 2**31 - 1),
}


def rounded(x: Tensor) -> Tensor:
    """Rounded half to even; the gradient is that of x."""
    return x + (torch.round(x) - x).detach()


def _blocks(entry: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point in x's shape: for all, per index of `axis`, or per block along it."""
    if entry.numel() == 1 and not block:
        return entry.reshape(())
    if block:
        spread = entry.repeat_interleave(block, axis)
        return spread.narrow(axis, 0, x.shape[axis])
    shape = [1] * x.dim()
    shape[axis] = -1
    return entry.reshape(shape)


def _quantize(node: Node) -> Operation:
    get = node.attributes.get
    axis, block, number = get("axis", 1), get("block_size", 0), get("output_dtype", 0)
    get("saturate")  # concerns float8 only
    precision = get("precision", 0)
    if number and TORCH_TYPES.get(number) not in WHOLE:
        raise node.refusal(f"element type {onnx.TensorProto.DataType.Name(number)} as the quantised one")
    if precision and precision not in TORCH_TYPES:
        raise node.refusal(f"precision {precision} of the ONNX enumeration has no torch type to compute with")

    def apply(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        dtype = TORCH_TYPES[number] if number else (torch.uint8 if zero is None else zero.dtype)
        if dtype not in WHOLE:
            raise node.refusal(f"element type {dtype} as the quantised one")
        low, high = WHOLE[dtype]
        along = axis % max(x.dim(), 1)
        wide = x.to(TORCH_TYPES[precision]) if precision else (x if x.is_floating_point() else x.float())
        steps = rounded(wide / _blocks(scale.to(wide.dtype), x, along, block))
        if zero is not None:
            steps = steps + _blocks(zero, x, along, block).to(steps.dtype)
        clipped = torch.clamp(steps, low, high)
        return clipped if node.carried else clipped.to(dtype)

    return apply


def _dequantize(node: Node) -> Operation:
    axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
    number = node.attributes.get("output_dtype", 0)
    if number and number not in TORCH_TYPES:
        raise node.refusal(f"element type {number} of the ONNX enumeration has no torch type to compute with")

    def apply(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        along = axis % max(x.dim(), 1)
        steps = (
            x.to(scale.dtype) if zero is None else x.to(scale.dtype) - _blocks(zero, x, along, block).to(scale.dtype)
        )
        y = steps * _blocks(scale, x, along, block)
        return y.to(TORCH_TYPES[number]) if number else y

    return apply


def _dynamic(node: Node) -> Operation:
    """The range is that of the values and zero; what is quantised is integers, so no gradient passes."""

    def apply(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        scale = (high - low) / 255
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        zero = torch.clamp(torch.round(-low / scale), 0, 255)
        y = torch.clamp(torch.round(x / scale) + zero, 0, 255)
        return y.to(torch.uint8), scale, zero.to(torch.uint8)

    return apply


STRAIGHT = "rounding counts as the identity where only DequantizeLinear reads it in the end, else no gradient passes"
RULES: dict[str, Rule] = {
    "DequantizeLinear": Rule(_dequantize, since=10),
    "DynamicQuantizeLinear": Rule(_dynamic, since=11, gradient="none"),
    "QuantizeLinear": Rule(_quantize, since=10, gradient="straight-through", remark=STRAIGHT),
}
