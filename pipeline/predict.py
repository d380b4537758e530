"""What a plan would cost on a target, from measured kernels."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.graph.cut import whole
from pipeline.latency.profiling import profile_network
from pipeline.lowering import connect
from pipeline.plan import read_blocks, read_plan
from pipeline.stages.building import needs_rewrites
from pipeline.stages.opening import groups_to_cut, open_model
from targets.connection import Tell, silent
from targets.profiles.borrow import borrowed, open_profiles
from targets.target import find_target

Progress = Callable[[int, int, str], None]


def predict(
    model: str,
    plan: Path,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "local",
    db: str | None = None,
    borrow: Collection[str] = (),
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """`predicted_ms` of the cut network and `uncut_ms` of the uncut one, both predicted, never measured; `low_ms` to
    `high_ms`: where nine in ten such cuts come out. Kernels that the database does not hold are measured first.
    `heldout` says how good such predictions were. `borrow`, `borrowed`:
    as in `profile`."""
    opened = open_model(model, shapes or {}, blocks=read_blocks(Path(plan)))
    kept, constants = read_plan(Path(plan), opened.channels)
    groups = groups_to_cut(opened.channels, inexact=True)
    with connect(find_target(target), tell=tell) as connection:
        store = open_profiles(db, connection.device, borrow)
        found = profile_network(
            opened.model, opened.channels, groups, connection, store, constants=constants,
            rewrite=needs_rewrites(opened.model, connection), on_progress=on_progress,
        )  # fmt: skip
    counts = {group: len(channels) for group, channels in whole(opened.channels, kept).items()}
    full = {group.id: group.channels for group in opened.channels.groups}
    low, high = found.latency.interval_ns(counts)
    return {
        "target": target,
        "predicted_ms": found.latency.predict_ns(counts) / 1e6,
        "low_ms": low / 1e6,
        "high_ms": high / 1e6,
        "uncut_ms": found.latency.predict_ns(full) / 1e6,
        "heldout": asdict(found.heldout),
        "doubts": list(found.doubts),
        "built": found.built,
        "reused": found.reused,
        "borrowed": borrowed(store),
    }
