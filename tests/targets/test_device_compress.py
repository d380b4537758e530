"""The whole way from a trained network to a bundle, on a device that is reached by ssh: what comes out is what comes
out here. No time is asserted."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.compress import compress
from pipeline.recipe import Recipe
from targets.connection import Connection, connect
from targets.measurement import Measurement, Ratio, Session, ratio
from targets.target import Target, find_target
from tests.digits import Digits
from tests.targets.sshd import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def named(ssh_server: Server, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The device, under a name that recipes may use."""
    target = ssh_server.target("lab")
    module = sys.modules[compress.__module__]
    monkeypatch.setattr(module, "find_target", lambda name: target if name == "lab" else find_target(name))
    return target


def recipe(digits: Digits, folder: Path, target: str, goal: str) -> Recipe:
    return Recipe.model_validate(
        {
            "model": str(digits.network), "goal": goal, "output": folder / target, "target": target,
            "data": str(digits.train), "validate": str(digits.test), "sessions": 3, "quick": True,
            "recovery": {"epochs": 1, "bf16": False},  # which of the two is faster would be timed
            "db": str(folder / f"{target}.sqlite"),
        }
    )  # fmt: skip


def groups(bundle: Path) -> list[dict[str, Any]]:
    """What is kept, channel by channel."""
    plan = json.loads((bundle / "plan.json").read_text())
    return list(plan["groups"])


def content(engine: Path) -> tuple[list[bytes], list[bytes]]:
    """What is computed and with what. ONNX Runtime writes nodes that do not wait for each other in one order or
    another, from one process to the next, wherever it runs, and numbers the tensors between them by that order."""
    graph = onnx.load(engine).graph
    for node in graph.node:
        for part in ("name", "input", "output"):
            node.ClearField(part)
    for weight in graph.initializer:
        weight.ClearField("name")
    parts = (graph.node, graph.initializer)
    nodes, weights = ([each.SerializeToString(deterministic=True) for each in part] for part in parts)
    return sorted(nodes), sorted(weights)


def test_a_goal_that_no_clock_enters_gives_the_same_bundle_on_both_ways(
    digits: Digits, tmp_path: Path, named: Target
) -> None:
    for target in ("local", "lab"):
        compress(recipe(digits, tmp_path, target, "flops<=0.5x"))
    local, far = tmp_path / "local", tmp_path / "lab"
    assert groups(local) == groups(far)
    pictures = {"image": np.load(digits.test)["image"][:16]}
    with connect(Target("local")) as here, connect(named) as there:
        expected = here.run(local / "model.onnx", pictures)["logits"]
        np.testing.assert_allclose(there.run(far / "model.onnx", pictures)["logits"], expected, rtol=1e-4, atol=1e-5)
        engines = [side.run(at / "engine.onnx", pictures)["logits"] for side, at in ((here, local), (there, far))]
        np.testing.assert_array_equal(engines[0], engines[1])  # how nodes are joined, which `content` does not tell
    assert (local / "model.onnx").read_bytes() == (far / "model.onnx").read_bytes()
    assert content(local / "engine.onnx") == content(far / "engine.onnx")


def test_a_latency_goal_is_met_or_missed_by_what_the_device_measured(
    digits: Digits, tmp_path: Path, named: Target, ssh_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    report = compress(recipe(digits, tmp_path, "lab", "latency<=0.7x"))
    bundle = tmp_path / "lab"
    assert report["recovery"]["epochs"]
    assert any(group["channels"] for group in groups(bundle))
    with connect(Target("local")) as here, connect(named) as there:
        again = here.build(bundle / "model.onnx", tmp_path / "here")
        assert content(again.path) == content(bundle / "engine.onnx")
        with capsys.disabled():
            sys.stdout.write(f"\nlocal / ssh, the same engine: {in_turns(bundle / 'engine.onnx', here, there)}\n")
        pictures = {"image": np.load(digits.test)["image"][:16]}
        outputs = [side.run(bundle / "engine.onnx", pictures)["logits"] for side in (here, there)]
        np.testing.assert_array_equal(outputs[0], outputs[1])
    assert ssh_server.left() == []


def in_turns(engine: Path, here: Connection, there: Connection, rounds: int = 6) -> Ratio:
    """The same engine on both ways, in fresh sessions in random order."""
    order, sessions = random.Random(0), {here: list[Session](), there: list[Session]()}
    for _ in range(rounds):
        for side in order.sample((here, there), 2):
            sessions[side].append(side.time(engine, quick=True))
    local, far = (Measurement(tuple(sessions[side]), side.device) for side in (here, there))
    found = ratio(local, far)
    assert found.low <= found.value <= found.high
    return found
