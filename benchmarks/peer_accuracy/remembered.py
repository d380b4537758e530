"""The teacher's outputs on disk: every point is trained on the same batches, so that one of them pays for all."""

import hashlib
import os
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn


@final
class Remembered(nn.Module):
    """A network of one input and one output; a batch that it has seen is read from `folder`, by its content."""

    def __init__(self, module: nn.Module, folder: Path) -> None:
        super().__init__()
        self.module = module
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def forward(self, images: Tensor) -> Tensor:
        path = self._folder / f"{_key(images)}.npy"
        if path.exists():
            return torch.from_numpy(np.load(path))
        found: Tensor = self.module(images).float()
        beside = path.with_suffix(f".{os.getpid()}")  # two points may train side by side
        with beside.open("wb") as file:
            np.save(file, found.detach().numpy())
        beside.replace(path)
        return found


def _key(images: Tensor) -> str:
    content = hashlib.blake2b(images.contiguous().numpy().tobytes(), digest_size=16)
    content.update(f"{tuple(images.shape)} {images.dtype} {torch.is_autocast_enabled('cpu')}".encode())
    return content.hexdigest()
