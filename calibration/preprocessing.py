"""From pixels to what the network reads: (pixel / scale - mean) / std, per channel."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput

LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Preprocessing:
    """How images become inputs, in this order: resize, crop, (pixel / scale - mean) / std, layout.

    resize: the shorter side in pixels, or (height, width); None leaves the size.
    crop: centre crop, one side or (height, width); None leaves the size.
    scale: what an 8-bit pixel is divided by (255 gives 0..1, 1 leaves 0..255).
    mean, std: one value, or one for each channel, in units of the scaled pixel.
    layout: where the network has its channels.

    Resize and crop concern image folders; stored arrays have the network's size already.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 255.0
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise BadInput(f"Preprocessing: layout {self.layout!r} is unknown. Give one of: {', '.join(LAYOUTS)}.")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise BadInput(
                f"Preprocessing: scale {self.scale} cannot divide pixels. Give a number above 0, such as 255."
            )
        if not self.mean or not all(map(math.isfinite, self.mean)):
            raise BadInput(f"Preprocessing: mean {self.mean} is no list of numbers. Give one, or one for each channel.")
        if not self.std or not all(math.isfinite(value) and value > 0 for value in self.std):
            raise BadInput(f"Preprocessing: std {self.std} cannot divide pixels. Give numbers above 0, such as 0.229.")
        for name, side in (("resize", self.resize), ("crop", self.crop)):
            sides = side if isinstance(side, tuple) else (side,)
            if side is not None and (any(value is None or value < 1 for value in sides)):
                raise BadInput(
                    f"Preprocessing: {name} {side} is no size. Give pixels, such as 224, or (height, width)."
                )

    @property
    def neutral(self) -> bool:
        """True where mean and std leave the pixels as they are."""
        return set(self.mean) == {0.0} and set(self.std) == {1.0}


def normalise(pixels: NDArray[np.uint8], preprocessing: Preprocessing, dtype: str) -> NDArray[np.generic]:
    """(pixel / scale - mean) / std over a batch in the network's layout, computed in float32, given as `dtype`."""
    std = np.asarray(preprocessing.std, dtype=np.float64)
    gain = (1.0 / (preprocessing.scale * std)).astype(np.float32)
    offset = (-np.asarray(preprocessing.mean, dtype=np.float64) / std).astype(np.float32)
    values = pixels.astype(np.float32)
    values *= _along_channels(gain, pixels.ndim, preprocessing.layout)
    values += _along_channels(offset, pixels.ndim, preprocessing.layout)
    return values.astype(dtype, copy=False)


def check_channels(shape: tuple[int, ...], preprocessing: Preprocessing, where: str) -> None:
    """BadInput unless mean and std are one value, or one for each channel of an array of this shape."""
    channels = shape[1] if preprocessing.layout == "NCHW" else shape[-1]
    for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if len(values) not in (1, channels):
            raise BadInput(
                f"{where}: {len(values)} values of {name} for {channels} channels (layout {preprocessing.layout}). "
                f"Give one value, or one for each channel."
            )


def _along_channels(values: NDArray[np.float32], rank: int, layout: str) -> NDArray[np.float32]:
    axis = 1 if layout == "NCHW" else rank - 1
    return values.reshape([-1 if index == axis else 1 for index in range(rank)])
