"""From histograms of a tensor's values to the range that eight bits are spread over.

A narrow range rounds finely and clips what lies beyond; a wide one clips nothing and rounds coarsely. The methods
differ in how they weigh the two:

    min-max     clips nothing
    percentile  leaves out a share of the values, half of it at each end
    entropy     loses the least information: the smallest Kullback-Leibler divergence between the values' distribution
                and what is left of it in 128 levels (Migacz, 8-bit inference with TensorRT, 2017)
    mse         the smallest expected squared error of a value
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.histograms import Histogram

LEVELS = 128  # of a magnitude in eight bits with a sign
STEPS = 256  # of an asymmetric range
CANDIDATES = 100  # widths that mse tries
KEPT = 0.9999  # of the values, by percentile


class Range(NamedTuple):
    """Zero lies in it: padding and what an activation cuts off must stay exact."""

    low: float
    high: float


def minmax(histogram: Histogram) -> Range:
    return with_zero(histogram.low, histogram.high)


def percentile(histogram: Histogram, kept: float = KEPT) -> Range:
    shares = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    first = int(np.searchsorted(shares, (1 - kept) / 2, side="right"))
    last = int(np.searchsorted(shares, 1 - (1 - kept) / 2, side="left"))
    return with_zero(float(edges[min(first, len(edges) - 2)]), float(edges[min(last, len(edges) - 2) + 1]))


def entropy(histogram: Histogram) -> Range:
    """One threshold for both signs."""
    magnitudes, width = folded(histogram)
    best, least = len(magnitudes), np.inf
    for end in range(LEVELS, len(magnitudes) + 1):
        divergence = lost(magnitudes, end)
        if divergence < least:
            best, least = end, divergence
    return clipped(histogram, best * width)


def mse(histogram: Histogram) -> Range:
    """The extremes, both drawn in by the same share."""
    whole = minmax(histogram)
    centres, weights = histogram.centres, histogram.counts / histogram.counts.sum()
    best, least = whole, np.inf
    for share in np.linspace(1, 1 / CANDIDATES, CANDIDATES).tolist():
        tried = Range(whole.low * share, whole.high * share)
        step = (tried.high - tried.low) / (STEPS - 1)
        rounded = np.clip(np.round(centres / step) * step, tried.low, tried.high)
        error = float(weights @ (centres - rounded) ** 2)
        if error < least:
            best, least = tried, error
    return best


METHODS: Mapping[str, Callable[[Histogram], Range]] = {
    "min-max": minmax,
    "entropy": entropy,
    "percentile": percentile,
    "mse": mse,
}


def with_zero(low: float, high: float) -> Range:
    return Range(min(low, 0.0), max(high, 0.0))


def clipped(histogram: Histogram, threshold: float) -> Range:
    whole = minmax(histogram)
    return Range(max(whole.low, -threshold), min(whole.high, threshold))


def folded(histogram: Histogram) -> tuple[NDArray[np.float64], float]:
    """Counts of magnitudes, in as many bins, and the width of a bin. What is zero is exact in any range, and after an
    activation it is half of all values: the first bin counts no more than the second."""
    bins = len(histogram.counts)
    largest = max(abs(histogram.low), abs(histogram.high))
    counts = np.histogram(np.abs(histogram.centres), bins=bins, range=(0, largest), weights=histogram.counts)[0]
    counts[0] = min(counts[0], counts[1])
    return counts.astype(np.float64), largest / bins


def lost(counts: NDArray[np.float64], end: int) -> float:
    """The divergence of the first `end` bins, what lies beyond added to the last, from themselves in LEVELS levels:
    every level's count spread evenly over those of its bins that are not empty."""
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    level = np.minimum(np.arange(end) * LEVELS // end, LEVELS - 1)
    filled = counts[:end] > 0
    sums = np.bincount(level, weights=counts[:end], minlength=LEVELS)
    members = np.bincount(level[filled], minlength=LEVELS)
    spread = np.where(filled, sums[level] / np.maximum(members[level], 1), 0.0)
    wanted, got = reference / reference.sum(), spread / max(spread.sum(), 1.0)
    used = wanted > 0
    if np.any(got[used] == 0):  # something lies beyond that no level stands for
        got = np.where(got == 0, 1e-12, got)
    return float(np.sum(wanted[used] * np.log(wanted[used] / got[used])))
