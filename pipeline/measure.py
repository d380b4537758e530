"""Time models against each other on one target or several, in fresh interleaved sessions; or one against itself."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.graph.model import load, save
from pipeline.lowering import connect
from targets.connection import Connection, Engine, Tell, silent
from targets.errors import BadInput
from targets.measure import measure as measure_sessions
from targets.measurement import Measurement, incomparable, ratio
from targets.selftest import as_row, self_tests, tally
from targets.target import find_target

Progress = Callable[[int, int, str], None]


def measure(
    models: Sequence[str],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str | Sequence[str] = "local",
    sessions: int = 10,
    quick: bool = False,
    seed: int = 0,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """`models`: one entry for every model on every target, in ms, with the interval of its median. `ratios`:
    time(first) / time(other), one for each other entry, with its 99 % interval and verdict; where the two devices or
    regimes differ there is none, and `because` says so. Models are built for the targets first. `quick` says of the
    whole and of every model and ratio that it is by the quick protocol."""
    targets = [target] if isinstance(target, str) else list(target)
    with tempfile.TemporaryDirectory(prefix="cutback-measure-") as folder, ExitStack() as stack:
        connections = [stack.enter_context(connect(find_target(name), tell=tell)) for name in targets]
        every = [(name, connection) for name in models for connection in connections]
        engines: list[Engine] = []
        bound: list[Mapping[str, tuple[int, ...]]] = []
        for number, (name, connection) in enumerate(every):
            engine, sizes = build(name, shapes, connection, Path(folder), number)
            engines.append(engine)
            bound.append(sizes)
        taken = measure_sessions(
            engines, [connection for _, connection in every], shapes=bound, sessions=sessions, quick=quick, seed=seed,
            on_progress=on_progress,
        )  # fmt: skip
    rows = [
        {"path": name, **described(connection, each)} for (name, connection), each in zip(every, taken, strict=True)
    ]
    return {
        "target": targets[0],
        "device": taken[0].device.as_dict(),
        "quick": quick,
        "models": rows,
        "ratios": [
            {"path": row["path"], "target": row["target"], **compared(taken[0], each)}
            for row, each in zip(rows[1:], taken[1:], strict=True)
        ],
    }


def described(connection: Connection, measurement: Measurement) -> dict[str, Any]:
    """Where a model was timed, and what came out."""
    return {
        "target": connection.target.name,
        "runtime": connection.target.runtime,
        "device": measurement.device.as_dict(),
        **in_ms(measurement),
    }


def compared(first: Measurement, other: Measurement) -> dict[str, Any]:
    """The ratio, or `because`: why there is none."""
    if why := incomparable(first, other):
        return {"value": None, "because": why, "quick": first.quick or other.quick}
    return asdict(ratio(first, other))


def self_test(
    model: str,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "local",
    sessions: int = 10,
    quick: bool = False,
    repeat: int = 1,
    seed: int = 0,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """`repeat` A/A checks: `model` built twice and measured as two sides, by the protocol of `measure`. `tests`: a row
    each (`ratio`, its 99 % interval, `verdict`). `claims` of them found a difference that is not there; `expected`
    would by chance, `allowed` is the most that chance explains, `passed` says whether it does."""
    if repeat < 1:
        raise BadInput(f"{repeat} self-tests test nothing. Ask for at least 1.")
    with (
        connect(find_target(target), tell=tell) as connection,
        tempfile.TemporaryDirectory(prefix="cutback-measure-") as folder,
    ):
        first, bound = build(model, shapes, connection, Path(folder), 0)
        second, _ = build(model, shapes, connection, Path(folder), 1)
        found = list(
            self_tests(
                (first, second), connection, shapes=bound, sessions=sessions, quick=quick,
                seeds=range(seed, seed + repeat), on_progress=on_progress,
            )
        )  # fmt: skip
        device = connection.device.as_dict()
    counted = tally(len(found), sum(test.claimed for test in found))
    return {
        "path": model,
        "target": target,
        "device": device,
        "quick": quick,
        "sessions": sessions,
        **asdict(counted),
        "passed": counted.passed,
        "tests": [as_row(test) for test in found],
    }


def build(
    name: str, shapes: Mapping[str, Sequence[int]] | None, connection: Connection, folder: Path, number: int
) -> tuple[Engine, Mapping[str, tuple[int, ...]]]:
    """The model as an engine of the target, and the shapes that it is bound to."""
    model = load(Path(name), shapes)
    path = folder / f"{number}-{Path(name).stem}.onnx"
    save(model, path)
    return connection.build(path, folder / f"{number}-{Path(name).stem}-engine", shapes=model.bound), model.bound


def in_ms(measurement: Measurement) -> dict[str, Any]:
    """A measurement as the report and `--json` have it."""
    low, high = measurement.interval_ns()
    p99 = measurement.p99_ns
    return {
        "median_ms": measurement.median_ns / 1e6,
        "p90_ms": measurement.p90_ns / 1e6,
        "p99_ms": p99 / 1e6 if p99 else None,
        "low_ms": low / 1e6,
        "high_ms": high / 1e6,
        "sessions": len(measurement.sessions),
        "repeats": measurement.repeats,
        "quick": measurement.quick,
        "doubts": list(measurement.doubts),
    }
