"""Pools: windows of maxima, means and norms, and the global ones."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.conv import CONVOLUTION
from pipeline.autograd.ops.windows import Window, extent, is_symmetric, pad, read_window

MAX_POOL: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOL: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def read_kernel(node: Node) -> tuple[int, ...]:
    kernel = tuple(node.attributes.get("kernel_shape"))
    if len(kernel) not in MAX_POOL:
        raise node.refusal(f"{len(kernel)} spatial axes, where torch has kernels for 1, 2 and 3")
    return kernel


def _torch_pads(padding: Sequence[tuple[int, int]], kernel: Sequence[int]) -> bool:
    """Whether torch's own padding serves: symmetric and at most half the kernel."""
    return is_symmetric(padding) and all(2 * begin <= size for (begin, _), size in zip(padding, kernel, strict=True))


def _overhang(
    spatial: Sequence[int], kernel: Sequence[int], window: Window, padding: Sequence[tuple[int, int]], *, ceil: bool
) -> list[tuple[int, int]]:
    """The padding that makes every window whole: with `ceil`, the last one may hang over, if it starts inside."""
    rank = len(kernel)
    pairs = []
    for size, reach, stride, (begin, end) in zip(
        spatial, extent(kernel, window.dilation(rank)), window.stride(rank), padding, strict=True
    ):
        room = size + begin + end - reach
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (count - 1) * stride >= size + begin:
            count -= 1
        pairs.append((begin, (count - 1) * stride + reach - size - begin))
    return pairs


def _max_pool(node: Node) -> Operation:
    window, kernel, ceil = read_window(node), read_kernel(node), bool(node.attributes.get("ceil_mode", 0))
    rank, indexed = len(kernel), node.wants(1)
    by_columns = bool(node.attributes.get("storage_order", 0))
    stride, dilation, pool = window.stride(rank), window.dilation(rank), MAX_POOL[rank]

    def apply(x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        padding = window.padding(x.shape[2:], kernel)
        result: Tensor
        if indexed:
            whole = _overhang(x.shape[2:], kernel, window, padding, ceil=ceil)
            result, places = pool(pad(x, whole, float("-inf")), kernel, stride, 0, dilation, return_indices=True)
            return result, _in_input(places, x.shape, whole, by_columns=by_columns)
        if not x.is_floating_point():
            return pool_whole(x)
        if _torch_pads(padding, kernel):
            begins = tuple(begin for begin, _ in padding)
            result = pool(x, kernel, stride, begins, dilation, ceil_mode=ceil)
        else:
            whole = _overhang(x.shape[2:], kernel, window, padding, ceil=ceil)
            result = pool(pad(x, whole, float("-inf")), kernel, stride, 0, dilation)
        return result

    def pool_whole(x: Tensor) -> Tensor:
        """Integers of up to 24 bits are exact as floats."""
        wide = apply(x.float())
        assert isinstance(wide, Tensor)
        return wide.to(x.dtype)

    return apply


def _in_input(places: Tensor, shape: Sequence[int], padding: Sequence[tuple[int, int]], *, by_columns: bool) -> Tensor:
    """Positions in each padded image -> positions in the whole input, flattened, as ONNX counts them."""
    spatial = list(shape[2:])
    padded = [size + begin + end for size, (begin, end) in zip(spatial, padding, strict=True)]
    coordinates: list[Tensor] = []
    for size, (begin, _) in zip(reversed(padded), reversed(padding), strict=True):
        coordinates.insert(0, places % size - begin)
        places = torch.div(places, size, rounding_mode="floor")
    flat = torch.zeros_like(places)
    order = reversed(range(len(spatial))) if by_columns else range(len(spatial))
    for axis in order:
        flat = flat * spatial[axis] + coordinates[axis]
    images = torch.arange(shape[0] * shape[1], device=places.device) * math.prod(spatial)
    return flat + images.reshape(shape[0], shape[1], *[1] * len(spatial))


def _window_sum(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Sums over whole windows, as a depthwise convolution with ones; for what torch's own pools lack."""
    channels = x.shape[1]
    ones = torch.ones((channels, 1, *kernel), dtype=x.dtype, device=x.device)
    result: Tensor = CONVOLUTION[len(kernel)](x, ones, None, stride, 0, dilation, channels)
    return result


def _average_pool(node: Node) -> Operation:
    window, kernel, ceil = read_window(node), read_kernel(node), bool(node.attributes.get("ceil_mode", 0))
    count_pad, rank = bool(node.attributes.get("count_include_pad", 0)), len(kernel)
    stride, dilation, pool = window.stride(rank), window.dilation(rank), AVERAGE_POOL[rank]
    dilated = any(step != 1 for step in dilation)

    def apply(x: Tensor) -> Tensor:
        padding = window.padding(x.shape[2:], kernel)
        result: Tensor
        if not dilated and _torch_pads(padding, kernel):
            begins = tuple(begin for begin, _ in padding)
            result = pool(x, kernel, stride, begins, ceil_mode=ceil, count_include_pad=count_pad)
            return result
        whole = _overhang(x.shape[2:], kernel, window, padding, ceil=ceil)
        counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        if count_pad:
            counted = pad(counted, padding, 1.0)
            rest = [(b - begin, e - end) for (b, e), (begin, end) in zip(whole, padding, strict=True)]
            counted = pad(counted, rest)
        else:
            counted = pad(counted, whole)
        return _window_sum(pad(x, whole), kernel, stride, dilation) / _window_sum(counted, kernel, stride, dilation)

    return apply


def _lp_pool(node: Node) -> Operation:
    window, kernel, ceil = read_window(node), read_kernel(node), bool(node.attributes.get("ceil_mode", 0))
    order, rank = node.attributes.get("p", 2), len(kernel)

    def apply(x: Tensor) -> Tensor:
        whole = _overhang(x.shape[2:], kernel, window, window.padding(x.shape[2:], kernel), ceil=ceil)
        powers = pad(x.abs() ** order, whole)
        result: Tensor = _window_sum(powers, kernel, window.stride(rank), window.dilation(rank)) ** (1 / order)
        return result

    return apply


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


def _global_lp_pool(node: Node) -> Operation:
    order = node.attributes.get("p", 2)
    return lambda x: (x.abs() ** order).sum(_spatial(x), keepdim=True) ** (1 / order)


RULES: dict[str, Rule] = {
    "AveragePool": Rule(_average_pool),
    "GlobalAveragePool": Rule(lambda node: lambda x: x.mean(_spatial(x), keepdim=True)),
    "GlobalLpPool": Rule(_global_lp_pool),
    "GlobalMaxPool": Rule(lambda node: lambda x: x.amax(_spatial(x), keepdim=True)),
    "LpPool": Rule(_lp_pool),
    "MaxPool": Rule(_max_pool),
}
