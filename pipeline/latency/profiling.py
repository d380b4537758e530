"""Fill the kernel table: cut the network at candidate widths, run it on the device, read every kernel in place.

One build gives a sample for every kernel, with its real neighbours and caches. Every sample is a row of the profile
database; a plan whose rows are all there is not built again. Where the runtime tells no kernel times, a build gives
its end-to-end time alone, and what kernels take is inferred from many of them (`whole`).
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.model import Model
from pipeline.graph.rewrite import rewritten
from pipeline.latency.candidates import Candidates, find_candidates
from pipeline.latency.collecting import collect
from pipeline.latency.design import design
from pipeline.latency.few_widths import find_few_curves
from pipeline.latency.folds import FEWEST
from pipeline.latency.heldout import HeldOut, held_out, spread_of
from pipeline.latency.kinds import settled, sweeps_of, weights_of, with_grains, with_slow_paths
from pipeline.latency.predict import LatencyModel, fit
from pipeline.latency.samples import (
    Known,
    PlanSpace,
    cut_to,
    known_kernels,
    known_sample,
    profile_model,
    sample_plan,
)
from pipeline.latency.sites import SiteMap, sites_of
from pipeline.latency.stairs import Staircase, find_curves
from pipeline.latency.suggested import suggested_sites
from pipeline.latency.table import Sample, family_key
from targets.connection import Connection
from targets.device import refuse_emulated
from targets.errors import NoKernelTimes
from targets.profiles.store import Profiles

Progress = Callable[[int, int, str], None]

FEWEST_PLANS_KNOWN = FEWEST  # even if every kernel was seen elsewhere: else a prediction has no error and no interval
ENOUGH_WIDTHS = 8  # of a kernel, to take its law from other networks
MOST_DRAWN = 64  # widths of a group whose staircase is drawn

__all__ = ["NetworkProfile", "PlanSpace", "cut_to", "profile_network", "sample_plan"]


@dataclass(frozen=True, eq=False)
class NetworkProfile:
    """All that profiling found."""

    latency: LatencyModel
    candidates: Candidates
    heldout: HeldOut
    built: int
    reused: int
    base_kernels: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def doubts(self) -> tuple[str, ...]:
        """What everything that comes of it has to say."""
        if self.latency.sites.told:
            return ()
        doubt = (
            "the runtime tells no kernel times: widths were chosen, and latency predicted, from end-to-end times of "
            f"{len(self.latency.samples)} whole networks alone; what single kernels take is inferred, not measured"
        )
        return (doubt,)


def profile_network(
    model: Model,
    channels: Channels,
    groups: Sequence[ChannelGroup],
    connection: Connection,
    store: Profiles | None,
    *,
    constants: str = "kept",
    rewrite: bool = False,
    seed: int = 0,
    on_progress: Progress | None = None,
    others: Sequence[Connection] = (),
) -> NetworkProfile:
    """Sites, staircases, candidate widths, samples in place and the fitted latency model. `others`: connections to more
    devices of the same kind, which measure plans too. `BadInput` where the device is emulated."""
    refuse_emulated(connection.device, connection.target.name)
    session_id = uuid.uuid4().hex
    uncut = rewritten(model) if rewrite else model
    plain_sites = _sites(uncut, channels, connection)
    sweeps = sweeps_of(uncut, plain_sites)
    if plain_sites.told:
        swept = find_curves(sweeps, connection, store, session_id, on_progress)
    else:
        weights = weights_of(uncut, plain_sites, list(sweeps))
        swept = find_few_curves(sweeps, weights, connection, store, session_id, on_progress)
    curves = settled(uncut, plain_sites, swept)
    sites = with_slow_paths(uncut, with_grains(uncut, plain_sites, curves), curves)
    offered = find_candidates(uncut, channels, sites, groups, curves)
    space = PlanSpace(tuple(groups), offered, constants, rewrite)
    full = {group.id: group.channels for group in channels.groups}
    known = known_kernels(sites, space, connection, store) if store and sites.told else {}
    plans = [full, *design(channels, groups, offered, seed)]

    def wanted_after(uncut: Sample) -> int:
        """What other networks showed need not be shown again."""
        new = 1 - _known_share(sites, uncut, known)
        return min(len(plans), 1 + max(FEWEST_PLANS_KNOWN, round(new * (len(plans) - 1))))

    samples, built = collect(
        plans,
        [connection, *others],
        known=lambda plan: known_sample(sites, plan, space, model, connection, store) if store else None,
        take=lambda plan, by: sample_plan(model, channels, sites, plan, space, by, store, session_id),
        wanted_after=wanted_after,
        on_progress=on_progress,
    )
    if on_progress:
        on_progress(len(samples), len(samples), "profiled")
    latency = replace(fit(sites, samples, known), candidates=offered)
    heldout = held_out(latency)
    latency = replace(latency, spread=spread_of(heldout))
    candidates = Candidates(offered, {group.id: _staircase(latency, group, offered[group.id]) for group in groups})
    kernels = tuple(
        {"name": site.name, "op": "+".join(site.family["ops"]), "us": samples[0].sites_ns[site.name] / 1e3}
        for site in sites.sites
        if sites.told
    )
    return NetworkProfile(latency, candidates, heldout, built, len(samples) - built, kernels)


def _sites(uncut: Model, channels: Channels, connection: Connection) -> SiteMap:
    """As the runtime tells its kernels; where it tells none, as the graph suggests."""
    try:
        kernels = profile_model(uncut, connection, "uncut", runs=1, kernels_only=True).kernels  # any run shows them
    except NoKernelTimes:
        return suggested_sites(uncut, channels)
    return sites_of(uncut, channels, kernels)


def _known_share(sites: SiteMap, uncut: Sample, known: Known) -> float:
    """Of the uncut network's time, what is spent in kernels that were seen at enough widths."""
    enough = [site for site in sites.sites if len(known.get(family_key(site.family), ())) >= ENOUGH_WIDTHS]
    return sum(uncut.sites_ns[site.name] for site in enough) / max(uncut.total_ns, 1.0)


def _staircase(latency: LatencyModel, group: ChannelGroup, offered: Sequence[int]) -> Staircase:
    """What the kernels that know the group take together as it alone gets thinner."""
    full = latency.samples[0].channels
    tables = [t for t in latency.cost_tables() if any(group.id in dict(width.terms) for width in t.widths)]
    spaced = np.linspace(1, group.channels, min(MOST_DRAWN, group.channels))
    counts = tuple(sorted({round(float(count)) for count in spaced} | {count for count in offered if count}))
    times = tuple(sum(table.at({**full, group.id: count}) for table in tables) for count in counts)
    return Staircase({"group": group.id}, counts, times, tuple(count for count in offered if count))
