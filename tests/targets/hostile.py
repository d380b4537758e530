"""A device that means harm, as a transport: its address is the plan of what it says (see `player`)."""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from targets.connection import Connection
from targets.errors import LinkLost
from targets.feeds import write_tensors
from targets.protocol import one_line
from targets.target import Target
from targets.transports import Link
from targets.transports.remote import open_remote
from tests.targets.models import residual, saved

PLAYER = Path(__file__).with_name("player.py")
NAME = "mallory"
FEEDS = {"x/in:0": np.ones((1, 3, 8, 8), np.float32)}
Steps = Sequence[tuple[str, str]]


@contextlib.contextmanager
def open_link(target: Target) -> Iterator[Link]:
    command = [sys.executable, "-I", "-S", str(PLAYER), target.address]
    with open_remote(target, command, lambda status, said: ended(target, status, said)) as link:
        yield link


def ended(target: Target, status: int, said: str) -> LinkLost:
    return LinkLost(f"The agent on {target.name} has ended (status {status}). It said: {one_line(said)}")


@dataclass(frozen=True)
class Honest:
    """What a real agent answered over one model, and the two files that it sent."""

    results: Mapping[str, Any]  # verb -> result
    outputs: Path
    graph: Path


def record(connection: Connection, folder: Path) -> Honest:
    model, graph, outputs = saved(residual(), folder / "m.onnx"), folder / "graph.onnx", folder / "outputs.npz"
    feeds = folder / "feeds.npz"
    connection.run(model, FEEDS)
    write_tensors(str(feeds), FEEDS)
    inside = Path(connection._link.folder)
    asked: dict[str, dict[str, Any]] = {
        "device": {},
        "describe": {"model": str(model)},
        "time": {"model": str(model), "shapes": {}, "quick": True},
        "run": {"model": str(model), "feeds": str(feeds), "output": str(inside / "o.npz"), "optimise": True},
        "build": {"model": str(model), "output": str(inside / "e.onnx"), "optimise": True},
        "profile": {
            "model": str(model), "shapes": {}, "runs": 3, "graph": str(inside / "g.onnx"), "gauge": str(model),
            "kernels_only": False,
        },
    }  # fmt: skip
    results = {verb: connection._ask(verb, arguments, 60.0) for verb, arguments in asked.items()}
    connection._link.fetch(str(inside / "o.npz"), outputs)
    connection._link.fetch(str(inside / "g.onnx"), graph)
    return Honest(results, outputs, graph)


def drive(device: Connection, verb: str, model: Path, output: Path) -> object:
    """What the host asks when it needs `verb`."""
    if verb == "time":
        return device.time(model, quick=True)
    if verb == "run":
        return device.run(model, FEEDS)
    if verb == "profile":
        return device.profile(model, runs=3)
    if verb in ("build", "fetch", "have"):
        return device.build(model, output)
    return device.describe(model)


def result(content: Any) -> tuple[str, str]:
    """Answers with this, whatever JSON thinks of it: NaN is written as it is."""
    return "say", f'{{"id":$ID,"result":{json.dumps(content)}}}\n'


def sent(path: Path, told: Any = None) -> Steps:
    """The file, as an honest agent sends it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return [
        ("say", f'{{"id":$ID,"payload":{path.stat().st_size}}}\n'),
        ("file", str(path)),
        result({"sha256": digest} if told is None else told),
    ]


def plan_of(honest: Honest, verb: str, steps: Steps, graph: Path | None = None, outputs: Path | None = None) -> Any:
    """Honest in all but one verb: where that is "profile" or "run", `graph` or `outputs` is the file that follows."""
    plan: dict[str, Any] = {
        "start": [("say", '{"have":true}\n')],
        "session": [result({"folder": "/nowhere"})],
        "have": [result({"path": "/nowhere/model"})],
        **{each: [result(told)] for each, told in honest.results.items()},
        "fetch": sent(graph or outputs or honest.graph),
    }
    return {**plan, verb: list(steps)}


def write_plan(plan: Any, path: Path) -> Target:
    path.write_text(json.dumps(plan), encoding="utf-8")
    return Target(NAME, "hostile", address=str(path))
