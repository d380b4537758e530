"""Random flips and crops over whole batches of images, in numpy."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput

Images = NDArray[np.generic]
Augment = Callable[[Images, np.random.Generator], Images]

KNOWN = "flip, crop:PIXELS (such as crop:4)"


def parse_augmentation(names: Sequence[str]) -> tuple[Augment, ...]:
    """The functions that the names stand for, in order; each takes and gives images as (batch, height, width, ...)."""
    return tuple(_parse(name) for name in names)


def augment(images: Images, names: Sequence[str], layout: str, generator: np.random.Generator) -> Images:
    """Each image changed at random and on its own; a new contiguous array, `images` stays as it is."""
    if images.ndim != 4:
        raise BadInput(f"Augmentation {', '.join(names)}: inputs of shape {images.shape} are no images. Leave it out.")
    moved = images if layout == "NHWC" else images.transpose(0, 2, 3, 1)
    for step in parse_augmentation(names):
        moved = step(moved, generator)
    return np.ascontiguousarray(moved if layout == "NHWC" else moved.transpose(0, 3, 1, 2))


def flip(images: Images, generator: np.random.Generator) -> Images:
    """Left and right exchanged in about half of the images."""
    chosen = generator.random(len(images)) < 0.5
    return np.where(chosen[:, None, None, None], images[:, :, ::-1], images)


def crop(images: Images, generator: np.random.Generator, pixels: int) -> Images:
    """Each image moved by up to `pixels` along both axes; zeros come in at the border.

    Zeros of what the network reads: for normalised images the mean colour, where the recipe that pads before it
    normalises has black.
    """
    count, height, width = images.shape[:3]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    windows: Images = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))  # N y x C H W
    down, right = generator.integers(0, 2 * pixels + 1, size=(2, count))
    moved: Images = windows[np.arange(count), down, right]
    return moved.transpose(0, 2, 3, 1)


def _parse(name: str) -> Augment:
    if name == "flip":
        return flip
    kind, _, argument = name.partition(":")
    if kind == "crop" and argument.isdecimal() and int(argument) > 0:
        pixels = int(argument)
        return lambda images, generator: crop(images, generator, pixels)
    raise BadInput(f"Augmentation {name!r} is unknown. Known: {KNOWN}.")
