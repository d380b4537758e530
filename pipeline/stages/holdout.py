"""A part of the training samples that is never trained on: the best epoch is chosen by it."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from calibration.batches import Batch, Samples, order

SHARE = 0.04
MOST = 2000
FEWEST = 64  # with fewer held out, one sample moves the value by more than epochs do


def split_off(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """(samples to train on, samples held out), disjoint and random. A set that is small keeps more of it back."""
    count = min(max(int(len(samples) * SHARE), FEWEST), MOST, len(samples) // 5) or 1
    shuffled = order(len(samples), seed + 1)
    return Part(samples, np.sort(shuffled[count:])), Part(samples, np.sort(shuffled[:count]))


@final
class Part(Samples):
    """The examples of a set at the given places."""

    def __init__(self, samples: Samples, places: NDArray[np.int64]) -> None:
        self._samples, self._places = samples, places

    @property
    def labelled(self) -> bool:
        return self._samples.labelled

    def __len__(self) -> int:
        return len(self._places)

    def read(self, indices: NDArray[np.int64]) -> Batch:
        return self._samples.read(self._places[indices])
