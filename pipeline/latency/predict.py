"""From kernels to the whole: the sum of a plan's sites, what end to end has beyond them, and how far to trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from pipeline.allocation.problem import CostTable
from pipeline.latency.folds import FEWEST, FOLDS, fold_of_each, plan_of
from pipeline.latency.samples import Known
from pipeline.latency.sites import SiteMap
from pipeline.latency.speed import AS_THE_GAUGE, Powers, Speed, find_powers, slowdown, speed_of, usual
from pipeline.latency.table import KernelTable, Sample, family_key, table_from
from pipeline.latency.whole import fit_whole

FEWEST_FOR_LINE = 6
MOST_OVERHEAD_NS = 5e3  # of profiling, a kernel; more was never seen, and more would eat small kernels whole
# Where all plans have as many kernels, overhead and offset undo each other: the smallest ones are taken.
TIE_BREAK = 1e-3
MOST_CORRECTION = 0.1  # of a plan's kernels to what the same turns took end to end
FloatArray = NDArray[np.float64]


class Spread(NamedTuple):
    """How far off predictions were for plans that the fit had not seen: nine in ten lay within these relative
    errors. `edges`: at widths on the fast path; `anywhere`: at others. NaN where too few were seen."""

    edges: float = float("nan")
    anywhere: float = float("nan")


UNKNOWN_SPREAD = Spread()


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """end to end = scale * sum over sites + offset, in ns, with the device as fast as it was when most samples were
    taken. `candidates`: the widths that were offered, by group. `known`: kernels that other networks showed.
    `powers`: by which the network slows down more than the gauge."""

    sites: SiteMap
    samples: tuple[Sample, ...]
    table: KernelTable
    scale: float
    offset_ns: float
    spread: Spread = UNKNOWN_SPREAD
    candidates: Mapping[str, Sequence[int]] = field(default_factory=dict)
    known: Known = field(default_factory=dict)
    powers: Powers = AS_THE_GAUGE

    @property
    def usual(self) -> Speed:
        """How fast the device was, as predictions take it."""
        return usual(self.samples)

    def predict_ns(self, channels: Mapping[str, int]) -> float:
        """The end-to-end time of a plan (group id -> channels kept, all groups)."""
        total = sum(self.table.cost(family_key(site.family), site.at(channels)) for site in self.sites.sites)
        return self.scale * total + self.offset_ns

    def slowdown(self, now: Speed) -> float:
        """How many times as long as predicted the network takes on a device that is this fast."""
        return slowdown(now, self.usual, self.powers)

    def interval_ns(self, channels: Mapping[str, int]) -> tuple[float, float]:
        """Where nine in ten such plans come out, by the plans that were held out; (0, inf) where none were."""
        margin = self.spread.edges if self.on_edges(channels) else self.spread.anywhere
        if not np.isfinite(margin):
            return 0.0, float("inf")
        predicted = self.predict_ns(channels)
        return predicted / (1 + margin), predicted * (1 + margin)

    def on_edges(self, channels: Mapping[str, int]) -> bool:
        """Whether every group keeps one of its candidate widths."""
        return all(channels[group] in counts for group, counts in self.candidates.items())

    def cost_tables(self) -> tuple[CostTable, ...]:
        """One table a site, in ns of end-to-end time, for the allocators."""
        return tuple(
            CostTable(site.name, site.widths, _Cost(self.table, family_key(site.family), self.scale))
            for site in self.sites.sites
        )

    def learned(self, sample: Sample) -> "LatencyModel":
        """The model after one more sample."""
        again = fit(self.sites, [*self.samples, sample], self.known)
        return replace(again, spread=self.spread, candidates=self.candidates)


@dataclass(frozen=True, eq=False)
class _Cost:
    table: KernelTable
    family: str
    factor: float

    def __call__(self, widths: tuple[int, ...]) -> float:
        return self.factor * self.table.cost(self.family, widths)


def fit(
    sites: SiteMap, samples: Sequence[Sample], known: Known | None = None, *, powers: Powers | None = None
) -> LatencyModel:
    """Table and end-to-end line from all samples, brought to one speed of the device. `known`: kernels that other
    networks showed, in gauges. `powers`: by which the network slows down more than the gauge, where that is known."""
    known = known or {}
    if powers is None:
        enough = len(set(map(plan_of, samples))) >= FEWEST
        powers = find_powers(samples, _misses(sites, samples, known)) if enough else AS_THE_GAUGE
    return replace(_fit(sites, samples, at_one_speed(samples, powers), known), powers=powers)


def _misses(sites: SiteMap, samples: Sequence[Sample], known: Known) -> list[float]:
    """End-to-end times over predicted ones, each by a fit that has not seen the plan: one that has seen it takes what
    the device did then for the plan's own."""
    even, folds = at_one_speed(samples, AS_THE_GAUGE), fold_of_each(samples)
    models = []
    for fold in range(FOLDS):
        seen = [number for number, own in enumerate(folds) if own != fold]
        models.append(_fit(sites, [samples[n] for n in seen], [even[n] for n in seen], known))
    return [
        sample.end_to_end_ns / max(models[fold].predict_ns(sample.channels), 1.0)
        for sample, fold in zip(even, folds, strict=True)
    ]


class _Line(NamedTuple):
    """end to end = scale * (sum of kernels - overhead * number of kernels) + offset"""

    scale: float
    overhead_ns: float
    offset_ns: float


def _fit(sites: SiteMap, samples: Sequence[Sample], even: Sequence[Sample], known: Known) -> LatencyModel:
    """`samples` as they were taken, `even` as they would have been at one speed."""
    if not sites.told:
        return LatencyModel(sites, tuple(samples), fit_whole(sites, even), 1.0, 0.0)
    line = _line(even)
    level = usual(samples).gauge_ns

    def correction(sample: Sample) -> float:
        """Kernels and whole took turns: what one has more than the other is noise of the kernels' turns."""
        kernels = sum(_own(sample, site, line) for site in sample.sites_ns)
        ratio = (sample.end_to_end_ns - line.offset_ns) / max(line.scale * kernels, 1e-9)
        return float(np.clip(ratio, 1 - MOST_CORRECTION, 1 + MOST_CORRECTION))

    corrections = {id(sample): correction(sample) for sample in even}
    table = table_from(
        even,
        {site.name: family_key(site.family) for site in sites.sites},
        {site.name: site.at for site in sites.sites},
        lambda sample, site: _own(sample, site, line) * corrections[id(sample)],
        {family_key(site.family): site.grains for site in sites.sites},
        {family: {at: time * (level or 1.0) for at, time in times.items()} for family, times in known.items()},
    )
    return LatencyModel(sites, tuple(samples), table, line.scale, line.offset_ns, known=known)


def _own(sample: Sample, site: str, line: _Line) -> float:
    return max(sample.sites_ns[site] - line.overhead_ns * sample.kernels[site], 0.0)


def at_one_speed(samples: Sequence[Sample], powers: Powers) -> list[Sample]:
    """The samples as they would have been with the device as fast as it usually was."""
    then = usual(samples)
    return [sample.scaled(1 / slowdown(speed_of(sample), then, powers)) for sample in samples]


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
