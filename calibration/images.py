"""Samples from a folder of images: one subfolder for each class, decoded when a batch is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibration.batches import Batch, InputSpec, Samples
from calibration.checks import show
from calibration.preprocessing import Preprocessing, check_channels, normalise
from targets.errors import BadInput

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB"}  # channels of the network -> what Pillow converts to


@final
class ImageSamples(Samples):
    """Files in a fixed order, with the class of each where the folder has classes."""

    def __init__(
        self,
        files: Sequence[Path],
        labels: NDArray[np.int64] | None,
        spec: InputSpec,
        preprocessing: Preprocessing,
    ) -> None:
        self._files = tuple(files)
        self._labels = labels
        self._spec = spec
        self._preprocessing = preprocessing

    @property
    def labelled(self) -> bool:
        return self._labels is not None

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: NDArray[np.int64]) -> Batch:
        images = [_decode(self._files[index], self._spec, self._preprocessing) for index in indices]
        first = images[0].shape
        for index, image in zip(indices, images, strict=True):
            if image.shape != first:  # only where the network leaves height or width free
                raise BadInput(
                    f"{self._files[index]}: size {show(image.shape)} differs from {show(first)} in its batch. "
                    f"Give a resize and a crop."
                )
        pixels = np.stack(images)
        labels = None if self._labels is None else self._labels[indices]
        if np.dtype(self._spec.dtype) == np.uint8:
            return Batch({self._spec.name: pixels}, labels)
        return Batch({self._spec.name: normalise(pixels, self._preprocessing, self._spec.dtype)}, labels)


def read_folder(folder: Path, specs: Sequence[InputSpec], preprocessing: Preprocessing | None) -> Samples:
    """Subfolders are classes, numbered from 0 in sorted order; images without subfolders are unlabelled.

    Files that are no images by their suffix, and names that begin with a dot, are passed over. The first image is
    decoded at once, so that a wrong size or a wrong crop shows before anything long begins.
    """
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise BadInput(
            f"{folder}: a folder of images feeds one input; the network has {names}. Use .npz or an entry point."
        )
    if preprocessing is None:
        raise BadInput(
            f"{folder}: a folder of images needs its preprocessing. Give scale, mean and std (resize, crop)."
        )
    _check_spec(specs[0], preprocessing, folder)
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    classes = [path for path in visible if path.is_dir()]
    loose = [path for path in visible if path.suffix.lower() in SUFFIXES and path.is_file()]
    if classes and loose:
        raise BadInput(f"{folder}: both class folders and loose images ({loose[0].name}). Keep one or the other.")
    _check_order(folder, [path.name for path in classes])
    files, numbers = list(loose), []
    for number, path in enumerate(classes):
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        files += found
        numbers += [number] * len(found)
    if not files:
        raise BadInput(
            f"{folder}: no images in it. Put images there ({' '.join(SUFFIXES)}), or a subfolder for each class."
        )
    labels = np.asarray(numbers, dtype=np.int64) if classes else None
    samples = ImageSamples(files, labels, specs[0], preprocessing)
    samples.read(np.zeros(1, dtype=np.int64))
    return samples


def _check_spec(spec: InputSpec, preprocessing: Preprocessing, folder: Path) -> None:
    if len(spec.shape) != 4:
        raise BadInput(
            f"{folder}: images, but input {spec.name!r} of the network takes {show(spec.shape)}. Use .npz instead."
        )
    channels = _channels(spec, preprocessing)
    if channels not in MODES:
        raise BadInput(
            f"{folder}: input {spec.name!r} takes {show(spec.shape)}, {channels} channels with layout "
            f"{preprocessing.layout}; images have 1 or 3. Give the other layout, or use .npz."
        )
    dtype = np.dtype(spec.dtype)
    if dtype.kind != "f" and dtype != np.uint8:
        raise BadInput(f"{folder}: input {spec.name!r} takes {dtype}; images give floats or uint8. Use .npz instead.")
    if dtype == np.uint8 and not preprocessing.neutral:
        raise BadInput(f"{folder}: input {spec.name!r} takes uint8 pixels as they are. Leave out mean and std.")
    shape = (1, channels, 1, 1) if preprocessing.layout == "NCHW" else (1, 1, 1, channels)
    check_channels(shape, preprocessing, str(folder))


def _check_order(folder: Path, names: Sequence[str]) -> None:
    """Folders 0 .. 10 sort differently as text and as numbers: which one the network learned cannot be known."""
    if names and all(name.isdecimal() for name in names) and list(names) != sorted(names, key=int):
        raise BadInput(
            f"{folder}: class folders sort differently as text and as numbers ({', '.join(names[:4])}, ...). "
            f"Rename them with leading zeros in the order of the network's classes."
        )


def _channels(spec: InputSpec, preprocessing: Preprocessing) -> int:
    channels = spec.shape[1] if preprocessing.layout == "NCHW" else spec.shape[3]
    return 3 if channels is None else channels


def _decode(path: Path, spec: InputSpec, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """One image as uint8 in the network's layout, without the batch axis."""
    try:
        with Image.open(path) as opened:
            image = opened.convert(MODES[_channels(spec, preprocessing)])
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path}: cannot be read as an image ({error}). Replace or remove it.") from error
    pixels = np.asarray(_crop(_resize(image, preprocessing.resize), preprocessing.crop, path))
    pixels = pixels.reshape(image_shape := (pixels.shape[0], pixels.shape[1], -1))
    if preprocessing.layout == "NCHW":
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    wanted = spec.shape[1:]
    if any(want is not None and want != have for have, want in zip(pixels.shape, wanted, strict=True)):
        raise BadInput(
            f"{path}: {image_shape[0]}x{image_shape[1]} pixels after resize and crop, but input {spec.name!r} of the "
            f"network takes {show(spec.shape)}, {preprocessing.layout}. Give a resize and crop that lead there."
        )
    return pixels


def _resize(image: Image.Image, size: int | tuple[int, int] | None) -> Image.Image:
    if size is None:
        return image
    if isinstance(size, tuple):
        height, width = size
    else:
        short = min(image.size)
        width, height = (int(size * side / short) for side in image.size)  # truncated, as the common loaders do
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _crop(image: Image.Image, size: int | tuple[int, int] | None, path: Path) -> Image.Image:
    if size is None:
        return image
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    if width > image.width or height > image.height:
        raise BadInput(
            f"{path}: {image.height}x{image.width} pixels after resize, smaller than the crop of {height}x{width}. "
            f"Give a larger resize or a smaller crop."
        )
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
