"""Ops that change shape or type, and those that speak of it."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.dtypes import torch_dtype
from pipeline.autograd.node import Mode, Node, Operation, Rule
from pipeline.autograd.readings import axes_of, cast_target, slice_bounds, split_lengths, target_shape
from pipeline.autograd.sizes import Sizes, product_of


def _reshape(node: Node) -> Operation:
    allow_zero, attribute = bool(node.attributes.get("allowzero", 0)), node.attributes.get("shape")

    def apply(x: Tensor, shape: Sizes | None = None) -> Tensor:
        target = attribute if shape is None else shape.ints
        return x.reshape(target_shape(x.shape, target, allow_zero=allow_zero))

    return apply


def _flatten(node: Node) -> Operation:
    axis = node.attributes.get("axis", 1)

    def apply(x: Tensor) -> Tensor:
        first = axis + x.dim() if axis < 0 else axis
        if first == 1:
            return x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)
        return x.reshape(product_of(x.shape[:first]), product_of(x.shape[first:]))

    return apply


def _transpose(node: Node) -> Operation:
    permutation = node.attributes.get("perm")
    return lambda x: x.permute(permutation or tuple(reversed(range(x.dim()))))


def _squeeze(node: Node) -> Operation:
    node.attributes.get("axes")

    def apply(x: Tensor, axes: Sizes | None = None) -> Tensor:
        chosen = axes_of(node, axes, 13)
        return x.squeeze() if chosen is None else x.squeeze(chosen)

    return apply


def _unsqueeze(node: Node) -> Operation:
    node.attributes.get("axes")

    def apply(x: Tensor, axes: Sizes | None = None) -> Tensor:
        chosen = axes_of(node, axes, 13) or ()
        rank = x.dim() + len(chosen)
        for axis in sorted(axis % rank for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return apply


def _concat(node: Node) -> Operation:
    axis = node.attributes.get("axis", 1)
    return lambda *parts: torch.cat(parts, axis)


def _split(node: Node) -> Operation:
    axis, outputs, attribute = node.attributes.get("axis", 0), len(node.outputs), node.attributes.get("split")
    node.attributes.get("num_outputs")  # the node's outputs say it

    def apply(x: Tensor, split: Sizes | None = None) -> tuple[Tensor, ...]:
        lengths = attribute if split is None else split.ints
        if lengths is None:
            lengths = split_lengths(x.shape[axis], outputs)
        return tuple(torch.split(x, list(lengths), axis))

    return apply


def _slice(node: Node) -> Operation:
    for name in ("starts", "ends", "axes"):
        node.attributes.get(name)

    def apply(x: Tensor, *bounds: Sizes | None) -> Tensor:
        for axis, start, end, step in slice_bounds(node, bounds):
            if step > 0:
                index = [slice(None)] * (axis % x.dim()) + [slice(start, end, step)]
                x = x[tuple(index)]
            else:
                chosen = range(*slice(start, None if end < -x.shape[axis] else end, step).indices(x.shape[axis]))
                x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64, device=x.device))
        return x

    return apply


def _gather(node: Node) -> Operation:
    axis = node.attributes.get("axis", 0)

    def apply(x: Tensor, indices: Tensor) -> Tensor:
        along = axis % x.dim()
        flat = indices.reshape(-1).long()
        flat = torch.where(flat < 0, flat + x.shape[along], flat)
        return x.index_select(along, flat).reshape([*x.shape[:along], *indices.shape, *x.shape[along + 1 :]])

    return apply


def _expand(node: Node) -> Operation:
    def apply(x: Tensor, shape: Sizes) -> Tensor:
        target = list(shape.ints)
        missing = x.dim() - len(target)
        target = [1] * missing + target if missing > 0 else target
        have = [1] * (len(target) - x.dim()) + list(x.shape)
        return x.expand([size if want == 1 else want for want, size in zip(target, have, strict=True)])

    return apply


def _dropout(node: Node) -> Operation:
    attribute = node.attributes.get("ratio", 0.5)
    node.attributes.get("seed")  # torch's own generator is used
    node.attributes.get("is_test")  # before opset 7: train() and eval() decide
    masked, wide = node.wants(1), node.opset >= 10  # before, the mask has the type of x

    def apply(mode: Mode, x: Tensor, ratio: Sizes | None = None, training_mode: Sizes | None = None) -> Any:
        share = ratio.floats[0] if ratio is not None else (attribute if node.opset < 12 else 0.5)
        if not masked:
            return F.dropout(x, share, mode.training)
        kept = torch.ones_like(x, dtype=torch.bool)
        if mode.training:
            kept = torch.rand_like(x, dtype=torch.float32) >= share
            x = x * kept / (1 - share) if share < 1 else x * 0
        return x, kept if wide else kept.to(x.dtype)

    return apply


def _depth_to_space(node: Node) -> Operation:
    block, mode = node.attributes.get("blocksize"), node.attributes.get("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise node.refusal(f"mode {mode!r} is unknown")

    def apply(x: Tensor) -> Tensor:
        if mode == "CRD":
            return F.pixel_shuffle(x, block)
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, block, block, channels // block**2, height, width)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // block**2, height * block, width * block)

    return apply


def _space_to_depth(node: Node) -> Operation:
    block, mode = node.attributes.get("blocksize"), node.attributes.get("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise node.refusal(f"mode {mode!r} is unknown")

    def apply(x: Tensor) -> Tensor:
        if mode == "CRD":
            return F.pixel_unshuffle(x, block)
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // block, block, width // block, block)
        return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * block**2, height // block, width // block)

    return apply


def _shape(node: Node) -> Operation:
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return lambda x: Sizes.of_shape(x.shape[start:end])


def _size(node: Node) -> Operation:
    return lambda x: Sizes((), (product_of(x.shape),), torch.int64)


def _constant_of_shape(node: Node) -> Operation:
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    dtype = torch_dtype(value.dtype)
    return lambda shape: torch.full(shape.ints, value.item(), dtype=dtype)


def _range(node: Node) -> Operation:
    def apply(start: Sizes, limit: Sizes, delta: Sizes) -> Tensor:
        bounds = [entry.entries[0] for entry in (start, limit, delta)]
        return torch.arange(*bounds, dtype=start.dtype)

    return apply


def _cast(node: Node) -> Operation:
    dtype = cast_target(node)
    return lambda x: x.to(dtype)


def _cast_like(node: Node) -> Operation:
    node.attributes.get("saturate")  # concerns float8 only
    node.attributes.get("round_mode")  # concerns float8 only
    return lambda x, other: x.to(other.dtype)


def _identity(x: Any) -> Any:
    return x


RULES: dict[str, Rule] = {
    "Cast": Rule(_cast),
    "CastLike": Rule(_cast_like),
    "Concat": Rule(_concat),
    "ConstantOfShape": Rule(_constant_of_shape, sizes=frozenset({0}), gradient="none"),
    "DepthToSpace": Rule(_depth_to_space),
    "Dropout": Rule(_dropout, sizes=frozenset({1, 2}), trains=True),
    "Expand": Rule(_expand, sizes=frozenset({1})),
    "Flatten": Rule(_flatten),
    "Gather": Rule(_gather),
    "Identity": Rule(lambda node: _identity),
    "Range": Rule(_range, sizes=frozenset({0, 1, 2}), gradient="none"),
    "Reshape": Rule(_reshape, sizes=frozenset({1})),
    "Shape": Rule(_shape, gradient="none"),
    "Size": Rule(_size, gradient="none"),
    "Slice": Rule(_slice, sizes=frozenset({1, 2, 3, 4})),
    "SpaceToDepth": Rule(_space_to_depth),
    "Split": Rule(_split, sizes=frozenset({1})),
    "Squeeze": Rule(_squeeze, sizes=frozenset({1})),
    "Tile": Rule(lambda node: lambda x, repeats: x.repeat(repeats.ints), sizes=frozenset({1})),
    "Transpose": Rule(_transpose),
    "Unsqueeze": Rule(_unsqueeze, sizes=frozenset({1})),
}
