"""The kernel table: a site's time over its widths, from samples taken in place.

Where a combination of widths was measured often, that is the answer. Between measured ones a kernel's time is close
to bilinear in its two effective widths (so many blocks in, times so many blocks out), with terms of its own for each
regime: on the fast path, off it on either side, or narrower than a block. Terms are not negative, so that no table
ever rewards a wider kernel, and a regime that was hardly seen follows what the family does elsewhere.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from pipeline.latency.grain import Grain
from targets.profiles.key import canonical

Widths = tuple[int, ...]
WidthsOf = Callable[[Mapping[str, int]], Widths]
Regime = tuple[int, ...]
FloatArray = NDArray[np.float64]

ON, OFF, NARROW = 0, 1, 2
PRIOR = 0.3  # weight of the family's law in a regime's own fit, in samples' worth of relative error
REWEIGHTED = 3  # rounds of least squares
FAR = 1.0  # relative error at which a time counts half: noise stays far below it, a disturbed profile does not
LEAST_SHARE = 0.1  # of a family's median time: relative errors below it count as of this


@dataclass(frozen=True, eq=False)
class Law:
    """weights . features of the effective widths."""

    grains: tuple[Grain, ...]
    weights: FloatArray

    def at(self, widths: Widths) -> float:
        return float(features(widths, self.grains) @ self.weights)


@dataclass(frozen=True, eq=False)
class KernelTable:
    """`samples[family][widths]`: times in ns. `grains[family]`: of each width. Families are canonical JSON."""

    samples: Mapping[str, Mapping[Widths, tuple[float, ...]]]
    grains: Mapping[str, tuple[Grain, ...]] = field(default_factory=dict)
    _medians: dict[tuple[str, Widths], float] = field(default_factory=dict)
    _laws: dict[str, tuple[Law, Mapping[Regime, Law]] | None] = field(default_factory=dict)

    def cost(self, family: str, widths: Widths) -> float:
        """ns. A site that reads or makes nothing costs what was seen there, else nothing."""
        seen = self.samples.get(family, {})
        measured = self._median(family, widths) if widths in seen else None
        if min(widths, default=1) == 0:
            return measured or 0.0
        fitted = self._fitted(family, widths)
        if measured is None or fitted == 0:
            return fitted if measured is None else measured
        count = len(seen[widths])
        return (count * measured + fitted) / (count + 1)

    def _median(self, family: str, widths: Widths) -> float:
        if (family, widths) not in self._medians:
            self._medians[family, widths] = statistics.median(self.samples[family][widths])
        return self._medians[family, widths]

    def spread(self, family: str) -> float:
        """How much times at equal widths differ: the median relative deviation from their median."""
        seen = [times for times in self.samples.get(family, {}).values() if len(times) > 1]
        deviations = [abs(time / np.median(times) - 1) for times in seen for time in times if np.median(times) > 0]
        return float(np.median(deviations)) if deviations else float("nan")

    def _fitted(self, family: str, widths: Widths) -> float:
        if family not in self._laws:
            self._laws[family] = _fit(self.samples.get(family, {}), self.grains.get(family, ()))
        laws = self._laws[family]
        if laws is None:
            return 0.0
        general, special = laws
        return special.get(regime_of(widths, general.grains), general).at(widths)


@dataclass(frozen=True)
class Sample:
    """One plan, built and profiled: its sites' times and numbers of kernels, and its end-to-end time in the same
    turns. Times in ns at `gauge_ns`, as the runtime's profiler gave them: with what profiling adds to every kernel.
    `gauge_ns`: the gauge's time then, `stream_ns` that of a copy through memory; 0 where none ran. No sites where the
    runtime tells no kernel times."""

    channels: Mapping[str, int]
    sites_ns: Mapping[str, float]
    kernels: Mapping[str, int]
    end_to_end_ns: float
    gauge_ns: float = 0.0
    stream_ns: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.kernels.values())

    @property
    def total_ns(self) -> float:
        return sum(self.sites_ns.values())

    def scaled(self, factor: float) -> "Sample":
        """All times multiplied."""
        times = {name: time * factor for name, time in self.sites_ns.items()}
        return Sample(
            self.channels,
            times,
            self.kernels,
            self.end_to_end_ns * factor,
            self.gauge_ns * factor,
            self.stream_ns * factor,
        )


def table_from(
    samples: Sequence[Sample],
    families: Mapping[str, str],
    widths: Mapping[str, WidthsOf],
    own_ns: Callable[[Sample, str], float],
    grains: Mapping[str, tuple[Grain, ...]],
    known_ns: Mapping[str, Mapping[Widths, float]],
) -> KernelTable:
    """`families`: site -> family; `widths`: site -> function from a plan to the site's widths; `own_ns`: what a site
    took in a sample, without what profiling adds; `known_ns`: times from other networks, for widths that no sample
    has."""
    found: dict[str, dict[Widths, list[float]]] = {}
    for sample in samples:
        for site in sample.sites_ns:
            at = widths[site](sample.channels)
            found.setdefault(families[site], {}).setdefault(at, []).append(own_ns(sample, site))
    for family, times in known_ns.items():
        for at, time in times.items():
            found.setdefault(family, {}).setdefault(at, [time])
    return KernelTable({f: {w: tuple(times) for w, times in by.items()} for f, by in found.items()}, grains)


def family_key(family: Mapping[str, Any]) -> str:
    return canonical(family)


def regime_of(widths: Widths, grains: Sequence[Grain]) -> Regime:
    block = max((grain.block for grain in grains), default=1)
    return tuple(
        OFF if grain.off(width) else NARROW if width < block else ON
        for width, grain in zip(widths, grains, strict=False)
    )


def features(widths: Widths, grains: Sequence[Grain]) -> FloatArray:
    """1, each effective width, and their product."""
    known = [*grains, *[Grain()] * (len(widths) - len(grains))]
    paid = [float(grain.effective(width)) for width, grain in zip(widths, known, strict=False)]
    return np.asarray([1.0, *paid, *([paid[0] * paid[1]] if len(paid) > 1 else [])])


def _fit(seen: Mapping[Widths, tuple[float, ...]], grains: tuple[Grain, ...]) -> tuple[Law, dict[Regime, Law]] | None:
    """The family's law over all regimes, and one for each regime that was seen."""
    rows = [(widths, time) for widths, times in seen.items() for time in times if min(widths, default=1) > 0]
    rows = [(widths, time) for widths, time in rows if time > 0]
    if not rows:
        return None
    matrix = np.asarray([features(widths, grains) for widths, _ in rows])
    times = np.asarray([time for _, time in rows])
    general = _weights(matrix, times)
    by_regime: dict[Regime, list[int]] = {}
    for number, (widths, _) in enumerate(rows):
        by_regime.setdefault(regime_of(widths, grains), []).append(number)
    if len(by_regime) < 2:
        return Law(grains, general), {}
    expected = np.maximum(matrix @ general, 1e-9)
    like_the_family = matrix / expected[:, None]  # times the weights: 1 wherever a regime follows the family's law
    special = {}
    for regime, own in by_regime.items():
        ratio = float(np.median(times[own] / expected[own]))
        special[regime] = Law(grains, _weights(matrix[own], times[own], like_the_family, ratio))
    return Law(grains, general), special


def _weights(matrix: FloatArray, times: FloatArray, follow: FloatArray | None = None, ratio: float = 1.0) -> FloatArray:
    """Least squares of the relative error, pulled towards `follow @ weights = ratio`.

    Errors are relative to the fit, in a few rounds: relative to the measured times they would pull it below their mean.
    Times that are far from it count for little (Cauchy's weights), as those of a disturbed profile are.
    """
    scale = np.maximum(matrix.max(axis=0), 1e-12)
    least = LEAST_SHARE * float(np.median(times))
    pull, target = np.zeros((0, matrix.shape[1])), np.zeros(0)
    if follow is not None:
        strength = PRIOR / np.sqrt(len(follow))
        pull, target = strength * follow / scale, np.full(len(follow), strength * ratio)
    expected, trust = times, np.ones(len(times))
    for _ in range(REWEIGHTED):
        weight = np.sqrt(trust) / np.maximum(expected, least)
        left = np.vstack([matrix / scale * weight[:, None], pull])
        found, _ = nnls(left, np.append(times * weight, target))
        expected = matrix / scale @ found
        trust = 1 / (1 + ((times - expected) / (FAR * np.maximum(expected, least))) ** 2)
    return np.asarray(found / scale)
