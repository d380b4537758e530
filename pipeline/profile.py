"""Fill the profile database for a network on a target, and show what was found."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.latency.profiling import NetworkProfile, profile_network
from pipeline.latency.table import family_key
from pipeline.lowering import connect, connect_fleet
from pipeline.stages.building import needs_rewrites
from pipeline.stages.opening import groups_to_cut, open_model
from targets.connection import Connection, Tell, silent
from targets.errors import BadInput
from targets.profiles.borrow import borrowed, open_profiles
from targets.target import find_target

Progress = Callable[[int, int, str], None]


def profile(
    model: str,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "local",
    db: str | None = None,
    borrow: Collection[str] = (),
    seed: int = 0,
    fleet: bool = False,
    devices: int | None = None,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """`kernels`: each place where time goes, uncut; inferred where `doubts` say so. `stairs`: time over width per
    group. `heldout`: how well plans that the fit had not seen were predicted. `built` / `reused`: networks profiled
    now / read from the database.

    `borrow`: parts of a key (stack, regime, device) in which a row may differ that stands in for a missing one.
    `borrowed`: how many kernels such rows were taken for, and what they differ in.

    `fleet`: plans are measured on all devices with the target's tag side by side, or on so many at a time as `devices`
    says. `tell` gets a line for a person where something takes longer than it should.
    """
    if devices is not None and (not fleet or devices < 1):
        raise BadInput(f"--devices {devices} is no number of devices of a --fleet to use at a time, such as 4")
    opened = open_model(model, shapes or {})
    groups = groups_to_cut(opened.channels, inexact=True)
    with crew_of(target, fleet, devices, tell) as (connection, *others):
        store = open_profiles(db, connection.device, borrow)
        found = profile_network(
            opened.model, opened.channels, groups, connection, store,
            rewrite=needs_rewrites(opened.model, connection), seed=seed, on_progress=on_progress, others=others,
        )  # fmt: skip
    return {"target": target, **describe_profile(found), "borrowed": borrowed(store)}


@contextlib.contextmanager
def crew_of(target: str, fleet: bool, devices: int | None, tell: Tell) -> Iterator[tuple[Connection, ...]]:
    """One connection, or one for each device of a fleet."""
    if fleet:
        with connect_fleet(find_target(target), devices, tell=tell) as crew:
            yield crew
    else:
        with connect(find_target(target), tell=tell) as connection:
            yield (connection,)


def describe_profile(found: NetworkProfile) -> dict[str, Any]:
    full = found.latency.samples[0].channels
    kernels = [
        {
            "name": site.name,
            "op": "+".join(site.family["ops"]),
            "widths": list(site.at(full)),
            "us": found.latency.table.cost(family_key(site.family), site.at(full)) / 1e3,
        }
        for site in found.latency.sites.sites
    ]
    return {
        "kernels": kernels,
        "predicted_ms": found.latency.predict_ns(full) / 1e6,
        "measured_ms": found.latency.samples[0].end_to_end_ns / 1e6,
        "stairs": describe_stairs(found, {}),
        "heldout": asdict(found.heldout),
        "doubts": list(found.doubts),
        "built": found.built,
        "reused": found.reused,
    }


def describe_stairs(found: NetworkProfile, chosen: Mapping[str, int]) -> list[dict[str, Any]]:
    """The staircases of the groups, as the report draws them."""
    return [
        {
            "op": "group",
            "title": group,
            "widths": list(stairs.widths),
            "us": [time / 1e3 for time in stairs.times_ns],
            "edges": [count for count in found.candidates.channels[group] if count],
            "chosen": chosen.get(group),
        }
        for group, stairs in found.candidates.stairs.items()
    ]
