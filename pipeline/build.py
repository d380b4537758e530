"""One engine of one network, built on a target and checked against its graph."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.batches import take
from calibration.preprocessing import Preprocessing
from pipeline.graph.model import load, save
from pipeline.graph.rewrite import rewritten
from pipeline.lowering import connect
from pipeline.recipe import Calibration
from pipeline.stages.building import build_and_check, needs_rewrites
from pipeline.stages.opening import open_samples
from pipeline.stages.quantizing import in_sixteen_bits, quantise, scheme_for
from targets.connection import Tell, silent
from targets.errors import BadInput
from targets.target import find_target

Progress = Callable[[int, int, str], None]


def build(
    model: str,
    output: Path,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "local",
    precision: str | None = None,
    data: str | None = None,
    preprocessing: Preprocessing | None = None,
    calibration: Calibration | None = None,
    keep_onnx: Path | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Write the engine to `output` (with the runtime's suffix), run it on the device on random inputs, and compare with
    the graph run unoptimised. `difference`: relative, of the outputs; `seconds`: of the build and the check;
    `rewritten`: whether the runtime takes the network only with the exact rewrites, which were made.

    `precision`: fp32 leaves the graph as it is; fp16 and bf16 cast it; int8 calibrates it on `data`. None: the one that
    the target names, else fp32.
    `keep_onnx`: where the ONNX goes that the engine was built from, once it is built.
    """
    asked = find_target(target)
    if precision is None and asked.precision == "int8" and data is None:
        raise BadInput(f"{target} is a target of int8, which needs data to calibrate with. Give --data or --precision.")
    precision = precision or asked.precision or "fp32"
    if precision == "int8" and data is None:
        raise BadInput("int8 needs data to calibrate with. Give --data.")
    report = on_progress or (lambda done, total, note: None)
    opened = load(Path(model), shapes)
    wants = calibration or Calibration()
    if keep_onnx is not None and keep_onnx.absolute() == Path(model).absolute():
        raise BadInput(f"What the engine is built from would overwrite {model}. Choose another --keep-onnx.")
    with connect(asked, tell=tell) as connection, tempfile.TemporaryDirectory(prefix="cutback-build-") as folder:
        if connection.engine_path(output).absolute() == Path(model).absolute():
            raise BadInput(f"The engine would overwrite {model}. Choose another --output.")
        if precision == "int8" and data is not None:
            samples = take(open_samples(opened, data, preprocessing), wants.samples, seed=seed)
            scheme = scheme_for(connection.target.runtime, connection.device)
            opened = quantise(
                opened, samples, scheme, method=wants.ranges, exclude=wants.exclude, on_progress=on_progress
            ).model
        elif precision != "fp32":
            opened = in_sixteen_bits(opened, precision)
        rewrite = needs_rewrites(opened, connection)
        if rewrite:
            opened = rewritten(opened)
        report(0, 1, f"building with {connection.target.runtime}")
        begun = time.perf_counter()
        built = build_and_check(opened, Path(folder, "model.onnx"), output, connection, seed)
        seconds = time.perf_counter() - begun
        device = connection.device.as_dict()
    if keep_onnx is not None:
        save(opened, keep_onnx)
    report(1, 1, "built")
    return {
        "model": model,
        "target": target,
        "device": device,
        "engine": str(built.engine.path),
        "runtime": built.engine.runtime,
        "precision": precision,
        "onnx": None if keep_onnx is None else str(keep_onnx),
        "sha256": built.engine.sha256,
        "bytes": built.engine.path.stat().st_size,
        "difference": built.difference,
        "seconds": seconds,
        "rewritten": rewrite,
        "doubts": list(built.doubts),
    }
