"""One engine of one network, built on a target and checked against its graph."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.graph.model import load
from pipeline.stages.building import build_and_check
from targets.connection import connect
from targets.errors import BadInput
from targets.target import find_target

Progress = Callable[[int, int, str], None]


def build(
    model: str,
    output: Path,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "local",
    seed: int = 0,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the engine to `output` (with the runtime's suffix), run it on the device on random inputs, and compare with
    the graph run unoptimised. `difference`: relative, of the outputs; `seconds`: of the build and the check."""
    report = on_progress or (lambda done, total, note: None)
    opened = load(Path(model), shapes)
    with connect(find_target(target)) as connection, tempfile.TemporaryDirectory(prefix="cutback-build-") as folder:
        if connection.engine_path(output).absolute() == Path(model).absolute():
            raise BadInput(f"The engine would overwrite {model}. Choose another --output.")
        report(0, 1, f"building with {connection.target.runtime}")
        begun = time.perf_counter()
        built = build_and_check(opened, Path(folder, "model.onnx"), output, connection, seed)
        seconds = time.perf_counter() - begun
        device = connection.device.as_dict()
    report(1, 1, "built")
    return {
        "model": model,
        "target": target,
        "device": device,
        "engine": str(built.engine.path),
        "runtime": built.engine.runtime,
        "sha256": built.engine.sha256,
        "bytes": built.engine.path.stat().st_size,
        "difference": built.difference,
        "seconds": seconds,
        "doubts": list(built.doubts),
    }
