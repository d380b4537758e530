"""Half the FLOPs, twice: at widths as they fall, and at widths that cutback chooses for the target.

    python -m benchmarks.widths --network mobilenet_v2 --network efficientnet_b0 --json widths.json

Weights are random: time does not depend on them. "As they fall": every group keeps the same share of its channels, half
the FLOPs in all. "Chosen": at most half the FLOPs and half the time as measured, by the exact allocator over measured
widths. Both, and the uncut network, are built and timed in one interleaved run.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS, export
from pipeline.allocation import keep
from pipeline.goal import parse_goal
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import save
from pipeline.latency.profiling import PlanSpace, cut_to, profile_network
from pipeline.stages.allocating import decide_on_device
from pipeline.stages.opening import Opened, groups_to_cut, open_model
from pipeline.stages.scoring import score_channels
from targets.connection import Connection, connect
from targets.measure import measure
from targets.measurement import ratio
from targets.profiles.store import ProfileStore
from targets.target import find_target

SHARE = 0.5


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--db", default=None)
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args(arguments)
    rows = []
    with connect(find_target("local")) as connection:
        for name in asked.network or ["mobilenet_v2", "efficientnet_b0"]:
            rows.append(compare(name, asked.size, asked.sessions, connection, ProfileStore(asked.db)))
            print(describe(rows[-1]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"device": connection.device.as_dict(), "rows": rows}, indent=1))


def compare(name: str, size: int, sessions: int, connection: Connection, store: ProfileStore) -> dict[str, Any]:
    """One network: FLOPs left and measured speed-up of both ways."""
    with tempfile.TemporaryDirectory(prefix="cutback-widths-") as folder:
        source = Path(folder, f"{name}.onnx")
        export(NETWORKS[name](), source, size)
        opened = open_model(str(source), {})
        groups = groups_to_cut(opened.channels)
        plans = {
            "as they fall": as_they_fall(opened, groups),
            "chosen": chosen(opened, groups, connection, store, Path(folder)),
        }
        engines = [build(opened, {}, Path(folder, "uncut.onnx"), connection)]
        engines += [build(opened, plan, Path(folder, f"{way}.onnx"), connection) for way, plan in plans.items()]
        uncut, *cut = measure(engines, connection, shapes=opened.model.bound, sessions=sessions)
    before = paper_cost(opened.model).flops
    return {
        "network": name,
        "uncut_ms": uncut.median_ns / 1e6,
        "ways": {
            way: {"flops_cut": before / flops(opened, plan), "speed_up": asdict(ratio(uncut, measured))}
            for (way, plan), measured in zip(plans.items(), cut, strict=True)
        },
    }


def as_they_fall(opened: Opened, groups: Sequence[ChannelGroup]) -> dict[str, int]:
    """The common share, found by bisection, that leaves half the FLOPs."""
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        plan = keep({group.id: group.channels for group in groups}, share)
        low, high = (low, share) if flops(opened, plan) > SHARE * paper_cost(opened.model).flops else (share, high)
    return keep({group.id: group.channels for group in groups}, low)


def chosen(
    opened: Opened, groups: Sequence[ChannelGroup], connection: Connection, store: ProfileStore, folder: Path
) -> Mapping[str, int]:
    """What `cutback prune --goal "flops<=0.5x,latency<=0.5x"` settles on, no branch vanishing: widths are all that
    differs."""
    found = profile_network(opened.model, opened.channels, groups, connection, store)
    scores = score_channels(opened.model, opened.channels, groups, criterion="l2", normalisation="l2")
    decision = decide_on_device(
        opened, groups, scores, parse_goal(f"flops<={SHARE}x,latency<={SHARE}x"), found.latency,
        PlanSpace(tuple(groups), found.candidates.channels), build(opened, {}, folder / "base.onnx", connection),
        connection, store, folder, allocator="exact", floor=0.1, vanish=False, quick=False, seed=0,
    )  # fmt: skip
    return {group.id: decision.channels[group.id] for group in groups}


def flops(opened: Opened, plan: Mapping[str, int]) -> int:
    return paper_cost(cut_to(opened.model, opened.channels, plan, "kept")).flops


def build(opened: Opened, plan: Mapping[str, int], path: Path, connection: Connection) -> Any:
    save(cut_to(opened.model, opened.channels, plan, "kept"), path)
    return connection.build(path, path.with_suffix(".engine.onnx"))


def describe(row: Mapping[str, Any]) -> str:
    ways = "; ".join(
        f"{way}: {each['flops_cut']:.2f}x fewer FLOPs -> {each['speed_up']['value']:.2f}x "
        f"[{each['speed_up']['low']:.2f}, {each['speed_up']['high']:.2f}]"
        for way, each in row["ways"].items()
    )
    return f"{row['network']} ({row['uncut_ms']:.1f} ms uncut): {ways}"


if __name__ == "__main__":
    main()
