"""What it costs to know no kernel times: the same plans predicted from kernels, and from end-to-end times alone.

python -m benchmarks.end_to_end_only --work end-to-end-out --network resnet18=64 --network mobilenet_v2=96

Per network (NAME=SIZE of its input), on ONNX Runtime: a profile with its kernels and one with them hidden, each into a
database of its own. Then plans that neither has seen, half with every group at a candidate width of the first, half at
any widths, are built and timed in turns with the gauge, REPEATS times over; the median, as a multiple of the gauge's
time, is set against both predictions. Errors of predicted *shares* of the uncut network's time are printed beside: a
level that is off for all plans alike does not choose worse widths. What is in the work folder is not measured again.
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

from benchmarks.hidden_kernels import HiddenKernels
from benchmarks.networks import NETWORKS, export
from pipeline.latency.design import anywhere, at_candidates
from pipeline.latency.predict import LatencyModel
from pipeline.latency.profiling import NetworkProfile, profile_network
from pipeline.latency.samples import cut_to, profile_model
from pipeline.stages.opening import Opened, groups_to_cut, open_model
from pipeline.workspace import write_json
from targets.connection import Connection, connect
from targets.kernels import in_gauges
from targets.profiles.store import ProfileStore
from targets.target import find_target

REPEATS = 3
SEED = 30_000  # far from any that a profile draws its plans with
WAYS = ("kernels", "alone")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", metavar="NAME=SIZE")
    parser.add_argument("--plans", type=int, default=16)
    parser.add_argument("--work", type=Path, default=Path("end-to-end-out"))
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    for text in asked.network or ():
        name, _, size = text.partition("=")
        path = asked.work / f"{name}.json"
        if not path.exists():
            with connect(find_target("local")) as connection:
                write_json(path, run(name, int(size), connection, asked.work, asked.plans))
    print(table([json.loads(path.read_text(encoding="utf-8")) for path in sorted(asked.work.glob("*.json"))]))


def run(name: str, size: int, connection: Connection, work: Path, plans: int) -> dict[str, Any]:
    """One network: two profiles, then held-out plans, timed once for both."""
    with tempfile.TemporaryDirectory(prefix="cutback-end-to-end-") as folder:
        source = Path(folder, f"{name}.onnx")
        export(NETWORKS[name](), source, size)
        opened = open_model(str(source), {})
    groups = groups_to_cut(opened.channels, inexact=True)
    seconds: dict[str, float] = {}
    found: dict[str, NetworkProfile] = {}
    for way, used in zip(WAYS, (connection, HiddenKernels(connection)), strict=True):
        begin = time.monotonic()
        store = ProfileStore(work / f"{name}-{way}.sqlite")
        found[way] = profile_network(opened.model, opened.channels, groups, used, store)
        seconds[way] = time.monotonic() - begin
    full = {group.id: group.channels for group in opened.channels.groups}
    generator = np.random.default_rng(SEED)
    drawn = [
        ("edges", at_candidates(full, groups, found["kernels"].candidates.channels, generator))
        if number % 2
        else ("anywhere", anywhere(full, groups, generator))
        for number in range(plans)
    ]
    taken = timed([full, *(plan for _, plan in drawn)], opened, connection)
    return {
        "network": name,
        "size": size,
        "device": connection.device.as_dict(),
        "profiles": {
            way: {
                "seconds": seconds[way],
                "built": profile.built,
                "heldout": asdict(profile.heldout),
                "grains": {
                    site.name: [list(grain) for grain in grains_of(site)] for site in profile.latency.sites.sites
                },
                "candidates": {group: list(counts) for group, counts in profile.candidates.channels.items()},
            }
            for way, profile in found.items()
        },
        "plans": [
            {
                "kind": kind,
                "channels": plan,
                "repeats": repeats,
                "predicted": {way: predicted(profile.latency, plan) for way, profile in found.items()},
                "interval": {way: interval(profile.latency, plan) for way, profile in found.items()},
            }
            for (kind, plan), repeats in zip([("uncut", full), *drawn], taken, strict=True)
        ],
    }


def grains_of(site: Any) -> list[tuple[int, int]]:
    return [(grain.step, grain.block) for grain in site.grains]


def timed(plans: Sequence[Mapping[str, int]], opened: Opened, connection: Connection) -> list[list[float]]:
    """Of each plan, REPEATS end-to-end times in gauges, the plans taking turns."""
    taken: list[list[float]] = [[] for _ in plans]
    for _ in range(REPEATS):
        for times, plan in zip(taken, plans, strict=True):
            profile = profile_model(cut_to(opened.model, opened.channels, plan, "kept"), connection, "plan")
            times.append(in_gauges(profile.end_to_end.samples_ns, profile.gauge_ns))
    return taken


def predicted(latency: LatencyModel, plan: Mapping[str, int]) -> float:
    """In gauges, at the speed that the profile had."""
    return latency.predict_ns(plan) / latency.usual.gauge_ns


def interval(latency: LatencyModel, plan: Mapping[str, int]) -> list[float]:
    return [end / latency.usual.gauge_ns for end in latency.interval_ns(plan)]


def errors(row: Mapping[str, Any], way: str, kind: str, *, shares: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Relative errors of the predictions of one kind of plan; `shares`: of their shares of the uncut network's time."""
    uncut, *plans = row["plans"]
    base = uncut["predicted"][way] / float(np.median(uncut["repeats"])) if shares else 1.0
    return np.asarray(
        [plan["predicted"][way] / np.median(plan["repeats"]) / base - 1 for plan in plans if plan["kind"] == kind]
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| network | way | builds | s | edges: median / p95 | anywhere | as shares: edges | anywhere | in interval |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for way in WAYS:
            profile = row["profiles"][way]
            cells = [f"{row['network']} {row['size']}", way, str(profile["built"]), f"{profile['seconds']:.0f}"]
            for shares in (False, True):
                for kind in ("edges", "anywhere"):
                    found = np.abs(errors(row, way, kind, shares=shares))
                    cells.append(f"{np.median(found):.1%} / {np.percentile(found, 95):.1%}")
            inside = [
                plan["interval"][way][0] <= np.median(plan["repeats"]) <= plan["interval"][way][1]
                for plan in row["plans"][1:]
            ]
            lines.append(f"| {' | '.join([*cells, f'{np.mean(inside):.0%}'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
