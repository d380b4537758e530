"""Convolutions: Conv and ConvTranspose over one, two or three spatial axes."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.windows import Window, extent, is_symmetric, pad, read_window

CONVOLUTION: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _check_rank(node: Node, rank: int) -> int:
    if rank not in CONVOLUTION:
        raise node.refusal(f"{rank} spatial axes, where torch has kernels for 1, 2 and 3")
    return rank


def _check_kernel(node: Node) -> None:
    """The weight says the kernel's shape; the attribute, where given, says its rank before any weight is seen."""
    kernel = node.attributes.get("kernel_shape")
    if kernel is not None:
        _check_rank(node, len(kernel))


def build_convolution(node: Node) -> Operation:
    window, groups = read_window(node), node.attributes.get("group", 1)
    _check_kernel(node)

    def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = _check_rank(node, weight.dim() - 2)
        padding = window.padding(x.shape[2:], weight.shape[2:])
        begins: tuple[int, ...] = tuple(begin for begin, _ in padding)
        if not is_symmetric(padding):
            x, begins = pad(x, padding), (0,) * rank
        convolve = CONVOLUTION[rank]
        result: Tensor = convolve(x, weight, bias, window.stride(rank), begins, window.dilation(rank), groups)
        return result

    return apply


def _conv_transpose(node: Node) -> Operation:
    window, groups = read_window(node), node.attributes.get("group", 1)
    output_padding, output_shape = node.attributes.get("output_padding"), node.attributes.get("output_shape")
    _check_kernel(node)

    def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = _check_rank(node, weight.dim() - 2)
        strides, dilations = window.stride(rank), window.dilation(rank)
        more = tuple(output_padding or (0,) * rank)
        reach = extent(weight.shape[2:], dilations)
        full = [(size - 1) * s + r + m for size, s, r, m in zip(x.shape[2:], strides, reach, more, strict=True)]
        crop = _crop(full, x.shape[2:], strides, output_shape, window)
        more = tuple(m + max(-(begin + end), 0) for m, (begin, end) in zip(more, crop, strict=True))
        crop = [pair if sum(pair) >= 0 else (0, 0) for pair in crop]
        convolve = TRANSPOSED[rank]
        if is_symmetric(crop):
            begins = tuple(begin for begin, _ in crop)
            native: Tensor = convolve(x, weight, bias, strides, begins, more, groups, dilations)
            return native
        whole: Tensor = convolve(x, weight, bias, strides, 0, more, groups, dilations)
        return pad(whole, [(-begin, -end) for begin, end in crop])

    return apply


def _crop(
    full: Sequence[int],
    spatial: Sequence[int],
    strides: Sequence[int],
    output_shape: Sequence[int] | None,
    window: Window,
) -> list[tuple[int, int]]:
    """What to take off the full transposed convolution at (begin, end) of each axis (negative sums: missing)."""
    rank = len(full)
    if output_shape is None:
        if window.auto_pad in ("NOTSET", "VALID"):
            given = window.pads if window.auto_pad == "NOTSET" and window.pads else (0,) * (2 * rank)
            return list(zip(given[:rank], given[rank:], strict=True))
        output_shape = [size * stride for size, stride in zip(spatial, strides, strict=True)]
    pairs = []
    for have, want in zip(full, output_shape[-rank:], strict=True):
        total = have - want
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if window.auto_pad == "SAME_UPPER" else (large, small))
    return pairs


def _causal_conv(node: Node) -> Operation:
    activation = node.attributes.get("activation", "none")
    if activation not in ("none", "silu", "swish"):
        raise node.refusal(f"activation {activation!r} is unknown")

    def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None) -> tuple[Tensor, ...]:
        reach = weight.shape[2] - 1
        whole = F.pad(x, (reach, 0)) if past is None else torch.cat([past, x], 2)
        y = F.conv1d(whole, weight, bias, groups=weight.shape[0])
        return y if activation == "none" else F.silu(y), whole[:, :, whole.shape[2] - reach :]

    return apply


RULES: dict[str, Rule] = {
    "CausalConvWithState": Rule(_causal_conv),
    "Conv": Rule(build_convolution),
    "ConvTranspose": Rule(_conv_transpose),
}
