"""Resize and Upsample.

Along one axis every interpolation is a matrix (outputs x inputs) that depends on the sizes alone, so all coordinate
modes share one path; where torch's own kernel means the same thing, it is used instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.sizes import Sizes

Floats = NDArray[np.float64]

# output index, input size, output size, scale -> position in the input (ONNX, operator Resize)
COORDINATES: dict[str, Callable[[Floats, int, int, float], Floats]] = {
    "half_pixel": lambda x, size, out, scale: (x + 0.5) / scale - 0.5,
    "half_pixel_symmetric": lambda x, size, out, scale: size / 2 * (1 - out / (scale * size)) + (x + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda x, size, out, scale: (x + 0.5) / scale - 0.5 if out > 1 else np.zeros_like(x),
    "asymmetric": lambda x, size, out, scale: x / scale,
    "align_corners": lambda x, size, out, scale: x * (size - 1) / (out - 1) if out > 1 else np.zeros_like(x),
    "tf_half_pixel_for_nn": lambda x, size, out, scale: (x + 0.5) / scale,
}
NEAREST: dict[str, Callable[[Floats, float], Floats]] = {
    "round_prefer_floor": lambda x, scale: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x, scale: np.floor(x + 0.5),
    "floor": lambda x, scale: np.floor(x),
    "ceil": lambda x, scale: np.ceil(x),
    "simple": lambda x, scale: np.floor(x) if scale >= 1 else np.ceil(x),  # before opset 11, as ONNX Runtime does it
}


@dataclass(frozen=True)
class Interpolation:
    """How one axis is read: the attributes of Resize."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool

    def indices(self, size: int, out: int, scale: float) -> NDArray[np.int64]:
        """The input index that each output reads, for mode nearest."""
        positions = COORDINATES[self.coordinates](np.arange(out, dtype=np.float64), size, out, scale)
        return np.clip(NEAREST[self.nearest](positions, scale), 0, size - 1).astype(np.int64)

    def matrix(self, size: int, out: int, scale: float) -> Floats:
        """Weights of shape (out, size), for modes linear and cubic; rows sum to one."""
        positions = COORDINATES[self.coordinates](np.arange(out, dtype=np.float64), size, out, scale)
        reach = 1 if self.mode == "linear" else 2
        base = np.floor(positions)
        weights = np.zeros((out, size))
        for offset in range(1 - reach, reach + 1):
            at = base + offset
            weight = self._weight(np.abs(positions - at))
            if self.exclude_outside:
                weight = np.where((at >= 0) & (at < size), weight, 0.0)
            np.add.at(weights, (np.arange(out), np.clip(at, 0, size - 1).astype(np.int64)), weight)
        return weights / weights.sum(axis=1, keepdims=True) if self.exclude_outside else weights

    def _weight(self, distance: Floats) -> Floats:
        if self.mode == "linear":
            return 1 - distance
        a, d = self.cubic, distance  # Keys 1981, equation 4
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _check(node: Node, interpolation: Interpolation) -> None:
    if interpolation.mode not in ("nearest", "linear", "cubic"):
        raise node.refusal(f"mode {interpolation.mode!r} is unknown")
    if interpolation.coordinates not in COORDINATES:
        raise node.refusal(f"coordinate_transformation_mode {interpolation.coordinates!r}")
    if interpolation.nearest not in NEAREST:
        raise node.refusal(f"nearest_mode {interpolation.nearest!r} is unknown")
    if node.attributes.get("antialias", 0):
        raise node.refusal("antialias=1")
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refusal("keep_aspect_ratio_policy other than stretch")
    node.attributes.get("extrapolation_value")  # concerns tf_crop_and_resize only


def _apply(x: Tensor, axes: Sequence[int], scales: Sequence[float], outs: Sequence[int], how: Interpolation) -> Tensor:
    changed = [
        (axis, scale, out)
        for axis, scale, out in zip(axes, scales, outs, strict=True)
        if out != x.shape[axis] or scale != 1.0
    ]
    native = _native(x, changed, how)
    if native is not None:
        return native
    for axis, scale, out in changed:
        if how.mode == "nearest":
            indices = torch.tensor(how.indices(x.shape[axis], out, scale).tolist(), device=x.device)
            x = x.index_select(axis, indices)
        else:
            weights = torch.tensor(how.matrix(x.shape[axis], out, scale).tolist(), dtype=x.dtype, device=x.device)
            x = torch.matmul(x.movedim(axis, -1), weights.t()).movedim(-1, axis)
    return x


def _native(x: Tensor, changed: Sequence[tuple[int, float, int]], how: Interpolation) -> Tensor | None:
    """Torch's own kernel for images, where it computes the same; else None."""
    if x.dim() != 4 or not changed or any(axis < 2 for axis, _, _ in changed) or how.exclude_outside:
        return None
    if any(out != x.shape[axis] * scale for axis, scale, out in changed):
        return None  # torch takes the scale from the sizes
    size = [int(x.shape[2]), int(x.shape[3])]
    for axis, _, out in changed:
        size[axis - 2] = out
    if how.mode == "nearest":
        same = all(_repeats(how.indices(x.shape[axis], out, scale), x.shape[axis]) for axis, scale, out in changed)
        return F.interpolate(x, size, mode="nearest") if same else None
    if how.mode == "cubic" and how.cubic != -0.75:
        return None
    if how.coordinates not in ("half_pixel", "align_corners"):
        return None
    mode = {"linear": "bilinear", "cubic": "bicubic"}[how.mode]
    return F.interpolate(x, size, mode=mode, align_corners=how.coordinates == "align_corners")


def _repeats(indices: NDArray[np.int64], size: int) -> bool:
    factor, rest = divmod(len(indices), size)
    return rest == 0 and bool(np.array_equal(indices, np.arange(len(indices)) // factor))


def _resize(node: Node) -> Operation:
    legacy = node.opset < 11
    interpolation = Interpolation(
        mode=node.attributes.get("mode", "nearest"),
        coordinates=node.attributes.get("coordinate_transformation_mode", "asymmetric" if legacy else "half_pixel"),
        nearest=node.attributes.get("nearest_mode", "simple" if legacy else "round_prefer_floor"),
        cubic=node.attributes.get("cubic_coeff_a", -0.75),
        exclude_outside=bool(node.attributes.get("exclude_outside", 0)),
    )
    _check(node, interpolation)
    chosen = node.attributes.get("axes")

    def apply(x: Tensor, roi: Sizes | None, scales: Sizes | None = None, sizes: Sizes | None = None) -> Tensor:
        axes = list(range(x.dim())) if chosen is None else [axis % x.dim() for axis in chosen]
        if scales is not None and scales.floats:
            factors = list(scales.floats)
            outs = [int(np.floor(x.shape[axis] * factor)) for axis, factor in zip(axes, factors, strict=True)]
        else:
            assert sizes is not None  # the schema asks for one of the two
            outs = list(sizes.ints)
            factors = [out / x.shape[axis] for axis, out in zip(axes, outs, strict=True)]
        kept = [(a, f, o) for a, f, o in zip(axes, factors, outs, strict=True) if f != 1.0]
        return _apply(x, [a for a, _, _ in kept], [f for _, f, _ in kept], [o for _, _, o in kept], interpolation)

    return apply if not legacy else lambda x, scales: apply(x, None, scales)


def _upsample(node: Node) -> Operation:
    mode, attribute = node.attributes.get("mode", "nearest"), node.attributes.get("scales")
    interpolation = Interpolation(mode, "asymmetric", "floor", -0.75, False)
    if mode not in ("nearest", "linear"):
        raise node.refusal(f"mode {mode!r} is unknown")

    def apply(x: Tensor, scales: Sizes | None = None) -> Tensor:
        factors = list(attribute if scales is None else scales.floats)
        outs = [int(np.floor(size * factor)) for size, factor in zip(x.shape, factors, strict=True)]
        kept = [axis for axis, factor in enumerate(factors) if factor != 1.0]
        return _apply(x, kept, [factors[axis] for axis in kept], [outs[axis] for axis in kept], interpolation)

    return apply


RULES: dict[str, Rule] = {
    "Resize": Rule(_resize, sizes=frozenset({1, 2, 3})),
    "Upsample": Rule(_upsample, sizes=frozenset({1})),
}
