"""The widths on offer for each group: right edges of the stairs that its kernels climb together.

What a kernel's stairs look like is measured (`stairs`), once for every kind of kernel and side; a group's stairs are
its kernels' stairs added up, each with the weight of its multiply-adds. Both are the same in every run over the same
database, so that a second run asks for the same plans.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.model import Model
from pipeline.latency.grain import Curve
from pipeline.latency.kinds import Curves, curves_of, flops_of
from pipeline.latency.sites import Site, SiteMap
from pipeline.latency.stairs import Staircase, right_edges

# Two widths whose kernels together differ by less than this take the same time.
SAME_TREAD = 1.02
NARROWEST_SHARE = 1 / 8  # of a group's channels: narrower is no network any more, and curves do not reach down there
MOST_CANDIDATES = 12  # a group; more would make the tables larger than the samples that fill them
NEAR_HULL = 0.01  # of the group's uncut time


@dataclass(frozen=True)
class Candidates:
    """Channel counts on offer for each group (0: the branch vanishes), and how its kernels climb."""

    channels: Mapping[str, tuple[int, ...]]
    stairs: Mapping[str, Staircase]  # group id -> time of its kernels over the group's channels


def find_candidates(
    model: Model, channels: Channels, sites: SiteMap, groups: Sequence[ChannelGroup], curves: Curves
) -> dict[str, tuple[int, ...]]:
    """Right edges of every group's stairs; the uncut width always, 0 where its branch may vanish."""
    flops = flops_of(model, sites)
    full = {group.id: group.channels for group in channels.groups}
    found = {}
    for group in groups:
        touching = [
            (site, flops[site.name], curves_of(model, site, curves))
            for site in sites.sites
            if flops[site.name] and any(group.id in dict(width.terms) for width in site.widths)
        ]
        counts = list(range(math.ceil(NARROWEST_SHARE * group.channels), group.channels + 1))
        times = [
            sum(weight * _share(site, shape, {**full, group.id: count}, full) for site, weight, shape in touching)
            for count in counts
        ]
        edges = right_edges(counts, times, SAME_TREAD) if touching else (group.channels,)
        chosen = thin(edges, dict(zip(counts, times, strict=True)), group.channels)
        found[group.id] = (0, *chosen) if group.vanishes_with else chosen
    return found


def thin(edges: Sequence[int], times: Mapping[int, float], full: int) -> tuple[int, ...]:
    """At most MOST_CANDIDATES of the edges: those that give most channels for their time (near the lower hull of
    time over channels) before others, and evenly spaced in time. The cheapest and the uncut width always."""
    chosen = sorted({*edges, full})
    if len(chosen) <= MOST_CANDIDATES:
        return tuple(chosen)
    hull = _lower_hull([(count, times[count]) for count in chosen])
    below = np.interp(chosen, [count for count, _ in hull], [time for _, time in hull])
    good = [c for c, line in zip(chosen, below, strict=True) if times[c] <= line + NEAR_HULL * times[full]]
    if len(good) > MOST_CANDIDATES:
        ticks = np.linspace(times[good[0]], times[full], MOST_CANDIDATES)
        good = sorted({min(good, key=lambda count: abs(times[count] - tick)) for tick in ticks} | {good[0], full})
    return tuple(good)


def _lower_hull(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of points in ascending order (Andrew's monotone chain)."""
    hull: list[tuple[int, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2:]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                break
            hull.pop()
        hull.append((x, y))
    return hull


def _share(site: Site, curves: Sequence[Curve], plan: Mapping[str, int], full: Mapping[str, int]) -> float:
    """The site's time at `plan` as a share of its uncut time; proportional to the widths where no curve is known."""
    share = 1.0
    for position, width in enumerate(site.widths):
        now, whole = width.at(plan), width.at(full)
        if curves:
            share *= _at(curves[position], now) / max(_at(curves[position], whole), 1e-12)
        else:
            share *= now / max(whole, 1)
    return share


@functools.lru_cache(maxsize=1 << 16)
def _at(curve: Curve, width: int) -> float:
    return curve.at(width)
