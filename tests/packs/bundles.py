"""A bundle as `compress` writes it, of a small residual network, in fp32 and int8."""

from pathlib import Path
from typing import Any

import numpy as np

from calibration.arrays import ArraySamples
from pipeline.stages.building import build_and_check
from pipeline.stages.bundling import write_bundle
from pipeline.stages.precisions import Variant
from pipeline.stages.quantizing import quantise, scheme_for
from targets.connection import connect
from targets.target import find_target
from tests.latency.networks import SIDE, residual

PREPROCESSING = {
    "resize": None, "crop": None, "mean": (0.5, 0.4, 0.3), "std": (0.25,), "scale": 255.0, "layout": "NCHW",
}  # fmt: skip


def write_small_bundle(folder: Path, preprocessing: dict[str, Any] | None = None, int8: bool = True) -> Path:
    """Input `x` (batch, 3, 8, 8), output `y` (batch, 10)."""
    model = residual()
    report: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00", "model": {"path": "residual.onnx"}, "preprocessing": preprocessing,
        "target": {"name": "local", "threads": 1}, "device": {}, "doubts": [], "met": True,
    }  # fmt: skip
    made = folder / "made"
    made.mkdir(parents=True)
    with connect(find_target("local")) as connection:
        built = build_and_check(model, made / "cut.onnx", made / "engine.onnx", connection)
        variants = []
        if int8:
            images = np.random.default_rng(0).standard_normal((16, 3, SIDE, SIDE)).astype(np.float32)
            scheme = scheme_for("onnxruntime", connection.device)
            small = quantise(model, ArraySamples({"x": images}, None, {}), scheme, method="min-max").model
            engine = build_and_check(small, made / "int8.onnx", made / "engine-int8.onnx", connection)
            variants.append(Variant("int8", small, engine, None))
    write_bundle(folder / "bundle", model, {}, built, report, variants)
    return folder / "bundle"
