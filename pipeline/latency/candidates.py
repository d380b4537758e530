"""The widths on offer for each group: right edges of the stairs that its kernels climb together.

What a kernel's stairs look like is measured (`stairs`), once for every kind of kernel and side; a group's stairs are
its kernels' stairs added up, each with the weight of its multiply-adds. Both are the same in every run over the same
database, so that a second run asks for the same plans.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.flops import node_flops
from pipeline.graph.model import Model
from pipeline.latency.grain import Curve, Grain, common, settle
from pipeline.latency.sites import Site, SiteMap
from pipeline.latency.stairs import Staircase, Sweep, right_edges, sweep_of

# Two widths whose kernels together differ by less than this take the same time.
SAME_TREAD = 1.02
NARROWEST_SHARE = 1 / 8  # of a group's channels: narrower is no network any more, and curves do not reach down there
MOST_CANDIDATES = 12  # a group; more would make the tables larger than the samples that fill them
NEAR_HULL = 0.01  # of the group's uncut time
NARROWEST = 8  # widths below it have no stairs worth a sweep
WIDE_ENOUGH = 48  # three of the widest blocks that processors have


@dataclass(frozen=True)
class Candidates:
    """Channel counts on offer for each group (0: the branch vanishes), and the staircases they were read off."""

    channels: Mapping[str, tuple[int, ...]]
    stairs: Mapping[str, Staircase]  # group id -> time of its kernels over the group's channels


def sweeps_of(model: Model, sites: SiteMap) -> dict[str, Sweep]:
    """One sweep for each kind of kernel and side: where a single channel costs most, its stairs stand out of the noise;
    among kernels wide enough to have some, if there are any."""
    flops = _flops(model, sites)
    found: dict[str, list[tuple[bool, float, Sweep]]] = {}
    for site in sites.sites:
        for side in ("both",) if len(site.widths) == 1 else ("in", "out"):
            sweep = sweep_of(model, site, side)
            if sweep is not None and sweep.full // sweep.step >= NARROWEST:
                rank = (sweep.full // sweep.step >= WIDE_ENOUGH, flops[site.name] / sweep.full, sweep)
                found.setdefault(kind_of(sweep), []).append(rank)
    return {kind: max(ranks, key=lambda rank: rank[:2])[2] for kind, ranks in found.items()}


def kind_of(sweep: Sweep) -> str:
    """Kernels of one kind are taken to share their grain: operator, kernel, stride, dilation, grouping, side."""
    attributes = sweep.op["attributes"]
    traits = [attributes.get(name) for name in ("strides", "dilations", "transB")]
    return repr((sweep.node.op_type, sweep.weight_shape[2:], traits, sweep.per_group, sweep.groups, sweep.side))


def settled(model: Model, sites: SiteMap, curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves, a grain of its own only where it is worth it; input sides and output sides each have their usual
    one."""
    flops = _flops(model, sites)
    weights = dict.fromkeys(curves, 0.0)
    for site in sites.sites:
        for side in ("both",) if len(site.widths) == 1 else ("in", "out"):
            sweep = sweep_of(model, site, side)
            if sweep is not None and kind_of(sweep) in weights:
                weights[kind_of(sweep)] += flops[site.name]
    found: dict[str, Curve] = {}
    for side in ("in", "out", "both"):
        own = {name: curve for name, curve in curves.items() if name.endswith(f"{side!r})")}
        found |= settle(own, weights)
    return found


def with_grains(model: Model, sites: SiteMap, curves: Mapping[str, Curve]) -> SiteMap:
    """The sites with what the sweeps showed. What was not swept (elementwise kernels, poolings) lies in memory as the
    heaviest kernels leave it, and takes their grain."""
    flops = _flops(model, sites)
    measured = {site.name: _curves(model, site, curves) for site in sites.sites}
    outs = [(found[-1].grain, flops[name]) for name, found in measured.items() if found]
    ins = [(found[0].grain, flops[name]) for name, found in measured.items() if len(found) == 2]
    usual = Grain(common(*_columns(ins)).step, common(*_columns(outs)).block)
    return replace(
        sites,
        sites=tuple(
            replace(
                site,
                grains=tuple(
                    Grain(max(curve.grain.step, usual.step), curve.grain.block) for curve in measured[site.name]
                )
                or (usual,) * len(site.widths),
            )
            for site in sites.sites
        ),
    )


def find_candidates(
    model: Model, channels: Channels, sites: SiteMap, groups: Sequence[ChannelGroup], curves: Mapping[str, Curve]
) -> dict[str, tuple[int, ...]]:
    """Right edges of every group's stairs; the uncut width always, 0 where its branch may vanish."""
    flops = _flops(model, sites)
    full = {group.id: group.channels for group in channels.groups}
    found = {}
    for group in groups:
        touching = [
            (site, flops[site.name], _curves(model, site, curves))
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


def _curves(model: Model, site: Site, curves: Mapping[str, Curve]) -> tuple[Curve, ...]:
    """One curve a width, or none where one of them was not swept."""
    if site.linear is None:
        return ()
    sweeps = [sweep_of(model, site, side) for side in (("both",) if len(site.widths) == 1 else ("in", "out"))]
    found = [curves.get(kind_of(sweep)) for sweep in sweeps if sweep is not None]
    known = [curve for curve in found if curve is not None]
    return tuple(known) if len(known) == len(site.widths) else ()


def _flops(model: Model, sites: SiteMap) -> dict[str, float]:
    own = {node.name: float(node_flops(node, model)) for node in model.proto.graph.node}
    return {site.name: own.get(site.linear or "", 0.0) for site in sites.sites}


def _columns(pairs: Sequence[tuple[Grain, float]]) -> tuple[list[Grain], list[float]]:
    return [grain for grain, _ in pairs], [weight for _, weight in pairs]
