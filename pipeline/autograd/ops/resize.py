"""Resize and Upsample: all coordinate modes share one path, and torch's own kernels serve where they mean the same."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.ops.interpolation import COORDINATES, NEAREST, Interpolation
from pipeline.autograd.sizes import Sizes

WHOLE = (0.0, 1.0)
POLICIES = {"not_larger": min, "not_smaller": max}
# Where every input pixel is repeated a whole number of times, as torch does it.
REPEATING = {
    ("asymmetric", "floor"),
    ("asymmetric", "simple"),
    ("half_pixel", "round_prefer_ceil"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel_symmetric", "round_prefer_ceil"),
    ("half_pixel_symmetric", "round_prefer_floor"),
    ("pytorch_half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_floor"),
    ("tf_half_pixel_for_nn", "floor"),
}


class Change(NamedTuple):
    """What happens to one axis."""

    axis: int
    scale: float
    out: int
    roi: tuple[float, float] = WHOLE


def _read(node: Node) -> Interpolation:
    get, legacy = node.attributes.get, node.opset < 11
    how = Interpolation(
        mode=get("mode", "nearest"),
        coordinates=get("coordinate_transformation_mode", "asymmetric" if legacy else "half_pixel"),
        nearest=get("nearest_mode", "simple" if legacy else "round_prefer_floor"),
        cubic=get("cubic_coeff_a", -0.75),
        exclude_outside=bool(get("exclude_outside", 0)),
        antialias=bool(get("antialias", 0)),
        extrapolation=get("extrapolation_value", 0.0),
    )
    for what, value, known in (
        ("mode", how.mode, ("nearest", "linear", "cubic")),
        ("coordinate_transformation_mode", how.coordinates, COORDINATES),
        ("nearest_mode", how.nearest, NEAREST),
    ):
        if value not in known:
            raise node.refusal(f"{what} {value!r} is unknown")
    return how


def scaled(size: int, factor: float) -> int:
    """The output's size; whole factors keep symbolic sizes whole."""
    return size * int(factor) if factor == int(factor) else math.floor(size * factor)


def _apply(x: Tensor, changes: Sequence[Change], how: Interpolation) -> Tensor:
    native = _native(x, changes, how)
    if native is not None:
        return native
    for axis, scale, out, roi in changes:
        x = how.along(x, axis, out, scale, roi)
    return x


def _native(x: Tensor, changes: Sequence[Change], how: Interpolation) -> Tensor | None:
    """Torch's own kernel for images, where it computes the same; else None."""
    if x.dim() != 4 or not changes or any(change.axis < 2 for change in changes):
        return None
    if how.exclude_outside or how.antialias or not x.is_floating_point():
        return None
    whole = all(change.scale == int(change.scale) for change in changes)
    if not whole and any(change.out != x.shape[change.axis] * change.scale for change in changes):
        return None  # torch takes the scale from the sizes
    size = [x.shape[2], x.shape[3]]
    for change in changes:
        size[change.axis - 2] = change.out
    if how.mode == "nearest":
        return F.interpolate(x, size, mode="nearest") if whole and (how.coordinates, how.nearest) in REPEATING else None
    if (how.mode == "cubic" and how.cubic != -0.75) or how.coordinates not in ("half_pixel", "align_corners"):
        return None
    mode = {"linear": "bilinear", "cubic": "bicubic"}[how.mode]
    return F.interpolate(x, size, mode=mode, align_corners=how.coordinates == "align_corners")


def _resize(node: Node) -> Operation:
    how = _read(node)
    chosen, policy = node.attributes.get("axes"), node.attributes.get("keep_aspect_ratio_policy", "stretch")
    if policy not in ("stretch", *POLICIES):
        raise node.refusal(f"keep_aspect_ratio_policy {policy!r} is unknown")
    crops = how.coordinates == "tf_crop_and_resize"

    def apply(x: Tensor, roi: Sizes | None, scales: Sizes | None = None, sizes: Sizes | None = None) -> Tensor:
        axes = list(range(x.dim())) if chosen is None else [axis % x.dim() for axis in chosen]
        factors: list[float]
        if scales is not None and scales.floats:
            factors = list(scales.floats)
            outs = [scaled(x.shape[axis], factor) for axis, factor in zip(axes, factors, strict=True)]
        else:
            assert sizes is not None  # the schema asks for one of the two
            outs = list(sizes.ints)
            factors = [out / x.shape[axis] for axis, out in zip(axes, outs, strict=True)]
            if policy != "stretch":
                factors = [POLICIES[policy](factors)] * len(axes)
                outs = [math.floor(x.shape[a] * factor + 0.5) for a, factor in zip(axes, factors, strict=True)]
        regions = [WHOLE] * len(axes)
        if crops and roi is not None and roi.floats:
            regions = list(zip(roi.floats[: len(axes)], roi.floats[len(axes) :], strict=True))
        changes = [Change(*change) for change in zip(axes, factors, outs, regions, strict=True)]
        return _apply(x, [change for change in changes if change.scale != 1.0 or change.roi != WHOLE], how)

    return apply if node.opset >= 11 else lambda x, scales: apply(x, None, scales)


def _upsample(node: Node) -> Operation:
    mode, attribute = node.attributes.get("mode", "nearest"), node.attributes.get("scales")
    how = Interpolation(mode, "asymmetric", "floor")
    if mode not in ("nearest", "linear"):
        raise node.refusal(f"mode {mode!r} is unknown")

    def apply(x: Tensor, scales: Sizes | None = None) -> Tensor:
        factors = list(attribute if scales is None else scales.floats)
        changes = [Change(axis, factor, scaled(x.shape[axis], factor)) for axis, factor in enumerate(factors)]
        return _apply(x, [change for change in changes if change.scale != 1.0], how)

    return apply


RULES: dict[str, Rule] = {
    "Resize": Rule(_resize, sizes=frozenset({1, 2, 3}), since=10),
    "Upsample": Rule(_upsample, sizes=frozenset({1})),
}
