"""What predictions are worth: plans that no profile has seen, predicted, then built and timed.

    python -m benchmarks.prediction --network resnet50 --work prediction-out
    python -m benchmarks.prediction --work prediction-out --summary

Per network: a profile into an empty database (timed), then held-out random plans, half with every group at a candidate
width, half at any widths, predicted by the same profile from the full database (timed; `--again` does this alone).
Each is built and its end-to-end time taken twice over. *In turns*: un-profiled runs of a fresh process in turns with
the gauge, as in a profile, REPEATS times; the median is set against the prediction, both as multiples of the gauge.
*In sessions*: all plans and the uncut network in one interleaved run of fresh sessions by the timing protocol; the
median of the sessions' medians, as a share of the uncut network's, is set against the predicted share. The first is
what a prediction says; into the second enters what the host did in those minutes, to the uncut network above all. What
is in the work folder is not measured again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS, SIZES, export
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.model import save
from pipeline.latency.design import anywhere, at_candidates
from pipeline.latency.profiling import NetworkProfile, profile_network
from pipeline.latency.samples import cut_to, level_of, profile_model
from pipeline.latency.speed import Speed
from pipeline.stages.opening import Opened, groups_to_cut, open_model
from targets.connection import Connection, connect
from targets.measure import measure
from targets.profiles.store import ProfileStore
from targets.target import find_target

ASKED = (
    "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "regnet_x_400mf", "squeezenet", "densenet121", "yolo",
)  # fmt: skip
REPEATS = 3
SEED = 20_000  # far from any that a profile draws its plans with


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--full", action="store_true", help="sessions of the full protocol; the quick one else")
    parser.add_argument("--work", type=Path, default=Path("prediction-out"))
    parser.add_argument("--again", action="store_true", help="predict what was measured again, from the same profiles")
    parser.add_argument("--summary", action="store_true", help="only print what is there")
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    names = asked.network or ASKED
    if not asked.summary:
        with connect(find_target("local")) as connection:
            for name in names:
                path = asked.work / f"{name}.json"
                if not path.exists():
                    row = run(name, connection, asked.work, asked.plans, asked.sessions, asked.full)
                    path.write_text(json.dumps(row, indent=1), encoding="utf-8")
                row = json.loads(path.read_text(encoding="utf-8"))
                if asked.again or "in_turns" not in row:
                    row = in_turns(row, connection, asked.work)
                    path.write_text(json.dumps(row, indent=1), encoding="utf-8")
                print(line(json.loads(path.read_text(encoding="utf-8"))), flush=True)
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(asked.work.glob("*.json"))]
    print(table(rows))


def run(name: str, connection: Connection, work: Path, plans: int, sessions: int, full: bool) -> dict[str, Any]:
    """One network: its profile and held-out plans."""
    with tempfile.TemporaryDirectory(prefix="cutback-prediction-") as folder:
        source = Path(folder, f"{name}.onnx")
        export(NETWORKS[name](), source, SIZES.get(name, 224))
        opened = open_model(str(source), {})
        groups = groups_to_cut(opened.channels, inexact=True)
        found, cold_s = timed_profile(opened, groups, connection, work / f"{name}.sqlite")
        uncut = {group.id: group.channels for group in opened.channels.groups}
        generator = np.random.default_rng(SEED)
        drawn = [
            ("edges", at_candidates(uncut, groups, found.candidates.channels, generator))
            if number % 2
            else ("anywhere", anywhere(uncut, groups, generator))
            for number in range(plans)
        ]
        every = [("uncut", uncut), *drawn]
        measured = measure_plans([plan for _, plan in every], opened, connection, Path(folder), sessions, full)
    whole = found.latency.predict_ns(uncut)
    return {
        "network": name,
        "device": connection.device.as_dict(),
        "cold_s": cold_s,
        "built": [found.built],
        "sessions": sessions,
        "protocol": "full" if full else "quick",
        "heldout": asdict(found.heldout),
        "uncut": {"predicted_ms": whole / 1e6, **measured[0]},
        "plans": [
            {
                "kind": kind,
                "predicted_ms": found.latency.predict_ns(plan) / 1e6,
                "predicted_share": found.latency.predict_ns(plan) / whole,
                "interval_ms": [end / 1e6 for end in found.latency.interval_ns(plan)],
                **taken,
                "channels": plan,
            }
            for (kind, plan), taken in zip(drawn, measured[1:], strict=True)
        ],
    }


def timed_profile(
    opened: Opened, groups: Sequence[ChannelGroup], connection: Connection, database: Path
) -> tuple[NetworkProfile, float]:
    """The network's profile, and the seconds that it took."""
    begin = time.monotonic()
    found = profile_network(opened.model, opened.channels, groups, connection, ProfileStore(database))
    return found, time.monotonic() - begin


def measure_plans(
    plans: Sequence[Mapping[str, int]],
    opened: Opened,
    connection: Connection,
    folder: Path,
    sessions: int,
    full: bool,
) -> list[dict[str, Any]]:
    paths = []
    for number, plan in enumerate(plans):
        path = folder / f"plan-{number}.onnx"
        save(cut_to(opened.model, opened.channels, plan, "kept"), path)
        paths.append(path)
    taken = measure(paths, connection, shapes=opened.model.bound, sessions=sessions, quick=not full, seed=1)
    return [
        {
            "measured_ms": float(np.median([session.median_ns for session in each.sessions])) / 1e6,
            "sessions_ms": [session.median_ns / 1e6 for session in each.sessions],
            "low_ms": low / 1e6,
            "high_ms": high / 1e6,
            "doubts": list(each.doubts),
        }
        for each in taken
        for low, high in [each.interval_ns()]
    ]


def in_turns(row: dict[str, Any], connection: Connection, work: Path) -> dict[str, Any]:
    """The row with each held-out plan predicted, and measured where it was not, as multiples of the gauge's time.
    `repeats`: end-to-end time, gauge and stream of each, in ns."""
    name = row["network"]
    with tempfile.TemporaryDirectory(prefix="cutback-prediction-") as folder:
        source = Path(folder, f"{name}.onnx")
        export(NETWORKS[name](), source, SIZES.get(name, 224))
        opened = open_model(str(source), {})
        groups = groups_to_cut(opened.channels, inexact=True)
        profile, warm_s = timed_profile(opened, groups, connection, work / f"{name}.sqlite")
        latency = profile.latency
        level = latency.usual.gauge_ns
        whole = latency.predict_ns({group.id: group.channels for group in opened.channels.groups})
        taken = [turn["repeats"] for turn in row.get("in_turns", ())]
        if not taken:
            taken = [[] for _ in row["plans"]]
            for _ in range(REPEATS):
                for times, plan in zip(taken, row["plans"], strict=True):
                    cut = cut_to(opened.model, opened.channels, plan["channels"], "kept")
                    found = profile_model(cut, connection, "plan")
                    took = (found.end_to_end.samples_ns, found.gauge_ns, found.stream_ns)
                    times.append(list(map(level_of, took)))
    turns, plans = [], []
    for times, plan in zip(taken, row["plans"], strict=True):
        predicted, interval = latency.predict_ns(plan["channels"]), latency.interval_ns(plan["channels"])
        ends = [end / level for end in interval]
        # at the speed of the profile: the model knows how much more than the gauge the network slows down
        measured = float(np.median([took / latency.slowdown(Speed(*speed)) for took, *speed in times])) / level
        turns.append({"predicted": predicted / level, "interval": ends, "measured": measured, "repeats": times})
        plans.append({**plan, "predicted_ms": predicted / 1e6, "predicted_share": predicted / whole})
    built = [row["built"][0], profile.built]
    return {**row, "warm_s": warm_s, "built": built, "plans": plans, "in_turns": turns}


def errors(row: Mapping[str, Any], kind: str, *, sessions: bool = False) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Relative errors of one kind of plan: in turns, or of its share of the uncut network's time in sessions."""
    uncut = row["uncut"]["measured_ms"]
    return np.asarray(
        [
            plan["predicted_share"] * uncut / plan["measured_ms"] - 1
            if sessions
            else turn["predicted"] / turn["measured"] - 1
            for plan, turn in zip(row["plans"], row["in_turns"], strict=True)
            if plan["kind"] == kind
        ]
    )


def inside(row: Mapping[str, Any]) -> float:
    """The share of plans that came out within their predicted interval."""
    hits = [turn["interval"][0] <= turn["measured"] <= turn["interval"][1] for turn in row["in_turns"]]
    return float(np.mean(hits))


def line(row: Mapping[str, Any]) -> str:
    parts = [f"{row['network']}: cold {row['cold_s']:.0f} s, warm {row['warm_s']:.1f} s, built {row['built']}"]
    for kind in ("edges", "anywhere"):
        found = np.abs(errors(row, kind))
        parts.append(f"{kind} {np.median(found):.1%} / {np.percentile(found, 95):.1%}")
    return "; ".join(parts)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| network | uncut | cold | warm | edges: median | p95 | anywhere: median | p95 | in interval | sessions | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["network"], f"{row['uncut']['measured_ms']:.1f} ms", f"{row['cold_s']:.0f} s"]
        cells.append(f"{row['warm_s']:.1f} s")
        for kind in ("edges", "anywhere"):
            found = np.abs(errors(row, kind))
            cells += [f"{np.median(found):.1%}", f"{np.percentile(found, 95):.1%}"]
        cells.append(f"{inside(row):.0%}")
        for kind in ("edges", "anywhere"):
            found = np.abs(errors(row, kind, sessions=True))
            cells.append(f"{kind} {np.median(found):.1%} / {np.percentile(found, 95):.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
