"""One plan in place: cut to its widths, built, profiled and recorded; or read back from the database."""

import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.cut import cut, whole
from pipeline.graph.model import Model, save
from pipeline.graph.rewrite import rewritten
from pipeline.graph.settle import drop_constants, fold_constants, left_adds
from pipeline.latency.keys import END_TO_END, IN_NETWORK, in_gauges_of, key_of, observed_in
from pipeline.latency.sites import Site, SiteMap
from pipeline.latency.table import Sample, family_key
from targets.connection import Connection
from targets.kernels import Profile, fastest, in_gauges
from targets.profiles.key import KernelKey, digest_of
from targets.profiles.store import Profiles, Row

RUNS = 24
FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)  # times do not read them
MOST_COMBINATIONS = 64  # of widths of one family that are asked for in the database

Known = Mapping[str, Mapping[tuple[int, ...], float]]  # family -> widths -> time in gauges


@dataclass(frozen=True)
class PlanSpace:
    """Which groups may be cut, to which channel counts, what becomes of a vanished branch's constant, and whether the
    exact rewrites follow the cut."""

    groups: tuple[ChannelGroup, ...]
    candidates: Mapping[str, tuple[int, ...]]
    constants: str = "kept"  # or "dropped"
    rewrite: bool = False


def sample_plan(
    model: Model,
    channels: Channels,
    sites: SiteMap,
    plan: Mapping[str, int],
    space: PlanSpace,
    connection: Connection,
    store: Profiles | None,
    session_id: str,
) -> Sample:
    """Cut to `plan`, build, profile, record."""
    profile = profile_model(cut_to(model, channels, plan, space.constants, rewrite=space.rewrite), connection, "plan")
    gauge_ns, stream_ns = level_of(profile.gauge_ns), level_of(profile.stream_ns)
    level = gauge_ns or 1.0
    end_to_end_ns = level * in_gauges(profile.end_to_end.samples_ns, profile.gauge_ns)
    if not sites.told:
        if store:
            key, session = _graph_key(model, plan, space, connection), f"{session_id}-{digest_of(dict(plan))[:12]}"
            store.add([Row(key, profile.end_to_end.samples_ns, session, 0, observed_in(profile))])
        return Sample(dict(plan), {}, {}, end_to_end_ns, gauge_ns, stream_ns)
    times = sites.gather(profile.kernels)
    if store:
        session = f"{session_id}-{digest_of(dict(plan))[:12]}"
        # What is observed belongs to the session as a whole: kernels are counted by the rows' indices.
        observed = {"kernels": [times[site.name].kernels for site in sites.sites], **observed_in(profile)}
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
        {name: level * time.level(profile) for name, time in times.items()},
        {name: time.kernels for name, time in times.items()},
        end_to_end_ns,
        gauge_ns,
        stream_ns,
    )


def level_of(samples_ns: Sequence[float]) -> float:
    """0 where there are none."""
    return fastest(samples_ns) if samples_ns else 0.0


def usual_level(sessions: Sequence[Sequence[float]]) -> float:
    """The median of those that have samples; 0 where none has."""
    known = [fastest(samples) for samples in sessions if samples]
    return float(np.median(known)) if known else 0.0


def cut_to(
    model: Model, channels: Channels, plan: Mapping[str, int], constants: str, *, rewrite: bool = False
) -> Model:
    """The network at these widths. Which channels stay does not matter for time: the first ones do."""
    kept = {group: tuple(range(count)) for group, count in plan.items()}
    adds = left_adds(model, channels, whole(channels, kept))
    smaller = fold_constants(cut(model, channels, kept), adds)
    settled = drop_constants(smaller, adds) if constants == "dropped" else smaller
    return rewritten(settled) if rewrite else settled


def profile_model(
    model: Model, connection: Connection, name: str, *, runs: int = RUNS, kernels_only: bool = False
) -> Profile:
    with tempfile.TemporaryDirectory(prefix="cutback-profile-") as folder:
        path = Path(folder, f"{name}.onnx")
        save(model, path)
        return connection.profile(path, shapes=model.bound, runs=runs, kernels_only=kernels_only)


def known_sample(
    sites: SiteMap,
    plan: Mapping[str, int],
    space: PlanSpace,
    model: Model,
    connection: Connection,
    store: Profiles,
) -> Sample | None:
    """The plan's sample from the database, or None where a row is missing. What was taken at different speeds of the
    device is brought to that of the end-to-end rows."""
    own = sites.sites if sites.told else ()
    keys = {site.name: _site_key(site, site.at(plan), space, connection).digest for site in own}
    ends = (_plan_key if sites.told else _graph_key)(model, plan, space, connection).digest
    rows = store.find([*keys.values(), ends])
    if any(not rows.get(digest) for digest in (*keys.values(), ends)):
        return None
    gauge_ns = usual_level([row.observed["gauge_ns"] for row in rows[ends]])
    stream_ns = usual_level([row.observed.get("stream_ns", ()) for row in rows[ends]])
    level = gauge_ns or 1.0
    return Sample(
        dict(plan),
        {name: level * float(np.median([in_gauges_of(row) for row in rows[digest]])) for name, digest in keys.items()},
        {name: round(np.median([_kernels(row) for row in rows[digest]])) for name, digest in keys.items()},
        level * float(np.median([in_gauges_of(row) for row in rows[ends]])),
        gauge_ns,
        stream_ns,
    )


def known_kernels(sites: SiteMap, space: PlanSpace, connection: Connection, store: Profiles) -> Known:
    """What the database holds of these sites' kernels at candidate widths, whichever network they were timed in."""
    full = {group.id: group.channels for group in space.groups}
    keys: dict[str, tuple[str, tuple[int, ...]]] = {}
    for site in sites.sites:
        involved = sorted({group for width in site.widths for group, _ in width.terms})
        if not set(involved) <= set(full):
            continue
        counts = [[n for n in space.candidates.get(group, (full[group],)) if n] for group in involved]
        for combination in _some(counts):
            widths = site.at(dict(zip(involved, combination, strict=True)))
            keys[_site_key(site, widths, space, connection).digest] = (family_key(site.family), widths)
    found: dict[str, dict[tuple[int, ...], float]] = {}
    for digest, rows in store.find(list(keys)).items():
        family, widths = keys[digest]
        found.setdefault(family, {})[widths] = float(np.median([in_gauges_of(row) for row in rows]))
    return found


def _some(counts: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """Combinations from all over, the same ones every time."""
    total = math.prod(map(len, counts))
    generator = np.random.default_rng(0)
    picked = range(total) if total <= MOST_COMBINATIONS else sorted(generator.choice(total, MOST_COMBINATIONS, False))
    for number in picked:
        yield tuple(count[i] for count, i in zip(counts, np.unravel_index(number, list(map(len, counts))), strict=True))


def _kernels(row: Row) -> int:
    """How many kernels the site was in the row's session."""
    return int(row.observed["kernels"][row.index])


def _site_key(site: Site, widths: tuple[int, ...], space: PlanSpace, connection: Connection) -> KernelKey:
    # What a vanished branch leaves behind differs by what becomes of its constant; nothing else does.
    left = space.constants if min(widths, default=1) == 0 else None
    op = {"family": dict(site.family), "widths": list(widths), "constants": left}
    return key_of(connection, op, IN_NETWORK)


def _plan_key(model: Model, plan: Mapping[str, int], space: PlanSpace, connection: Connection) -> KernelKey:
    shape = {"nodes": [[node.op_type, *node.output] for node in model.proto.graph.node], "bound": dict(model.bound)}
    network = digest_of({**shape, "plan": dict(plan), "constants": space.constants, "rewrite": space.rewrite})
    return key_of(connection, {"network": network}, END_TO_END)


def _graph_key(model: Model, plan: Mapping[str, int], space: PlanSpace, connection: Connection) -> KernelKey:
    """Of all that the network's time depends on. Where kernels are told their own keys say that; here nothing else
    does."""
    graph = model.proto.graph
    shape = {
        "nodes": [hashlib.sha256(node.SerializeToString(deterministic=True)).hexdigest() for node in graph.node],
        "initialisers": [_shape_of(tensor) for tensor in graph.initializer],
        "bound": dict(model.bound),
    }
    cut = {"plan": dict(plan), "constants": space.constants, "rewrite": space.rewrite}
    return key_of(connection, {"graph": digest_of({**shape, **cut})}, END_TO_END)


def _shape_of(tensor: onnx.TensorProto) -> list[Any]:
    """Name, type and sizes; of integers, which may count or choose, the values too."""
    values = [] if tensor.data_type in FLOATING else numpy_helper.to_array(tensor).tolist()
    return [tensor.name, tensor.data_type, list(tensor.dims), values]
