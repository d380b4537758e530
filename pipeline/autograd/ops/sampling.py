"""Reading images at computed places: GridSample, AffineGrid, DeformConv."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.windows import read_window

GRID_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}
PADDINGS = ("zeros", "border", "reflection")


def _grid_sample(node: Node) -> Operation:
    mode, padding = node.attributes.get("mode", "linear"), node.attributes.get("padding_mode", "zeros")
    corners = bool(node.attributes.get("align_corners", 0))
    if mode not in GRID_MODES or padding not in PADDINGS:
        raise node.refusal(f"mode {mode!r} with padding_mode {padding!r} is unknown")

    def apply(x: Tensor, grid: Tensor) -> Tensor:
        if x.dim() not in (4, 5) or (x.dim() == 5 and GRID_MODES[mode] == "bicubic"):
            raise node.refusal(f"mode {mode!r} over {x.dim() - 2} spatial axes")
        return F.grid_sample(x, grid.to(x.dtype), GRID_MODES[mode], padding, corners)

    return apply


def _affine_grid(node: Node) -> Operation:
    corners = bool(node.attributes.get("align_corners", 0))
    return lambda theta, size: F.affine_grid(theta, list(size.ints), align_corners=corners)


def read_between(x: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Linear interpolation of x (batch, channels, *spatial) at `places` (batch, *any), in pixels, one per spatial axis.

    Pixels outside the image are zero. -> (batch, channels, *any).
    """
    batch, channels, *spatial = x.shape
    low = [torch.floor(place) for place in places]
    shape = places[0].shape
    total = x.new_zeros((batch, channels, *shape[1:]))
    for corner in itertools.product((0, 1), repeat=len(spatial)):
        flat = torch.zeros(shape, dtype=torch.int64, device=x.device)
        weight = torch.ones(shape, dtype=x.dtype, device=x.device)
        for place, floor, step, size in zip(places, low, corner, spatial, strict=True):
            at = floor + step
            weight = weight * (1 - (place - at).abs()) * ((at >= 0) & (at < size))
            flat = flat * size + at.clamp(0, size - 1).long()
        flat = flat.reshape(batch, 1, -1).expand(-1, channels, -1)
        total = total + torch.gather(x.flatten(2), 2, flat).reshape(total.shape) * weight.unsqueeze(1)
    return total


def _deform_conv(node: Node) -> Operation:
    window, groups = read_window(node), node.attributes.get("group", 1)
    offset_groups = node.attributes.get("offset_group", 1)
    node.attributes.get("kernel_shape")  # the weight says it

    def apply(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        batch, channels, *spatial = x.shape
        kernel, out, rank = weight.shape[2:], offset.shape[2:], len(spatial)
        taps = list(itertools.product(*[range(size) for size in kernel]))
        offset = offset.reshape(batch * offset_groups, len(taps), rank, *out)
        places = []
        for axis in range(rank):
            stride, step = window.stride(rank)[axis], window.dilation(rank)[axis]
            begin = window.padding(spatial, kernel)[axis][0]
            shape = [1] * (2 + rank)
            shape[2 + axis] = -1
            grid = (torch.arange(out[axis], device=x.device) * stride - begin).reshape(shape)
            at = torch.tensor([tap[axis] * step for tap in taps], device=x.device).reshape(1, -1, *[1] * rank)
            places.append((grid + at).to(x.dtype) + offset[:, :, axis])
        image = x.reshape(batch * offset_groups, channels // offset_groups, *spatial)
        read = read_between(image, places)  # batch x offset groups, channels of one, taps, *out
        if mask is not None:
            read = read * mask.reshape(batch * offset_groups, 1, len(taps), *out)
        columns = read.reshape(batch, groups, channels // groups * len(taps), -1)
        rows = weight.reshape(groups, weight.shape[0] // groups, -1)
        y = torch.matmul(rows, columns).reshape(batch, weight.shape[0], *out)
        return y if bias is None else y + bias.reshape(1, -1, *[1] * rank)

    return apply


RULES: dict[str, Rule] = {
    "AffineGrid": Rule(_affine_grid, sizes=frozenset({1})),
    "DeformConv": Rule(_deform_conv),
    "GridSample": Rule(_grid_sample),
}
