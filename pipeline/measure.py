"""Time models against each other on a target, in fresh interleaved sessions."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.graph.model import load, save
from targets.connection import Engine, connect
from targets.measure import measure as measure_sessions
from targets.measurement import Measurement, ratio
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
) -> dict[str, Any]:
    """`models`: one entry a model, in ms, with the interval of its median. `ratios`: time(first) / time(other), one for
    each other model, with its 99 % interval and verdict. Models are built for the target first."""
    with connect(find_target(target)) as connection, tempfile.TemporaryDirectory(prefix="cutback-measure-") as folder:
        engines: list[Engine] = []
        bound: list[Mapping[str, tuple[int, ...]]] = []
        for number, name in enumerate(models):
            model = load(Path(name), shapes)
            path = Path(folder, f"{number}-{Path(name).stem}.onnx")
            save(model, path)
            bound.append(model.bound)
            engines.append(connection.build(path, Path(folder, f"{number}-{Path(name).stem}-engine.onnx")))
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
        "doubts": list(measurement.doubts),
    }
