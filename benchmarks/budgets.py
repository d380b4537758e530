"""Are budgets met as measured, and spent? Networks to shares of their own latency, every width chosen by the exact
allocator over measured tables, the loop closed on the device.

    python -m benchmarks.budgets --network squeezenet --budget 0.6 --work budgets-out --db profiles.sqlite
    python -m benchmarks.budgets --work budgets-out --summary

For each network and budget: what `cutback prune --goal latency<=BUDGETx` does (l2 scores, branches may vanish), then
the plan that it settled on and the uncut network once more, in fresh interleaved sessions that no decision was made on:
a batch of them, and another for as long as the interval's upper end is more than 3 % above its centre, four at most.
Met: the upper end of the share's 99 % interval is at most 1.02 of the budget. Spent: the share is at least 0.93 of it.
Cells that have a file in the work folder are not run again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS, SIZES, export
from benchmarks.prediction import ASKED
from pipeline.goal import parse_goal
from pipeline.graph.model import save
from pipeline.latency.profiling import PlanSpace, cut_to, profile_network
from pipeline.stages.allocating import decide_on_device
from pipeline.stages.opening import groups_to_cut, open_model
from pipeline.stages.scoring import score_channels
from pipeline.stages.trying import MOST_BATCHES, WIDE, pooled
from targets.connection import Connection, Engine, connect
from targets.errors import GoalNotMet
from targets.measure import measure
from targets.measurement import Measurement, ratio
from targets.profiles.store import ProfileStore
from targets.target import find_target

BUDGETS = (0.8, 0.6, 0.4)
MET, SPENT = 1.02, 0.93
LONGEST_S = 300.0  # of the last comparison; a batch that has begun is finished


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--budget", action="append", type=float)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument(
        "--quick-rounds", action="store_true", help="rounds by the quick protocol; the last word is not"
    )
    parser.add_argument("--db", default=None)
    parser.add_argument("--work", type=Path, default=Path("budgets-out"))
    parser.add_argument("--summary", action="store_true", help="only print what is there")
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    if not asked.summary:
        with connect(find_target("local")) as connection:
            for name in asked.network or ASKED:
                for budget in asked.budget or BUDGETS:
                    path = asked.work / f"{name}-{budget}.json"
                    if not path.exists():
                        store = ProfileStore(asked.db)
                        row = run(name, budget, connection, store, asked.sessions, asked.quick_rounds)
                        path.write_text(json.dumps(row, indent=1), encoding="utf-8")
                    print(line(json.loads(path.read_text(encoding="utf-8"))), flush=True)
    print(table([json.loads(path.read_text(encoding="utf-8")) for path in sorted(asked.work.glob("*.json"))]))


def run(
    name: str, budget: float, connection: Connection, store: ProfileStore, sessions: int, quick: bool
) -> dict[str, Any]:
    """One network and budget; `unmet` says why where the loop gave up."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cutback-budgets-") as folder:
        source = Path(folder, f"{name}.onnx")
        export(NETWORKS[name](), source, SIZES.get(name, 224))
        opened = open_model(str(source), {})
        groups = groups_to_cut(opened.channels, inexact=True)
        found = profile_network(opened.model, opened.channels, groups, connection, store)
        scores = score_channels(opened.model, opened.channels, groups, criterion="l2", normalisation="l2")
        base = connection.build(source, Path(folder, "uncut.onnx"))
        row: dict[str, Any] = {"network": name, "budget": budget, "profile_s": time.monotonic() - begin}
        try:
            decision = decide_on_device(
                opened, groups, scores, parse_goal(f"latency<={budget}x"), found.latency,
                PlanSpace(tuple(groups), found.candidates.channels), base, connection, store, Path(folder),
                allocator="exact", floor=0.1, vanish=True, quick=quick, seed=0,
            )  # fmt: skip
        except GoalNotMet as unmet:
            return {**row, "unmet": str(unmet), "seconds": time.monotonic() - begin}
        path = Path(folder, "cut.onnx")
        save(cut_to(opened.model, opened.channels, decision.channels, "kept"), path)
        engines = [base, connection.build(path, Path(folder, "cut-engine.onnx"))]
        before, after = timed(engines, connection, opened.model.bound, sessions)
    return {
        **row,
        "ratio": asdict(ratio(before, after)),
        "uncut_ms": before.median_ns / 1e6,
        "cut_ms": after.median_ns / 1e6,
        "rounds": [asdict(done) for done in decision.rounds],
        "gap": decision.gap,
        "solver_s": decision.seconds,
        "doubts": [*before.doubts, *after.doubts],
        "seconds": time.monotonic() - begin,
    }


def timed(
    engines: Sequence[Engine], connection: Connection, shapes: Mapping[str, Sequence[int]], sessions: int
) -> tuple[Measurement, Measurement]:
    """Batches of sessions are added by the width of the interval alone, never by where it lies; all of them count."""
    begin = time.monotonic()
    before, after = measure(engines, connection, shapes=shapes, sessions=sessions, seed=1)
    for batch in range(1, MOST_BATCHES):
        compared = ratio(before, after)
        if compared.value <= WIDE * compared.low or time.monotonic() - begin > LONGEST_S:
            break
        more = measure(engines, connection, shapes=shapes, sessions=sessions, seed=1 + batch)
        before, after = pooled(before, more[0]), pooled(after, more[1])
    return before, after


def shares(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Low, centre and high end of the cut network's share of the uncut time."""
    found = row["ratio"]
    return 1 / found["high"], 1 / found["value"], 1 / found["low"]


def line(row: Mapping[str, Any]) -> str:
    if "unmet" in row:
        return f"{row['network']} {row['budget']}: not met in {row['seconds']:.0f} s: {row['unmet']}"
    low, centre, high = shares(row)
    verdict = "met" if high <= MET * row["budget"] else "MISSED"
    spent = "spent" if centre >= SPENT * row["budget"] else "WASTED"
    return (
        f"{row['network']} {row['budget']}: {centre:.3f} [{low:.3f}, {high:.3f}] {verdict}, {spent}, "
        f"{len(row['rounds'])} rounds, gap {row['gap']:.2%}, {row['seconds']:.0f} s"
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| network | budget | share of the uncut time | of the budget | upper end | rounds | gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "unmet" in row:
            lines.append(f"| {row['network']} | {row['budget']}x | not met: {row['unmet']} | | | | |")
            continue
        low, centre, high = shares(row)
        budget = row["budget"]
        lines.append(
            f"| {row['network']} | {budget}x | {centre:.3f} [{low:.3f}, {high:.3f}] | {centre / budget:.3f} | "
            f"{high / budget:.3f} | {len(row['rounds'])} | {row['gap']:.2%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
