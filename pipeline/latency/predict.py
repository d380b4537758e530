"""From kernels to the whole: the sum of a plan's sites, and what end to end has beyond them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from pipeline.allocation.problem import CostTable
from pipeline.latency.sites import SiteMap
from pipeline.latency.table import KernelTable, Sample, family_key, table_from

FOLDS = 5
FEWEST_FOR_LINE = 6
MOST_OVERHEAD_NS = 5e3  # of profiling, a kernel; more was never seen, and more would eat small kernels whole
TIE_BREAK = (
    1e-3  # where all plans have as many kernels, overhead and offset undo each other: the smallest ones are taken
)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Relative errors of the prediction on plans that were left out of the fit."""

    plans: int
    median_error: float
    p95_error: float


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """end to end = scale * sum over sites + offset, in ns."""

    sites: SiteMap
    samples: tuple[Sample, ...]
    table: KernelTable
    scale: float
    offset_ns: float

    def predict_ns(self, channels: Mapping[str, int]) -> float:
        """The end-to-end time of a plan (group id -> channels kept, all groups)."""
        total = sum(self.table.cost(family_key(site.family), site.at(channels)) for site in self.sites.sites)
        return self.scale * total + self.offset_ns

    def interval_ns(self, channels: Mapping[str, int]) -> tuple[float, float]:
        """Where the end-to-end time of a plan lies, by how far the fit misses its own samples (95 of 100 of them)."""
        off = [sample.end_to_end_ns / self.predict_ns(sample.channels) for sample in self.samples]
        low, high = np.percentile(off, [2.5, 97.5])
        centre = self.predict_ns(channels)
        return centre * min(float(low), 1.0), centre * max(float(high), 1.0)

    def cost_tables(self, correction: float = 1.0) -> tuple[CostTable, ...]:
        """One table a site, in ns of end-to-end time, for the allocators. `correction` scales all of them."""
        factor = self.scale * correction
        return tuple(
            CostTable(site.name, site.widths, _Cost(self.table, family_key(site.family), factor))
            for site in self.sites.sites
        )


@dataclass(frozen=True, eq=False)
class _Cost:
    table: KernelTable
    family: str
    factor: float

    def __call__(self, widths: tuple[int, ...]) -> float:
        return self.factor * self.table.cost(self.family, widths)


def fit(sites: SiteMap, samples: Sequence[Sample]) -> LatencyModel:
    """Table and end-to-end line from all samples."""
    families = {site.name: family_key(site.family) for site in sites.sites}
    line = _line(samples)
    table = table_from(samples, families, {site.name: site.at for site in sites.sites}, line.overhead_ns)
    return LatencyModel(sites, tuple(samples), table, line.scale, line.offset_ns)


def held_out(sites: SiteMap, samples: Sequence[Sample]) -> HeldOut:
    """Cross-validation over plans: each is predicted by a model that has not seen it."""
    if len(samples) < 2 * FOLDS:
        return HeldOut(0, float("nan"), float("nan"))
    errors = []
    for fold in range(FOLDS):
        model = fit(sites, [sample for number, sample in enumerate(samples) if number % FOLDS != fold])
        left_out = samples[fold::FOLDS]
        errors += [abs(model.predict_ns(sample.channels) / sample.end_to_end_ns - 1) for sample in left_out]
    return HeldOut(len(errors), float(np.median(errors)), float(np.percentile(errors, 95)))


class _Line(NamedTuple):
    """end to end = scale * (sum of kernels - overhead * number of kernels) + offset"""

    scale: float
    overhead_ns: float
    offset_ns: float


def _line(samples: Sequence[Sample]) -> _Line:
    """A robust fit over samples. Profiling costs each kernel about the same, so it shows in the number of kernels; the
    scale stays near one, offset and overhead are not negative."""
    totals = np.asarray([sample.total_ns for sample in samples])
    counts = np.asarray([sample.count for sample in samples], np.float64)
    ends = np.asarray([sample.end_to_end_ns for sample in samples])
    if len(samples) < FEWEST_FOR_LINE:
        overhead = float(np.clip(np.median((totals - ends) / np.maximum(counts, 1)), 0, MOST_OVERHEAD_NS))
        return _Line(float(np.median(ends / (totals - overhead * counts))), overhead, 0.0)

    def residual(p: FloatArray) -> FloatArray:
        errors = (p[0] * (totals - p[1] * MOST_OVERHEAD_NS * counts) + p[2] * totals.max()) / ends - 1
        return np.concatenate([errors, TIE_BREAK * p[1:]])

    low, high = [0.8, 0.0, 0.0], [1.25, 1.0, 1.0]
    found = optimize.least_squares(residual, [1.0, 0.3, 0.0], bounds=(low, high), loss="soft_l1", f_scale=0.02)
    return _Line(float(found.x[0]), float(found.x[1] * MOST_OVERHEAD_NS), float(found.x[2] * totals.max()))
