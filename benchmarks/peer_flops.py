"""Equal FLOPs: Torch-Pruning beside cutback at half the multiply-adds, with the same scores, timed in one run.

    python -m pip install --no-deps torch-pruning==1.6.1
    python -m benchmarks.peer_flops -o WORK --json peer_flops.json
    python -m benchmarks.peer_flops -o WORK --network resnet18 --criterion taylor

Weights are random and seeded: time does not depend on them. The peer ranks all channels globally, by magnitude and by
Taylor (gradients of the sum of the outputs, as its documentation shows), in one step, at the ratio that leaves half of
the multiply-adds: with its defaults, and with round_to 8 and 16. cutback gets the peer's own importance of each channel
and chooses two plans on the measured kernel table, no branch vanishing:

    fastest    the least predicted latency, with 0.49 to 0.50 of the multiply-adds left, that keeps at least the
               importance that the peer's defaults keep (where that cannot be: as much of it as can, and says so)
    goal       the most importance within half the multiply-adds and half the time as measured
               (`--goal flops<=0.5x,latency<=0.5x`)

All are exported the same way, and built and timed in one interleaved run. WORK keeps what is finished, network by
network. Kept importance is a share of the sum over all channels that the peer ranks.
"""

import argparse
import json
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.networks import NETWORKS, SIZES, export
from benchmarks.peer import Rule, cut_to_share, output_layers, scores
from benchmarks.peer_scores import SharedScores, peer_kept, shared_scores
from pipeline.allocation import Budget, Choice, Unreachable
from pipeline.allocation.exact import allocate_cheapest
from pipeline.costs import budget_of
from pipeline.goal import Bound, parse_goal
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import load, save
from pipeline.latency.profiling import NetworkProfile, PlanSpace, cut_to, profile_network
from pipeline.stages.allocating import decide_on_device
from pipeline.stages.opening import Opened, groups_to_cut, open_model
from pipeline.stages.problem import complete, make_choices, settle_budget, with_branches
from pipeline.workspace import write_json
from targets.connection import Connection, connect
from targets.errors import CutbackError
from targets.measure import measure
from targets.measurement import Ratio, ratio
from targets.profiles.store import ProfileStore
from targets.target import find_target

COMPARED = (
    "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "regnet_x_400mf", "squeezenet", "densenet121", "yolo",
)  # fmt: skip
CRITERIA = ("magnitude", "taylor")
ROUNDING: Mapping[str, int | None] = {"peer": None, "peer8": 8, "peer16": 16}
SHARE, LEAST_SHARE = 0.5, 0.49
WORTH_STEPS = (1.0, 0.99, 0.98, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8)  # of what the peer keeps, until a plan is found
FLOOR = 0.1
GRADIENT_IMAGES = 2
CLASSES = {"yolo": 80}
# What a tool that cannot follow a network has been seen to raise.
FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, LookupError, ArithmeticError)


@dataclass(frozen=True, eq=False)
class Bench:
    """One network under comparison."""

    name: str
    network: nn.Module
    opened: Opened
    profile: NetworkProfile
    connection: Connection
    store: ProfileStore
    folder: Path

    @property
    def image(self) -> torch.Tensor:
        size = SIZES.get(self.name, 224)
        return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    @property
    def ignored(self) -> list[str]:
        return output_layers(self.network, CLASSES.get(self.name, 1000))

    @property
    def full(self) -> dict[str, int]:
        return {group.id: group.channels for group in self.opened.channels.groups}

    def flops_left(self, path: Path) -> float:
        return paper_cost(load(path)).flops / paper_cost(self.opened.model).flops


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peer_flops",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder that everything is kept in")
    parser.add_argument("--network", action="append", choices=COMPARED)
    parser.add_argument("--criterion", action="append", choices=CRITERIA)
    parser.add_argument("--sessions", type=int, default=10, help="fresh sessions a network (default: 10)")
    parser.add_argument("--db", default=None, help="profile database")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args(arguments)
    try:
        peer = version("torch-pruning")
    except PackageNotFoundError:
        sys.exit("Torch-Pruning is not installed. Run: python -m pip install --no-deps torch-pruning==1.6.1")
    rows = []
    with connect(find_target("local")) as connection:
        for name in asked.network or COMPARED:
            for criterion in asked.criterion or CRITERIA:
                path = asked.output / name / criterion / "result.json"
                if not path.exists():
                    row = compare(name, criterion, path.parent, connection, ProfileStore(asked.db), asked.sessions)
                    write_json(path, row)
                rows.append(json.loads(path.read_text(encoding="utf-8")))
                print("\n".join(describe(rows[-1])), flush=True)
        device = connection.device.as_dict()
    summary = means(rows)
    print("\n".join(summary_lines(summary)))
    if asked.json:
        write_json(asked.json, {"peer": peer, "device": device, "rows": rows, "means": summary})


def compare(
    name: str, criterion: Any, folder: Path, connection: Connection, store: ProfileStore, sessions: int
) -> dict[str, Any]:
    """One network and criterion: every plan, what it keeps, and all of them timed in one run."""
    folder.mkdir(parents=True, exist_ok=True)
    network = NETWORKS[name]()
    source = export(network, folder / "uncut.onnx", SIZES.get(name, 224))
    opened = open_model(str(source), {})
    profile = profile_network(opened.model, opened.channels, groups_to_cut(opened.channels), connection, store)
    bench = Bench(name, network, opened, profile, connection, store, folder)
    plans: dict[str, dict[str, Any]] = {}
    try:
        if criterion == "taylor":
            take_gradients(bench)
        theirs = scores(network, bench.image, Rule(criterion), bench.ignored)
    except FAILURES as error:
        return {"network": name, "criterion": criterion, "failure": said(error)}
    for way, round_to in ROUNDING.items():
        plans[way] = cut_peer(bench, Rule(criterion, round_to), way, theirs)
    if "failure" in plans["peer"]:
        return {"network": name, "criterion": criterion, "failure": plans["peer"]["failure"]}
    shared = shared_scores(theirs, groups_to_cut(opened.channels))
    plans["fastest"] = cut_fastest(bench, shared, plans["peer"]["kept"])
    plans["goal"] = cut_to_goal(bench, shared)
    return {
        "network": name,
        "criterion": criterion,
        "left_whole": len(groups_to_cut(opened.channels)) - len(shared.groups),
        "importance_apart": shared.apart / shared.total,
        "plans": plans,
        **timed(bench, plans, sessions),
    }


def take_gradients(bench: Bench) -> None:
    """Of the sum of the outputs, in eval mode."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(GRADIENT_IMAGES, *bench.image.shape[1:], generator=generator)
    bench.network(images).sum().backward()


def cut_peer(bench: Bench, rule: Rule, way: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    path = bench.folder / f"{way}.onnx"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cut = cut_to_share(bench.network, bench.image, rule, SHARE, bench.ignored)
        export(cut.network, path, bench.image.shape[-1])
    except FAILURES as error:
        return {"failure": said(error)}
    return {
        "flops_left": bench.flops_left(path),
        "peer_flops_left": cut.peer_left,
        "kept": peer_kept(theirs, cut.removed),
        "ratio": cut.ratio,
    }


def cut_fastest(bench: Bench, shared: SharedScores, kept: float) -> dict[str, Any]:
    """The least predicted latency at these FLOPs, keeping at least `kept` of the importance where that can be."""
    choices = make_choices(shared.scores, bench.profile.candidates.channels, shared.groups, floor=FLOOR, vanish=False)
    model = bench.profile.latency
    latency = Budget(
        "latency", math.inf, with_branches(model.cost_tables(), shared.groups, bench.full), model.offset_ns
    )
    flops = settle_budget(
        budget_of(Bound("flops", SHARE, True), bench.opened.model, bench.opened.channels), shared.groups, bench.full
    )
    within = replace(flops, least=flops.limit * LEAST_SHARE / SHARE)
    plan, part = least_latency(choices, latency, within, kept * shared.total - shared.apart)
    channels = complete(plan, shared.groups, bench.full)
    return {
        **built(bench, channels, "fastest"),
        "kept": shared.kept(channels),
        "asked_share": part,
        "predicted_ms": model.predict_ns(channels) / 1e6,
    }


def least_latency(
    choices: Sequence[Choice], latency: Budget, flops: Budget, worth: float
) -> tuple[Mapping[str, int], float]:
    """The plan, and how much of `worth` was asked of it."""
    for part in WORTH_STEPS:
        try:
            return allocate_cheapest(choices, latency, (flops,), least_value=worth * part).channels, part
        except Unreachable:
            continue
    return allocate_cheapest(choices, latency, (flops,)).channels, 0.0


def cut_to_goal(bench: Bench, shared: SharedScores) -> dict[str, Any]:
    """What `cutback prune --goal "flops<=0.5x,latency<=0.5x"` settles on, no branch vanishing."""
    base = bench.connection.build(bench.folder / "uncut.onnx", bench.folder / "base.engine.onnx")
    space = PlanSpace(shared.groups, bench.profile.candidates.channels)
    goal = parse_goal(f"flops<={SHARE}x,latency<={SHARE}x")
    try:
        decision = decide_on_device(
            bench.opened, shared.groups, shared.scores, goal, bench.profile.latency, space, base, bench.connection,
            bench.store, bench.folder, allocator="exact", floor=FLOOR, vanish=False, quick=False, seed=0,
        )  # fmt: skip
    except CutbackError as error:
        return {"failure": said(error)}
    return {**built(bench, decision.channels, "goal"), "kept": shared.kept(decision.channels)}


def built(bench: Bench, channels: Mapping[str, int], way: str) -> dict[str, Any]:
    path = bench.folder / f"{way}.onnx"
    save(cut_to(bench.opened.model, bench.opened.channels, channels, "kept"), path)
    return {"flops_left": bench.flops_left(path), "channels": dict(channels)}


def timed(bench: Bench, plans: Mapping[str, Mapping[str, Any]], sessions: int) -> dict[str, Any]:
    """The uncut network and every plan in one interleaved run."""
    ways = ["uncut", *(way for way, plan in plans.items() if "failure" not in plan)]
    engines = [
        bench.connection.build(bench.folder / f"{way}.onnx", bench.folder / f"{way}.engine.onnx") for way in ways
    ]
    found = dict(
        zip(
            ways,
            measure(engines, bench.connection, shapes=bench.opened.model.bound, sessions=sessions),
            strict=True,
        )
    )
    return {
        "times": {
            way: {
                "ms": each.median_ns / 1e6,
                "interval_ms": [end / 1e6 for end in each.interval_ns()],
                "speed_up": asdict(ratio(found["uncut"], each)),
                "doubts": list(each.doubts),
            }
            for way, each in found.items()
        },
        "ratios": {
            ours: {theirs: asdict(ratio(found[theirs], found[ours])) for theirs in ROUNDING if theirs in found}
            for ours in ("fastest", "goal")
            if ours in found
        },
    }


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means over networks of theirs / ours, by our plan, their rounding, and criterion."""
    found = []
    for ours in ("fastest", "goal"):
        for theirs in ROUNDING:
            for criterion in (*CRITERIA, "both"):
                ratios = [
                    row["ratios"][ours][theirs]["value"]
                    for row in rows
                    if criterion in ("both", row["criterion"]) and theirs in row.get("ratios", {}).get(ours, {})
                ]
                if ratios:
                    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
                    found.append(
                        {"ours": ours, "theirs": theirs, "criterion": criterion, "mean": mean, "rows": len(ratios)}
                    )
    return found


def describe(row: Mapping[str, Any]) -> list[str]:
    head = f"{row['network']}, {row['criterion']}"
    if "failure" in row:
        return [f"{head}: the peer fails: {row['failure']}"]
    lines = [f"{head} (uncut {row['times']['uncut']['ms']:.3f} ms)"]
    for way, plan in row["plans"].items():
        if "failure" in plan:
            lines.append(f"  {way:<8} fails: {plan['failure']}")
            continue
        time = row["times"][way]
        short = plan.get("asked_share", 1.0)
        note = "" if short == 1.0 else f" (the peer's could not be kept; {short:g} of it was asked)"
        lines.append(
            f"  {way:<8} {plan['flops_left']:.3f} of the FLOPs left, {plan['kept']:.3f} of the importance kept{note}, "
            f"{time['ms']:.3f} ms, {span(Ratio(**time['speed_up']))} over uncut"
        )
    for ours, by_rival in row["ratios"].items():
        parts = (f"{theirs} {span(Ratio(**each))}" for theirs, each in by_rival.items())
        lines.append(f"  theirs / {ours}: {', '.join(parts)}")
    return lines


def summary_lines(summary: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"Geometric mean, {each['theirs']} / {each['ours']}, {each['criterion']}: {each['mean']:.3f}x "
        f"({each['rows']} rows)"
        for each in summary
    ]


def span(of: Ratio) -> str:
    return f"{of.value:.2f}x [{of.low:.2f}, {of.high:.2f}]"


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


if __name__ == "__main__":
    main()
