"""What values a network's tensors take on samples: extremes in a first pass, histograms in a second.

Two passes over the same samples, so that every histogram's bins fit its tensor from the start and nothing depends on
the order of the samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.batches import Samples
from targets.errors import BadInput

BINS = 2048  # as TensorRT's calibrators have

Arrays = Mapping[str, NDArray[np.generic]]
Observe = Callable[[Arrays], Arrays]  # inputs by name -> the tensors that are looked at, by name


@dataclass(frozen=True, eq=False)
class Histogram:
    """`counts` of values in equal bins from `low` to `high`, the extremes that were met."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Of the bins."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return (edges[:-1] + edges[1:]) / 2


def find_histograms(
    observe: Observe,
    samples: Samples,
    *,
    batch_size: int = 32,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Histogram]:
    """A histogram for every tensor that `observe` gives, over all samples.

    A value that is not finite is BadInput and names the tensor and the samples: a calibration on fewer samples than
    were asked for is another calibration.
    """
    if len(samples) == 0:
        raise BadInput("Calibration has no samples. Give data.")
    total, done = 2 * len(samples), 0
    extremes: dict[str, tuple[float, float]] = {}
    counts: dict[str, NDArray[np.int64]] = {}
    for sweep in ("extremes", "histograms"):
        first = 0
        for batch in samples.batches(batch_size):
            size = len(next(iter(batch.inputs.values())))
            for name, values in observe(batch.inputs).items():
                floats = np.asarray(values, np.float64).ravel()
                if sweep == "extremes":
                    extremes[name] = widened(extremes.get(name), floats, name, first, size)
                else:
                    found = np.histogram(floats, bins=BINS, range=spread(*extremes[name]))[0]
                    counts[name] = counts.get(name, 0) + found.astype(np.int64)
            first, done = first + size, done + size
            if on_progress:
                on_progress(done, total, f"calibrating: {sweep}")
    return {name: Histogram(*spread(*extremes[name]), counts[name]) for name in counts}


def widened(
    known: tuple[float, float] | None, values: NDArray[np.float64], name: str, first: int, size: int
) -> tuple[float, float]:
    if not np.isfinite(values).all():
        raise BadInput(
            f"Calibration: tensor {name!r} is not finite on samples {first} to {first + size - 1}. Look at these "
            "samples and at the network; nothing was calibrated."
        )
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return (low, high) if known is None else (min(low, known[0]), max(high, known[1]))


def spread(low: float, high: float) -> tuple[float, float]:
    """The same, and never empty: a tensor that is one value everywhere has a range around it."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)
