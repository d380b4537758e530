"""Time models against each other on a target, in fresh interleaved sessions; or one against itself."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.graph.model import load, save
from pipeline.lowering import connect
from targets.connection import Connection, Engine, Tell, silent
from targets.errors import BadInput
from targets.measure import measure as measure_sessions
from targets.measurement import Measurement, ratio
from targets.selftest import as_row, self_tests, tally
from targets.target import find_target

Progress = Callable[[int, int, str], None]


def measure(
    models: Sequence[str],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "local",
    sessions: int = 10,
    quick: bool = False,
    seed: int = 0,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """`models`: one entry a model, in ms, with the interval of its median. `ratios`: time(first) / time(other), one for
    each other model, with its 99 % interval and verdict. Models are built for the target first. `quick` says of the
    whole and of every model and ratio that it is by the quick protocol."""
    with (
        connect(find_target(target), tell=tell) as connection,
        tempfile.TemporaryDirectory(prefix="cutback-measure-") as folder,
    ):
        engines: list[Engine] = []
        bound: list[Mapping[str, tuple[int, ...]]] = []
        for number, name in enumerate(models):
            engine, sizes = build(name, shapes, connection, Path(folder), number)
            engines.append(engine)
            bound.append(sizes)
        taken = measure_sessions(
            engines, connection, shapes=bound, sessions=sessions, quick=quick, seed=seed, on_progress=on_progress
        )
    return {
        "target": target,
        "device": taken[0].device.as_dict(),
        "quick": quick,
        "models": [{"path": name, **in_ms(each)} for name, each in zip(models, taken, strict=True)],
        "ratios": [{"path": name, **asdict(ratio(taken[0], each))} for name, each in zip(models[1:], taken[1:])],  # noqa: B905
    }


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
