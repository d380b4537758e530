"""One network through every runtime: what comes out, how large it is, how long it takes to build and to run.

    python -m benchmarks.runtimes cut.onnx --output docs/runtimes.md --json runtimes.json
    python -m benchmarks.runtimes cut.onnx --runtime openvino --runtime mnn --sessions 4

Every runtime that is installed builds an engine, runs it on a random input beside the graph run unoptimised, and is
timed in fresh sessions that take turns with those of the others, one thread each.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.graph.model import Model, load
from pipeline.graph.rewrite import rewritten
from pipeline.lowering import connect
from pipeline.stages.building import Built, build_and_check, needs_rewrites
from pipeline.workspace import write_json, write_text
from targets.connection import Connection
from targets.errors import RuntimeMissing, TargetError
from targets.measurement import Measurement, Session
from targets.runtimes import RUNTIMES
from targets.target import find_target


@dataclass(eq=False)
class Entry:
    """One runtime under way; `refused` says why it is not."""

    runtime: str
    connection: Connection | None = None
    built: Built | None = None
    build_s: float = 0.0
    rewritten: bool = False
    refused: str = ""
    sessions: list[Session] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        if self.connection is None or self.built is None:
            return {"runtime": self.runtime, "refused": self.refused}
        timed = Measurement(tuple(self.sessions), self.connection.device) if self.sessions else None
        low, high = timed.interval_ns() if timed else (None, None)
        return {
            "runtime": self.runtime,
            "version": self.connection.device.stack["version"],
            "provider": self.connection.device.stack["provider"],
            "engine": self.built.engine.path.name,
            "bytes": self.built.engine.path.stat().st_size,
            "difference": self.built.difference,
            "rewritten": self.rewritten,
            "build_s": self.build_s,
            "median_ms": timed.median_ns / 1e6 if timed else None,
            "low_ms": low / 1e6 if low is not None else None,
            "high_ms": high / 1e6 if high is not None else None,
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runtime", action="append", choices=list(RUNTIMES))
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--output", type=Path, help="a page in Markdown")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    model = load(asked.model)
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="cutback-runtimes-") as folder:
        entries = [opened(name, model, Path(folder), stack) for name in asked.runtime or RUNTIMES]
        take_turns(entries, asked.sessions)
        device = next(entry.connection.device.as_dict() for entry in entries if entry.connection)
        rows = [entry.row() for entry in entries]
    print("\n".join(table(rows)))
    if asked.json:
        write_json(asked.json, {"model": asked.model.name, "device": device, "rows": rows})
    if asked.output:
        write_text(asked.output, page(asked.model.name, device, rows, asked.sessions))


def opened(runtime: str, model: Model, folder: Path, stack: ExitStack) -> Entry:
    """Connected, built and checked."""
    target = find_target("local" if runtime == "onnxruntime" else f"local-{runtime}")
    entry = Entry(runtime)
    try:
        entry.connection = stack.enter_context(connect(target))
        entry.rewritten = needs_rewrites(model, entry.connection)
        given = rewritten(model) if entry.rewritten else model
        begun = time.perf_counter()
        entry.built = build_and_check(given, folder / f"{runtime}.onnx", folder / f"{runtime}-engine", entry.connection)
        entry.build_s = time.perf_counter() - begun
    except (RuntimeMissing, TargetError) as refusal:
        entry.refused = str(refusal)
    print(f"{runtime}: {entry.refused or 'built'}", flush=True)
    return entry


def take_turns(entries: Sequence[Entry], sessions: int) -> None:
    """Each round times every engine that runs once, in random order."""
    order = random.Random(0)
    running = [entry for entry in entries if entry.built and entry.connection and entry.connection.facts.runs]
    for _ in range(sessions):
        for entry in order.sample(running, len(running)):
            assert entry.connection is not None
            assert entry.built is not None
            entry.sessions.append(entry.connection.time(entry.built.engine))


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| runtime | engine | size | differs by | build and check | latency, 99 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.get("refused"):
            lines.append(f"| {row['runtime']} | | | | | {row['refused']} |")
            continue
        differs = "not run" if row["difference"] is None else f"{row['difference']:.1e}"
        latency = (
            "builds only"
            if row["median_ms"] is None
            else f"{row['median_ms']:.3f} ms [{row['low_ms']:.3f}, {row['high_ms']:.3f}]"
        )
        name = f"{row['runtime']} {row['version']}, {row['provider']}" + (", rewritten" if row["rewritten"] else "")
        size, built = f"{row['bytes'] / 1e3:.0f} kB", f"{row['build_s']:.1f} s"
        lines.append(f"| {name} | `{row['engine']}` | {size} | {differs} | {built} | {latency} |")
    return lines


PAGE = """# One network, every runtime

Generated by `python -m benchmarks.runtimes`; change that, not this page.

`{model}`, batch 1, one thread, on {cpu}, {cores} cores, {os}. {sessions} fresh sessions a runtime, taking turns.
`differs by`: the outputs beside the graph's own, run unoptimised, relative. `rewritten`: the runtime takes the network
only with the exact rewrites, which were made. Build times hold all that the runtime does from ONNX on, and the check.

{table}
"""


def page(model: str, device: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], sessions: int) -> str:
    """docs/runtimes.md, whole."""
    what, system = device["device_class"], device["stack"]["os"]
    return PAGE.format(
        model=model, cpu=what["cpu"], cores=what["cores"], os=system, sessions=sessions, table="\n".join(table(rows))
    )


if __name__ == "__main__":
    main()
