"""CIFAR-10 for cutback, from the standard python batches: `--data samples.py:train --validate samples.py:test`.

The environment variable CIFAR10 names the folder with data_batch_1 .. data_batch_5 and test_batch, or the folder that
holds it as cifar-10-batches-py. Inputs are float32, N x 3 x 32 x 32, RGB, (pixel / 255 - mean) / std.
"""

import os
import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEAN = (0.485, 0.456, 0.406)  # what the networks of akamaster/pytorch_resnet_cifar10 were trained with
STD = (0.229, 0.224, 0.225)
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


def train() -> tuple[NDArray[np.float32], Labels]:
    """The 50,000 training images as the networks read them, and their classes."""
    return normalised(*read(TRAIN))


def test() -> tuple[NDArray[np.float32], Labels]:
    """The 10,000 test images as the networks read them, and their classes."""
    return normalised(*read(TEST))


def train_pixels() -> tuple[Pixels, Labels]:
    """The training images as stored, for `--scale 255 --mean ... --std ...`: a quarter of the memory."""
    return read(TRAIN)


def test_pixels() -> tuple[Pixels, Labels]:
    """The test images as stored."""
    return read(TEST)


def read(names: tuple[str, ...], folder: Path | None = None) -> tuple[Pixels, Labels]:
    """Images (N, 3, 32, 32), RGB, and labels (N,) of the named batches, in the folder given or in the environment's."""
    root = folder or Path(os.environ.get("CIFAR10", "cifar-10-batches-py"))
    root = root if (root / names[0]).exists() else root / "cifar-10-batches-py"
    batches = [load(root / name) for name in names]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def load(path: Path) -> tuple[Pixels, Labels]:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist. Set CIFAR10 to the folder with the python batches of CIFAR-10."
        )
    with path.open("rb") as stream:
        batch = pickle.load(stream, encoding="bytes")  # noqa: S301 - the format the data set is published in
    images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return images, np.asarray(batch[b"labels"], np.int64)


def normalised(images: Pixels, labels: Labels) -> tuple[NDArray[np.float32], Labels]:
    mean = np.asarray(MEAN, np.float32).reshape(1, 3, 1, 1)
    std = np.asarray(STD, np.float32).reshape(1, 3, 1, 1)
    return (images.astype(np.float32) / np.float32(255) - mean) / std, labels
