"""Steps `time` and `accuracy`: every finished point beside the uncut network."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peer_accuracy.points import PREPROCESSING, SEED, Point, original
from pipeline.graph.fold_batchnorm import fold_batchnorm
from pipeline.graph.model import load, save
from pipeline.graph.rewrite import rewritten
from pipeline.stages.evaluation import accuracy_of
from pipeline.stages.opening import open_samples
from pipeline.workspace import write_json
from targets.connection import Connection, connect
from targets.measure import measure
from targets.measurement import ratio
from targets.target import find_target

UNCUT = "uncut"
REWRITTEN = "+rewrite"  # the peer's network with the exact rewrites that ours has: what is left is the choice of widths


def time_all(points: Sequence[Point], sessions: int) -> None:
    """One interleaved run for each network, of all its points."""
    with connect(find_target("local")) as connection:
        for network in dict.fromkeys(point.network for point in points):
            own = [point for point in points if point.network == network]
            path = own[0].work / network / "timing.json"
            write_json(path, time_network(own, sessions, connection))
            print(f"{network}: {len(own)} points timed, in {path}", flush=True)


def time_network(points: Sequence[Point], sessions: int, connection: Connection) -> dict[str, Any]:
    """Milliseconds and speed-up over the uncut network, with intervals, by the point's name."""
    folder = points[0].work / points[0].network
    files = {UNCUT: folder / "final.onnx", **{point.name: point.folder / "final.onnx" for point in points}}
    save(fold_batchnorm(original(points[0].work, points[0].network).model), files[UNCUT])
    others = [UNCUT, *(point.name for point in points if point.method != "ours")]
    files |= {name + REWRITTEN: _rewritten(files[name]) for name in others}
    engines = [connection.build(path, path.with_suffix(".engine.onnx")) for path in files.values()]
    found = measure(engines, connection, sessions=sessions, seed=SEED, on_progress=_progress)
    print(flush=True)
    rows = {
        name: {
            "ms": measurement.median_ns / 1e6,
            "interval_ms": [end / 1e6 for end in measurement.interval_ns()],
            "speed_up": asdict(ratio(found[0], measurement)),
            "doubts": list(measurement.doubts),
        }
        for name, measurement in zip(files, found, strict=True)
    }
    return {"device": connection.device.as_dict(), "sessions": sessions, "rows": rows}


def accuracy_all(points: Sequence[Point], data: Path) -> None:
    """Top-1 of the final networks, and of the uncut ones, on every test image."""
    for network in dict.fromkeys(point.network for point in points):
        folder = points[0].work / network
        if not (folder / "accuracy.json").exists():
            write_json(folder / "accuracy.json", top1(original(points[0].work, network).model, data))
        print(f"{network} uncut: {json.loads((folder / 'accuracy.json').read_text())['value']:.2f}", flush=True)
    for point in points:
        if not point.done("accuracy.json"):
            before, after = (top1(load(point.folder / file), data) for file in ("cut.onnx", "final.onnx"))
            point.write("accuracy.json", {**after, "before_recovery": before["value"]})
        found = point.read("accuracy.json")
        print(
            f"{point.network} {point.name}: {found['value']:.2f} ({found['before_recovery']:.2f} before recovery)",
            flush=True,
        )


def top1(model: Any, data: Path) -> dict[str, Any]:
    return asdict(accuracy_of(model, open_samples(model, str(data / "test.npz"), PREPROCESSING), "top1"))


def _rewritten(path: Path) -> Path:
    beside = path.with_name("final-rewritten.onnx")
    save(rewritten(load(path)), beside)
    return beside


def _progress(done: int, total: int, _note: str) -> None:
    print(f"\rsessions: {done} of {total}", end="", flush=True)
