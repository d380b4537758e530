"""How fast the device was when a sample was taken, and what that does to a network's times.

Two things tell: the gauge, which computes, and the stream, copies through memory. A network's times go with the gauge's
and with some power of each of the two on top, which a profile shows by how predictions miss as they wander.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from pipeline.latency.table import Sample

STEADY = 0.02  # standard deviation, relative, up to which there is nothing to learn
MOST = 1.0  # a network slows down at most by this power more
PULL = 0.04  # towards 0: the error of a prediction (2 %) over the powers that are usual (0.5)
ROUNDS = 5  # of least squares
FAR = 0.03  # relative error at which a sample counts half
FloatArray = NDArray[np.float64]


class Speed(NamedTuple):
    """What the gauge and a copy through memory took, in ns; 0 where none ran."""

    gauge_ns: float = 0.0
    stream_ns: float = 0.0


class Powers(NamedTuple):
    """By which powers a network slows down more than the gauge, as the gauge does and as the stream does."""

    gauge: float = 0.0
    stream: float = 0.0


AS_THE_GAUGE = Powers()


def speed_of(sample: Sample) -> Speed:
    return Speed(sample.gauge_ns, sample.stream_ns)


def usual(samples: Sequence[Sample]) -> Speed:
    """The medians over the samples that have them."""

    def median(times: Sequence[float]) -> float:
        known = [time for time in times if time > 0]
        return float(np.median(known)) if known else 0.0

    return Speed(median([sample.gauge_ns for sample in samples]), median([sample.stream_ns for sample in samples]))


def slowdown(now: Speed, then: Speed, powers: Powers) -> float:
    """How many times as long a network takes `now` as `then`. What was not read in both counts as equal."""
    gauge, stream = (a / b if a > 0 and b > 0 else 1.0 for a, b in zip(now, then, strict=True))
    return float(gauge ** (1 + powers.gauge) * stream**powers.stream)


def find_powers(samples: Sequence[Sample], misses: Sequence[float] | FloatArray) -> Powers:
    """From the speeds of samples and their `misses`: measured end-to-end times over predicted ones, both at one speed
    by the gauge alone. Least squares of the logarithms, in rounds that leave disturbed samples behind (Cauchy's
    weights); what hardly wandered, or was not read, has no power."""
    columns = [_wandering([speed_of(sample)[which] for sample in samples]) for which in range(len(Speed._fields))]
    known = [which for which, column in enumerate(columns) if np.std(column) >= STEADY]
    if not known:
        return AS_THE_GAUGE
    seen = np.stack([columns[which] for which in known], axis=1)
    level = np.ones((len(samples), 1))  # of the misses, of either sign
    matrix, missed = np.hstack([seen, level, -level]), np.log(misses)
    pull = PULL * np.eye(len(known), matrix.shape[1])
    trust: FloatArray = np.ones(len(samples))
    for _ in range(ROUNDS):
        weight = np.sqrt(trust)
        found = nnls(np.vstack([matrix * weight[:, None], pull]), np.append(missed * weight, np.zeros(len(known))))[0]
        trust = 1 / (1 + ((matrix @ found - missed) / FAR) ** 2)
    powers = dict(zip(known, np.minimum(found, MOST).tolist(), strict=False))
    return Powers(*(powers.get(which, 0.0) for which in range(len(Speed._fields))))


def _wandering(times: Sequence[float]) -> FloatArray:
    """Logarithms about their median; zeros where a time is missing."""
    if min(times) <= 0:
        return np.zeros(len(times))
    logarithms = np.log(times)
    return np.asarray(logarithms - np.median(logarithms))
