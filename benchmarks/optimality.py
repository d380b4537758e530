"""How good the exact allocator's plans are proved to be, and in what time: value, bound, gap and seconds.

    python -m benchmarks.optimality --json optimality.json
    python -m benchmarks.optimality --network densenet121 --budget 0.5 --scores l2 --options 16
    python -m benchmarks.optimality --quantities latency,params,memory --budget 0.8

Nothing is measured: kernels cost what stairs as they are measured look like (whole blocks of 16 inputs and outputs,
dearer off the grid), and every network is the published one with random weights.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.networks import NETWORKS, export
from pipeline.allocation import Budget, Choice, CostTable, Scores, Unreachable, Width, allocate_exact
from pipeline.costs import budgets_of
from pipeline.goal import Bound, Quantity
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.flops import node_flops
from pipeline.latency.sites import LINEAR, grouping_of, width_of
from pipeline.stages.opening import Opened, groups_to_cut, open_model
from pipeline.stages.problem import make_choices, settle_budget, with_branches
from pipeline.stages.scoring import score_channels

ASKED = (
    "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "regnet_x_400mf", "squeezenet", "densenet121", "yolo",
)  # fmt: skip
BUDGETS = (0.8, 0.6, 0.4)
BLOCK = 16
OFF_THE_GRID = 1.15  # what a width beside the grid costs, times
CONSTANT = 0.002  # of a mean kernel's cost, a launch


@dataclass(frozen=True)
class Row:
    """One problem: its size, the plan's value and the proof. `within` is the largest cost as a share of its limit."""

    network: str
    scores: str
    budget: float
    quantities: tuple[str, ...]
    groups: int
    options: int
    value: float
    bound: float
    gap: float
    within: float
    status: str
    solver: str
    seconds: float


@dataclass(frozen=True, eq=False)
class _Stairs:
    """Whole blocks in and out times `per_pair`, plus `per_width` times the output width, plus `launch`."""

    per_pair: float
    per_width: float
    launch: float

    def __call__(self, widths: tuple[int, ...]) -> float:
        if 0 in widths:
            return 0.0
        blocks = 1.0
        for width in widths:
            blocks *= -(-width // BLOCK) * BLOCK * (OFF_THE_GRID if width % BLOCK else 1.0)
        return self.launch + self.per_pair * blocks + self.per_width * widths[-1]


def stairs_of(opened: Opened) -> tuple[CostTable, ...]:
    """A kernel for every node: stairs over both widths where it multiplies, a line over its output's elsewhere."""
    model, channels = opened.model, opened.channels
    full = {group.id: group.channels for group in channels.groups}
    nodes = [node for node in model.proto.graph.node if node.output[0] in model.shapes]
    launch = CONSTANT * sum(node_flops(node, model) for node in nodes) / max(len(nodes), 1)
    tables = []
    for node in nodes:
        out = width_of(model, channels, node.output[0])
        size = float(np.prod(model.shapes[node.output[0]]))
        sides: tuple[Width, ...] = (out,)
        if node.op_type in LINEAR:
            read = width_of(model, channels, node.input[0])
            sides = (out,) if grouping_of(model, channels, node) else (read, out)
        pairs = float(np.prod([max(side.at(full), 1) for side in sides]))
        per_pair = node_flops(node, model) / pairs if node.op_type in LINEAR else 0.0
        tables.append(CostTable(node.name, sides, _Stairs(per_pair, 4 * size / max(out.at(full), 1), launch)))
    return tuple(tables)


def candidates_of(groups: Sequence[ChannelGroup], most: int) -> dict[str, list[int]]:
    """At most `most` widths a group, on the grid of 16, of 8 where narrow; 0 where the branch may vanish."""
    found = {}
    for group in groups:
        grid = BLOCK if group.width >= most * BLOCK else 8
        step = max(1, grid // group.step)
        counts = list(range(step, group.channels + 1, step)) or [group.channels]
        at = np.unique(np.linspace(0, len(counts) - 1, most).round().astype(int))
        found[group.id] = [0, *(counts[i] for i in at)] if group.vanishes_with else [counts[i] for i in at]
    return found


def problem_of(
    opened: Opened, scores: Scores, share: float, options: int, quantities: Sequence[Quantity]
) -> tuple[tuple[Choice, ...], list[Budget]]:
    """The choices, and a budget of `share` of the uncut network's in every quantity."""
    groups = groups_to_cut(opened.channels)
    full = {group.id: group.channels for group in opened.channels.groups}
    choices = make_choices(scores, candidates_of(groups, options), groups, floor=0.0, vanish=True)
    budgets: list[Budget] = []
    for quantity in quantities:
        if quantity == "latency":
            tables = with_branches(stairs_of(opened), groups, full)
            budgets.append(Budget("latency", share * Budget("latency", 0.0, tables).at(full), tables))
        else:
            bound = Bound(quantity, share, relative=True)
            made = budgets_of(bound, opened.model, opened.channels)
            budgets += [settle_budget(budget, groups, full) for budget in made]
    return choices, budgets


def scores_of(opened: Opened, kind: str) -> dict[str, np.ndarray]:
    groups = groups_to_cut(opened.channels)
    if kind == "l2":
        return score_channels(opened.model, opened.channels, groups, criterion="l2", normalisation="l2")
    rng = np.random.default_rng(0)
    return {group.id: rng.uniform(0.0, 1.0, group.channels) for group in groups}


def solve(
    name: str,
    opened: Opened,
    kind: str,
    share: float,
    options: int,
    quantities: Sequence[Quantity],
    time_limit_s: float,
) -> Row:
    choices, budgets = problem_of(opened, scores_of(opened, kind), share, options, quantities)
    size = (len(choices), sum(len(choice.options) for choice in choices))
    begun = time.perf_counter()
    try:
        found = allocate_exact(choices, budgets, time_limit_s=time_limit_s)
    except Unreachable:
        seconds = time.perf_counter() - begun
        return Row(name, kind, share, tuple(quantities), *size, 0.0, 0.0, 0.0, 0.0, "unreachable", "", seconds)
    seconds = time.perf_counter() - begun
    within = max(budget.at(found.channels) / budget.limit for budget in budgets)
    return Row(
        name, kind, share, tuple(quantities), *size, found.value, found.bound, found.gap, within, found.status,
        found.solver, seconds,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS), help="again for more; all eight")
    parser.add_argument("--budget", action="append", type=float, help="share of the uncut cost; 0.8, 0.6 and 0.4")
    parser.add_argument("--scores", action="append", choices=["random", "l2"], help="both")
    parser.add_argument("--options", type=int, default=8, help="widths on offer for each group (%(default)s)")
    parser.add_argument("--quantities", default="latency", help="latency,flops,params,memory; joined by commas")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--time-limit", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args(arguments)
    rows = []
    for name in asked.network or ASKED:
        with tempfile.TemporaryDirectory(prefix="cutback-optimality-") as folder:
            opened = open_model(str(export(NETWORKS[name](), Path(folder, f"{name}.onnx"), asked.size)), {})
        for kind in asked.scores or ("random", "l2"):
            for share in asked.budget or BUDGETS:
                rows.append(
                    solve(name, opened, kind, share, asked.options, asked.quantities.split(","), asked.time_limit)
                )
                print(describe(asdict(rows[-1])), flush=True)
    print(f"largest gap {max(row.gap for row in rows):.4%}, longest {max(row.seconds for row in rows):.1f} s")
    if asked.json:
        asked.json.write_text(json.dumps({"options": asked.options, "rows": [asdict(row) for row in rows]}, indent=1))


def describe(row: Mapping[str, object]) -> str:
    return (
        f"{row['network']:<16} {row['scores']:<6} {row['budget']:.2f}x  {row['groups']:>3} groups {row['options']:>5} "
        f"options  value {row['value']:.6g}  bound {row['bound']:.6g}  gap {row['gap']:.4%}  {row['seconds']:.2f} s  "
        f"{row['status']} ({row['solver']})"
    )


if __name__ == "__main__":
    main()
