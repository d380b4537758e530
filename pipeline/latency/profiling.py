"""Fill the kernel table: cut the network at candidate widths, run it on the device, read every kernel in place.

One build gives a sample for every kernel, with its real neighbours and caches. Every sample is a row of the profile
database; a plan whose rows are all there is not built again.
"""

import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.cut import cut, whole
from pipeline.graph.model import Model, save
from pipeline.graph.rewrite import rewritten
from pipeline.graph.settle import drop_constants, fold_constants, left_adds
from pipeline.latency.candidates import Candidates, find_candidates
from pipeline.latency.predict import HeldOut, LatencyModel, fit, held_out
from pipeline.latency.sites import Site, SiteMap, sites_of
from pipeline.latency.stairs import Progress
from pipeline.latency.table import Sample
from targets.connection import Connection
from targets.profiles.key import KernelKey, digest_of
from targets.profiles.store import ProfileStore, Row
from targets.timing import VERSION

RUNS = 30
FEWEST_PLANS = 16  # below this the fit has fewer samples than families have terms
PLANS_PER_CANDIDATE = 2.5  # each width of a group is then seen in place with several widths of its neighbours


@dataclass(frozen=True)
class PlanSpace:
    """Which groups may be cut, to which channel counts, what becomes of a vanished branch's constant, and whether the
    exact rewrites follow the cut."""

    groups: tuple[ChannelGroup, ...]
    candidates: Mapping[str, tuple[int, ...]]
    constants: str = "kept"  # or "dropped"
    rewrite: bool = False


@dataclass(frozen=True, eq=False)
class NetworkProfile:
    """All that profiling found."""

    latency: LatencyModel
    candidates: Candidates
    heldout: HeldOut
    built: int
    reused: int
    base_kernels: tuple[Mapping[str, Any], ...] = field(default=())


def profile_network(
    model: Model,
    channels: Channels,
    groups: Sequence[ChannelGroup],
    connection: Connection,
    store: ProfileStore | None,
    *,
    constants: str = "kept",
    rewrite: bool = False,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> NetworkProfile:
    """Sites, staircases, candidate widths, samples in place and the fitted latency model."""
    session_id = uuid.uuid4().hex
    uncut = rewritten(model) if rewrite else model
    base = _profile(uncut, connection, "uncut")
    sites = sites_of(uncut, channels, base.kernels)
    found = find_candidates(uncut, channels, sites, groups, connection, store, session_id, on_progress)
    space = PlanSpace(tuple(groups), found.channels, constants, rewrite)
    samples, built = [], 0
    plans = list(design(channels, space, seed))
    for number, plan in enumerate(plans):
        if on_progress:
            on_progress(number, len(plans), "profiling cut networks in place")
        sample = _known(sites, plan, space, model, connection, store) if store else None
        if sample is None:
            sample, built = sample_plan(model, channels, sites, plan, space, connection, store, session_id), built + 1
        samples.append(sample)
    if on_progress:
        on_progress(len(plans), len(plans), "profiled")
    kernels = tuple(
        {
            "name": kernel.outputs[0] if kernel.outputs else kernel.name,
            "op": "+".join(kernel.fused) or kernel.op,
            "us": kernel.mean_ns / 1e3,
        }
        for kernel in base.kernels
    )
    return NetworkProfile(fit(sites, samples), found, held_out(sites, samples), built, len(plans) - built, kernels)


def design(channels: Channels, space: PlanSpace, seed: int) -> Iterator[dict[str, int]]:
    """Plans to build: the uncut one, then random ones in which each candidate of a group comes up equally often."""
    full = {group.id: group.channels for group in channels.groups}
    yield full
    most = max((len(counts) for counts in space.candidates.values()), default=1)
    if most == 1:
        return
    generator = np.random.default_rng(seed)
    plans = max(FEWEST_PLANS, int(PLANS_PER_CANDIDATE * most))
    columns = {
        group.id: _balanced(space.candidates.get(group.id, (group.channels,)), plans, generator)
        for group in space.groups
        if group.vanishes_with in (None, group.id)
    }
    inner = [group for group in space.groups if group.vanishes_with not in (None, group.id)]
    for number in range(plans):
        plan = {**full, **{group_id: column[number] for group_id, column in columns.items()}}
        for group in inner:
            alive = plan[group.vanishes_with or group.id] > 0
            counts = [count for count in space.candidates.get(group.id, (group.channels,)) if count > 0]
            plan[group.id] = int(generator.choice(counts)) if alive else 0
        yield plan


def sample_plan(
    model: Model,
    channels: Channels,
    sites: SiteMap,
    plan: Mapping[str, int],
    space: PlanSpace,
    connection: Connection,
    store: ProfileStore | None,
    session_id: str,
) -> Sample:
    """Cut to `plan`, build, profile, record."""
    profile = _profile(cut_to(model, channels, plan, space.constants, rewrite=space.rewrite), connection, "plan")
    times = sites.gather(profile.kernels)
    if store:
        session = f"{session_id}-{digest_of(dict(plan))[:12]}"
        # What is observed belongs to the session as a whole: kernels are counted by the rows' indices.
        observed = {"kernels": [times[site.name].kernels for site in sites.sites]}
        rows = [
            Row(
                _site_key(site, site.at(plan), space, connection),
                times[site.name].samples_ns,
                session,
                number,
                observed,
            )
            for number, site in enumerate(sites.sites)
        ]
        ends = Row(_plan_key(model, plan, space, connection), profile.end_to_end.samples_ns, session, 0, observed)
        store.add([*rows, ends])
    return Sample(
        dict(plan),
        {name: time.mean_ns for name, time in times.items()},
        {name: time.kernels for name, time in times.items()},
        profile.end_to_end.median_ns,
    )


def cut_to(
    model: Model, channels: Channels, plan: Mapping[str, int], constants: str, *, rewrite: bool = False
) -> Model:
    """The network at these widths. Which channels stay does not matter for time: the first ones do."""
    kept = {group: tuple(range(count)) for group, count in plan.items()}
    adds = left_adds(model, channels, whole(channels, kept))
    smaller = fold_constants(cut(model, channels, kept), adds)
    settled = drop_constants(smaller, adds) if constants == "dropped" else smaller
    return rewritten(settled) if rewrite else settled


def _profile(model: Model, connection: Connection, name: str) -> Any:
    with tempfile.TemporaryDirectory(prefix="cutback-profile-") as folder:
        path = Path(folder, f"{name}.onnx")
        save(model, path)
        return connection.profile(path, shapes=model.bound, runs=RUNS)


def _known(
    sites: SiteMap,
    plan: Mapping[str, int],
    space: PlanSpace,
    model: Model,
    connection: Connection,
    store: ProfileStore,
) -> Sample | None:
    """The plan's sample from the database, or None where a row is missing."""
    keys = {site.name: _site_key(site, site.at(plan), space, connection).digest for site in sites.sites}
    ends = _plan_key(model, plan, space, connection).digest
    rows = store.find([*keys.values(), ends])
    if any(not rows.get(digest) for digest in (*keys.values(), ends)):
        return None
    return Sample(
        dict(plan),
        {name: float(np.median([row.mean_ns for row in rows[digest]])) for name, digest in keys.items()},
        {name: round(np.median([_kernels(row) for row in rows[digest]])) for name, digest in keys.items()},
        float(np.median([np.median(row.samples_ns) for row in rows[ends]])),
    )


def _kernels(row: Row) -> int:
    """How many kernels the site was in the row's session."""
    return int(row.observed["kernels"][row.index])


def _site_key(site: Site, widths: tuple[int, ...], space: PlanSpace, connection: Connection) -> KernelKey:
    # What a vanished branch leaves behind differs by what becomes of its constant; nothing else does.
    left = space.constants if min(widths, default=1) == 0 else None
    return _key(connection, {"family": dict(site.family), "widths": list(widths), "constants": left}, "in network")


def _plan_key(model: Model, plan: Mapping[str, int], space: PlanSpace, connection: Connection) -> KernelKey:
    shape = {"nodes": [[node.op_type, *node.output] for node in model.proto.graph.node], "bound": dict(model.bound)}
    network = digest_of({**shape, "plan": dict(plan), "constants": space.constants, "rewrite": space.rewrite})
    return _key(connection, {"network": network}, "end to end")


def _key(connection: Connection, op: Mapping[str, Any], place: str) -> KernelKey:
    device = connection.device
    precise = {**op, "precision": connection.target.precision}
    return KernelKey(device.device_class, device.stack, device.regime, precise, {"timing": VERSION, "place": place})


def _balanced(counts: Sequence[int], length: int, generator: np.random.Generator) -> list[int]:
    repeats = -(-length // len(counts))
    column = np.concatenate([generator.permutation(counts) for _ in range(repeats)])
    return [int(count) for count in column[:length]]
