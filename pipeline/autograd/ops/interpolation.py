"""Interpolation along one axis: every kind is a matrix (outputs x inputs) that depends on the sizes alone.

The matrices are made with torch calls, so that torch.compile and torch.export trace them, sizes that change included.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# output index, input size, output size, scale, region -> position in the input (ONNX, operator Resize)
COORDINATES: dict[str, Callable[[Tensor, int, int, float, tuple[float, float]], Tensor]] = {
    "half_pixel": lambda x, size, out, scale, roi: (x + 0.5) / scale - 0.5,
    "half_pixel_symmetric": lambda x, size, out, scale, roi: (
        size / 2 * (1 - out / (scale * size)) + (x + 0.5) / scale - 0.5
    ),
    "pytorch_half_pixel": lambda x, size, out, scale, roi: (x + 0.5) / scale - 0.5 if out > 1 else torch.zeros_like(x),
    "asymmetric": lambda x, size, out, scale, roi: x / scale,
    "align_corners": lambda x, size, out, scale, roi: x * (size - 1) / (out - 1) if out > 1 else torch.zeros_like(x),
    "tf_half_pixel_for_nn": lambda x, size, out, scale, roi: (x + 0.5) / scale,
    "tf_crop_and_resize": lambda x, size, out, scale, roi: (
        roi[0] * (size - 1) + x * (roi[1] - roi[0]) * (size - 1) / (out - 1)
        if out > 1
        else torch.full_like(x, (roi[0] + roi[1]) * (size - 1) / 2)
    ),
}
NEAREST: dict[str, Callable[[Tensor, float], Tensor]] = {
    "round_prefer_floor": lambda x, scale: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x, scale: torch.floor(x + 0.5),
    "floor": lambda x, scale: torch.floor(x),
    "ceil": lambda x, scale: torch.ceil(x),
    # before opset 11, as ONNX Runtime does it
    "simple": lambda x, scale: torch.floor(x) if scale >= 1 else torch.ceil(x),
}
REACH = {"linear": 1, "cubic": 2}  # pixels read on each side


@dataclass(frozen=True)
class Interpolation:
    """How one axis is read: the attributes of Resize."""

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0

    def positions(self, size: int, out: int, scale: float, roi: tuple[float, float], device: torch.device) -> Tensor:
        """Where each output lies in the input, in pixels."""
        x = torch.arange(out, dtype=torch.float64, device=device)
        return COORDINATES[self.coordinates](x, size, out, scale, roi)

    def along(self, x: Tensor, axis: int, out: int, scale: float, roi: tuple[float, float]) -> Tensor:
        """x read at `out` places along `axis`."""
        size = x.shape[axis]
        positions = self.positions(size, out, scale, roi, x.device)
        if self.mode == "nearest":
            y = x.index_select(axis, NEAREST[self.nearest](positions, scale).clamp(0, size - 1).long())
        else:
            weights = self._matrix(positions, size, scale).to(x.dtype)
            y = torch.matmul(x.movedim(axis, -1), weights.t()).movedim(-1, axis)
        if self.coordinates != "tf_crop_and_resize":
            return y
        outside = ((positions < 0) | (positions > size - 1)).reshape([-1] + [1] * (x.dim() - 1 - axis % x.dim()))
        return torch.where(outside, torch.full_like(y, self.extrapolation), y)

    def _matrix(self, positions: Tensor, size: int, scale: float) -> Tensor:
        """Weights of shape (outputs, size), for modes linear and cubic; rows sum to one."""
        shrink = min(scale, 1.0) if self.antialias else 1.0  # shrinking reads as far as an output reaches
        reach = math.ceil(REACH[self.mode] / shrink)
        offsets = torch.arange(1 - reach, reach + 1, device=positions.device)
        at = torch.floor(positions).unsqueeze(1) + offsets
        weights = self._weight((positions.unsqueeze(1) - at).abs() * shrink)
        if self.exclude_outside:
            weights = weights * ((at >= 0) & (at < size))
        if self.exclude_outside or self.antialias:
            weights = weights / weights.sum(1, keepdim=True)
        matrix = torch.zeros((positions.shape[0], size), dtype=weights.dtype, device=positions.device)
        return matrix.scatter_add(1, at.clamp(0, size - 1).long(), weights)

    def _weight(self, distance: Tensor) -> Tensor:
        if self.mode == "linear":
            return (1 - distance).clamp(min=0)
        a, d = self.cubic, distance  # Keys 1981, equation 4
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
