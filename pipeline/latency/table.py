"""The kernel table: a site's time over its widths, from samples taken in place.

Where a combination of widths was measured, that is the answer. Between measured ones a kernel's time at right edges is
close to bilinear in its two widths (so many blocks in, times so many blocks out), fitted with non-negative terms, so
that no table ever rewards a wider kernel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from targets.profiles.key import canonical

Widths = tuple[int, ...]
WidthsOf = Callable[[Mapping[str, int]], Widths]


@dataclass(frozen=True, eq=False)
class KernelTable:
    """`samples[family][widths]`: times in ns. Families are canonical JSON."""

    samples: Mapping[str, Mapping[Widths, tuple[float, ...]]]
    _fits: dict[str, NDArray[np.float64] | None] = field(default_factory=dict)

    def cost(self, family: str, widths: Widths) -> float:
        """ns. A site that reads or makes nothing costs what was seen there, else nothing."""
        seen = self.samples.get(family, {})
        measured = float(np.median(seen[widths])) if widths in seen else None
        if min(widths, default=1) == 0:
            return measured or 0.0
        fitted = self._fitted(family, widths)
        if measured is None:
            return fitted
        count = len(seen[widths])
        return measured if fitted == 0 else (count * measured + fitted) / (count + 1) if count < 2 else measured

    def _fitted(self, family: str, widths: Widths) -> float:
        if family not in self._fits:
            self._fits[family] = _fit(self.samples.get(family, {}))
        weights = self._fits[family]
        return float(_features([widths])[0] @ weights) if weights is not None else 0.0


@dataclass(frozen=True)
class Sample:
    """One plan, built and profiled: its sites' times and numbers of kernels, and its end-to-end time in the same
    process. Times in ns, as the runtime's profiler gave them: with what profiling adds to every kernel."""

    channels: Mapping[str, int]
    sites_ns: Mapping[str, float]
    kernels: Mapping[str, int]
    end_to_end_ns: float

    @property
    def count(self) -> int:
        return sum(self.kernels.values())

    @property
    def total_ns(self) -> float:
        return sum(self.sites_ns.values())


def table_from(
    samples: Sequence[Sample], families: Mapping[str, str], widths: Mapping[str, WidthsOf], overhead_ns: float
) -> KernelTable:
    """`families`: site -> family; `widths`: site -> function from a plan to the site's widths; `overhead_ns`: taken off
    once for each kernel."""
    found: dict[str, dict[Widths, list[float]]] = {}
    for sample in samples:
        for site, time_ns in sample.sites_ns.items():
            at = widths[site](sample.channels)
            own = max(time_ns - overhead_ns * sample.kernels[site], 0.0)
            found.setdefault(families[site], {}).setdefault(at, []).append(own)
    return KernelTable({f: {w: tuple(times) for w, times in by.items()} for f, by in found.items()})


def family_key(family: Mapping[str, Any]) -> str:
    return canonical(family)


def _features(widths: Sequence[Widths]) -> NDArray[np.float64]:
    """1, each width, and their product."""
    columns = np.asarray(widths, np.float64).reshape(len(widths), -1)
    ones = np.ones((len(widths), 1))
    product = columns.prod(axis=1, keepdims=True) if columns.shape[1] > 1 else np.zeros((len(widths), 0))
    return np.concatenate([ones, columns, product], axis=1)


def _fit(seen: Mapping[Widths, tuple[float, ...]]) -> NDArray[np.float64] | None:
    """Least squares of the relative error."""
    rows = [(widths, time) for widths, times in seen.items() for time in times if min(widths, default=1) > 0]
    rows = [(widths, time) for widths, time in rows if time > 0]
    if not rows:
        return None
    features = _features([widths for widths, _ in rows])
    times = np.asarray([time for _, time in rows])
    scale = np.maximum(features.max(axis=0), 1e-12)
    weights, _ = nnls(features / scale / times[:, None], np.ones(len(rows)))
    return np.asarray(weights / scale)
