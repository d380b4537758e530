"""The widths on offer for each group, found by measuring: right edges of the stairs that its kernels climb together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.flops import node_flops
from pipeline.graph.model import Model
from pipeline.latency.sites import Site, SiteMap
from pipeline.latency.stairs import Progress, Staircase, Sweep, measure_staircase, sweep_of, sweep_widths
from targets.connection import Connection
from targets.profiles.store import ProfileStore

MOST_CANDIDATES = 8  # a group; more would make the tables larger than the samples that fill them
MOST_SITES = 6  # a group; a residual stream is read by many alike, the heaviest show its stairs


@dataclass(frozen=True)
class Candidates:
    """Channel counts on offer for each group (0: the branch vanishes), and the staircases they were read off."""

    channels: Mapping[str, tuple[int, ...]]
    stairs: Mapping[str, Staircase]  # group id -> time of its kernels over the group's channels


def find_candidates(
    model: Model,
    channels: Channels,
    sites: SiteMap,
    groups: Sequence[ChannelGroup],
    connection: Connection,
    store: ProfileStore | None,
    session_id: str,
    on_progress: Progress | None = None,
) -> Candidates:
    """Sweep every kind of kernel that touches `groups`, add the stairs up per group, and keep their right edges.

    The sites with the most multiply-adds speak for a group: they are the same in every run, as measured times are not.
    """
    flops = {node.name: node_flops(node, model) for node in model.proto.graph.node}
    heaviest = sorted(sites.sites, key=lambda site: -flops.get(site.linear or "", 0))
    asked: dict[str, list[tuple[str, int, int]]] = {}
    wanted: dict[str, tuple[Sweep, set[int]]] = {}
    for group in groups:
        asked[group.id] = []
        for site, side, step, offset in _touching(channels, heaviest, group):
            sweep = sweep_of(model, site, side)
            if sweep is not None:
                key = repr(sorted(sweep.op.items(), key=str))
                wanted.setdefault(key, (sweep, set()))[1].update(sweep_widths(step * group.channels, step, offset))
                asked[group.id].append((key, step, offset))
    curves: dict[str, dict[int, float]] = {}
    for number, (key, (sweep, widths)) in enumerate(wanted.items()):
        if on_progress:
            on_progress(number, len(wanted), f"staircase of {sweep.node.op_type} {sweep.node.name}")
        stairs = measure_staircase(sweep, sorted(widths), connection, store, session_id)
        curves[key] = dict(zip(stairs.widths, stairs.times_ns, strict=True))
    found: dict[str, tuple[int, ...]] = {}
    drawn: dict[str, Staircase] = {}
    for group in groups:
        counts = sorted({w // group.step for w in sweep_widths(group.width, group.step)})
        times = [_sum_at(curves, asked[group.id], count) for count in counts]
        usable = {count: time for count, time in zip(counts, times, strict=True) if time is not None}
        chosen: tuple[int, ...] = (group.channels,)
        if asked[group.id] and group.channels in usable:
            stairs = Staircase({"group": group.id}, tuple(usable), tuple(usable.values()))
            drawn[group.id], chosen = stairs, thin(stairs.edges, usable, group.channels)
        found[group.id] = (0, *chosen) if group.vanishes_with else chosen
    return Candidates(found, drawn)


def thin(edges: Sequence[int], times: Mapping[int, float], full: int) -> tuple[int, ...]:
    """At most MOST_CANDIDATES of the edges, evenly spaced in time; the cheapest and the uncut width always."""
    chosen = sorted({*edges, full})
    if len(chosen) <= MOST_CANDIDATES:
        return tuple(chosen)
    ticks = np.linspace(times[chosen[0]], times[chosen[-1]], MOST_CANDIDATES)
    nearest = {min(chosen, key=lambda count: abs(times[count] - tick)) for tick in ticks}
    return tuple(sorted(nearest | {chosen[0], full}))


def _touching(channels: Channels, heaviest: Sequence[Site], group: ChannelGroup) -> list[tuple[Site, str, int, int]]:
    """(site, side, indices per channel, indices of others) for the heaviest sites whose widths count the group."""
    full = {other.id: other.channels for other in channels.groups}
    found: dict[str, list[tuple[Site, str, int, int]]] = defaultdict(list)
    for site in heaviest:
        for position, width in enumerate(site.widths):
            step = dict(width.terms).get(group.id)
            if step and site.linear:
                side = "both" if len(site.widths) == 1 else ("in", "out")[position]
                found[side].append((site, side, step, width.at(full) - step * group.channels))
    return [entry for side in found.values() for entry in side[:MOST_SITES]]


def _sum_at(
    curves: Mapping[str, Mapping[int, float]], asked: Sequence[tuple[str, int, int]], count: int
) -> float | None:
    times = [curves[key].get(offset + step * count) for key, step, offset in asked]
    return None if any(time is None for time in times) else float(sum(time for time in times if time is not None))
