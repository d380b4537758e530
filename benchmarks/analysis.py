"""How long analysis takes, by the number of nodes, and how much memory it takes on a large model.

    python -m benchmarks.analysis --json analysis.json --plot analysis.png

Analysis is all that lies between a file and its coupled groups: read, checked, brought into plain form, coupled. The
cut after it (l2 scores, half of every group) is timed apart. The first round is a warm-up; every later one times every
size, in random order, and a row gives the fastest and the median of them. Memory is the peak of a process of its own.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from benchmarks.graphs import FAMILIES
from benchmarks.peak import SHARE, TASKS
from pipeline.allocation import keep
from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.model import load
from pipeline.importance import score
from pipeline.stages.scoring import best_channels

NODES = (100, 300, 1000, 3000, 10_000)
ROUNDS = 5
GOALS = {1000: 1.0, 10_000: 5.0}  # nodes: seconds
MODEL_BYTES = 500_000_000
MIB = 2**20
BESIDE_MIB = 300  # what analysis may take beside twice the model
STEPS = ("load", "couple", "analysis", "cut")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--megabytes", type=int, default=MODEL_BYTES // 10**6, help="of the model for memory; 0: none")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cutback-analysis-") as folder:
        rows = measure_time(Path(folder), asked.nodes, asked.rounds)
        for row in rows:
            print(describe(row), flush=True)
        memory = measure_memory(Path(folder), asked.megabytes * 10**6) if asked.megabytes else []
        for entry in memory:
            print("{task}: {peak_mib:.0f} MiB at its peak, allowed {allowed_mib:.0f} MiB".format(**entry), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"time": rows, "memory": memory}, indent=1) + "\n", encoding="utf-8")
    if asked.plot:
        plot(rows, asked.plot)


def measure_time(folder: Path, sizes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for family, make in FAMILIES.items():
        for nodes in sizes:
            path = folder / f"{len(rows)}.onnx"
            proto = make(nodes)
            onnx.save(proto, path)
            rows.append({"family": family, "nodes": len(proto.graph.node), "path": str(path), "seconds": []})
    for number in range(rounds + 1):
        for row in random.Random(number).sample(rows, len(rows)):
            seconds = time_once(row["path"])
            if number:
                row["seconds"].append(seconds)
    return [{key: value for key, value in row.items() if key != "path"} for row in rows]


def time_once(path: str) -> dict[str, float]:
    """Seconds of each step."""
    start = time.perf_counter()
    model = load(path)
    loaded = time.perf_counter()
    channels = couple(model)
    coupled = time.perf_counter()
    groups = [group for group in channels.free if group.exact]
    counts = keep({group.id: group.channels for group in groups}, SHARE)
    cut(model, channels, best_channels(score("l2", model.proto, groups), counts))
    done = time.perf_counter()
    return {"load": loaded - start, "couple": coupled - loaded, "analysis": coupled - start, "cut": done - coupled}


def measure_memory(folder: Path, model_bytes: int) -> list[dict[str, Any]]:
    path = folder / "wide.onnx"
    run_alone("generate", str(path), str(model_bytes))
    model_mib = path.stat().st_size / MIB
    found = []
    for task in TASKS:
        peak, before = (float(number) for number in run_alone(task, str(path)).split())
        allowed = 2 * model_mib + BESIDE_MIB
        found.append(
            {"task": task, "model_mib": model_mib, "peak_mib": peak, "imports_mib": before, "allowed_mib": allowed}
        )
    return found


def run_alone(*arguments: str) -> str:
    """What benchmarks.peak prints."""
    command = [sys.executable, "-m", "benchmarks.peak", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def describe(row: Mapping[str, Any]) -> str:
    goal = next((f", goal {GOALS[size]:g} s" for size in GOALS if 0.9 < row["nodes"] / size < 1.1), "")
    steps = ", ".join(
        f"{step} {min(times) * 1e3:.0f} / {statistics.median(times) * 1e3:.0f} ms"
        for step, times in by_step(row).items()
    )
    return f"{row['family']}, {row['nodes']} nodes (fastest / median): {steps}{goal}"


def by_step(row: Mapping[str, Any]) -> dict[str, list[float]]:
    return {step: [seconds[step] for seconds in row["seconds"]] for step in STEPS}


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Median analysis time against nodes, both logarithmic, beside the goals and a line of slope one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for family in FAMILIES:
        mine = [row for row in rows if row["family"] == family]
        times = [statistics.median(by_step(row)["analysis"]) for row in mine]
        axes.loglog([row["nodes"] for row in mine], times, marker="o", label=family)
    axes.loglog(list(GOALS), list(GOALS.values()), "kv", linestyle="none", label="goal: below")
    largest = max(rows, key=lambda row: row["nodes"])
    slope = statistics.median(by_step(largest)["analysis"]) / largest["nodes"]
    sizes = [min(row["nodes"] for row in rows), largest["nodes"]]
    axes.loglog(sizes, [slope * size for size in sizes], "k:", label="proportional to the nodes")
    axes.set(xlabel="nodes", ylabel="seconds from file to coupled groups")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
