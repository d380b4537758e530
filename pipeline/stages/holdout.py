"""A part of the training samples that is never trained on: the best epoch is chosen by it."""

import numpy as np

from calibration.batches import Samples, Subset, order

SHARE = 0.04
MOST = 2000
FEWEST = 64  # with fewer held out, one sample moves the value by more than epochs do


def split_off(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """(samples to train on, samples held out), disjoint and random. A set that is small keeps more of it back."""
    count = min(max(int(len(samples) * SHARE), FEWEST), MOST, len(samples) // 5) or 1
    shuffled = order(len(samples), seed + 1)
    return Subset(samples, np.sort(shuffled[count:])), Subset(samples, np.sort(shuffled[:count]))
