"""Is a device ready to be measured on? What it is, what it lacks, and whether it tells the same network from itself."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.graph.model import load
from pipeline.lowering import connect
from pipeline.stages.building import build_and_check
from targets.connection import Connection, Tell, silent
from targets.errors import BadInput, TargetError
from targets.gauge import write_gauge
from targets.selftest import as_row, self_tests
from targets.target import Target, find_target
from targets.upkeep import About, ask_about

Progress = Callable[[int, int, str], None]

SESSIONS = 5  # a side, by the quick protocol: some seconds; differences of a few percent can be seen by them


def doctor(
    target: str,
    *,
    self_test: bool = True,
    sessions: int = SESSIONS,
    seed: int = 0,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """What is wrong with a device is an answer, not an error: `BadInput` is raised for a target of no such name alone.

    `agent`: of `targets.upkeep.About`, `device`: the fingerprint, `conditions`: clocks, heat and power, `lock`: whether
    clocks are held (see `targets.conditions`); None where there is no way to them. `problems`: what
    is missing or does not work, each with what to do. `difference`: of a small network's outputs there from those here.
    `self_test`: a row of `targets.selftest`, and whether it `claimed` a difference; `left_out`: why there is none.
    `passed`: there are no problems, and the self-test claims nothing. `verdict`: all of it in a sentence.
    """
    asked = find_target(target)
    found: dict[str, Any] = {
        "target": target, "settings": asdict(asked), "agent": None, "device": None, "conditions": None,
        "lock": None, "problems": [], "difference": None,
        "self_test": None, "left_out": None, "doubts": [],
    }  # fmt: skip
    report = on_progress or (lambda done, total, note: None)
    try:
        report(0, 0, f"reaching {target}")
        found["agent"] = described(ask_about(asked))
        with connect(asked, tell=tell) as connection:
            found["device"] = connection.device.as_dict()
            found |= {"conditions": connection.conditions, "lock": connection.lock}
            found["left_out"] = None if self_test else "it was not asked for"
            found |= try_out(connection, sessions if self_test else 0, seed, on_progress)
    except (BadInput, TargetError) as failure:
        found["problems"].append(str(failure))
    return {**found, **judged(asked, found)}


def described(about: About) -> dict[str, Any]:
    return {**{name: value for name, value in asdict(about).items() if name != "round_trip_ns"},
            "round_trip_ms": about.round_trip_ns / 1e6}  # fmt: skip


def try_out(connection: Connection, sessions: int, seed: int, on_progress: Progress | None) -> dict[str, Any]:
    """The gauge, built twice and run: the parts of `doctor` that say what came of it."""
    report = on_progress or (lambda done, total, note: None)
    with tempfile.TemporaryDirectory(prefix="cutback-doctor-") as made:
        folder = Path(made)
        source = write_gauge(folder / "gauge.onnx")
        report(0, 0, "building and running a small network")
        first = build_and_check(load(source), folder / "first.onnx", folder / "first", connection, seed)
        found: dict[str, Any] = {"difference": first.difference, "doubts": list(first.doubts)}
        why = why_not(connection)
        if why:
            return {**found, "left_out": why}
        if not sessions:
            return found
        second = connection.build(folder / "first.onnx", folder / "second")
        (test,) = self_tests(
            (first.engine, second), connection, sessions=sessions, quick=True, seeds=(seed,), on_progress=on_progress
        )
        return {**found, "self_test": {**as_row(test), "claimed": test.claimed}}


def why_not(connection: Connection) -> str:
    """Why no timing of this device says anything; "" where one does."""
    if not connection.facts.runs:
        return f"{connection.target.runtime} builds engines there and runs none"
    if connection.device.emulated:
        return "the device is emulated: it computes right, and its timings are useless"
    return ""


def judged(target: Target, found: dict[str, Any]) -> dict[str, Any]:
    """`passed` and `verdict`."""
    test = found["self_test"]
    if found["problems"]:
        return {"passed": False, "verdict": f"{target.name} cannot be used as it is: see what is wrong above"}
    if test is None:
        return {
            "passed": True,
            "verdict": f"{target.name} works; whether it can be measured on was not seen: {found['left_out']}",
        }
    if test["claimed"]:
        return {
            "passed": False,
            "verdict": "the self-test claims a difference between a network and itself. On a sound device one test in "
            f"a hundred does: run this again. Where it does so again, {target.name} cannot be trusted as it is: see "
            "what else runs there, and whether its clocks and its temperature stand still",
        }  # fmt: skip
    return {
        "passed": True,
        "verdict": f"{target.name} is ready: a network against itself shows no difference (differences of "
        f"{100 * (test['high'] / test['low'] - 1) / 2:.1f} % and more would be seen)",
    }
