"""The bundle: a folder with all that is needed to deploy the engine and to believe what is said of it."""

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.graph.model import Model, input_specs, save
from pipeline.report import write_report
from pipeline.stages.building import Built
from pipeline.workspace import file_digest, write_json, write_text

RUN = '''"""Run this bundle's engine on its golden input, and compare. Needs numpy and onnxruntime."""

import os
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime as ort

HERE = Path(__file__).parent
options = ort.SessionOptions()
options.intra_op_num_threads = {threads}
engine = ort.InferenceSession(str(HERE / "{engine}"), options, providers=["CPUExecutionProvider"])
golden = np.load(HERE / "golden.npz")
names = [output.name for output in engine.get_outputs()]
outputs = engine.run(names, {{value.name: golden["input:" + value.name] for value in engine.get_inputs()}})
for name, output in zip(names, outputs):
    difference = float(np.max(np.abs(output - golden["output:" + name])))
    print(f"{{name}}: shape {{output.shape}}, largest difference from the golden output {{difference:.2e}}")
'''


def write_bundle(
    folder: Path, model: Model, plan: Mapping[str, Any], built: Built, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Write everything, the manifest last: a folder with a manifest is whole. Returns the manifest.

    `model.onnx` is the cut network, `engine.onnx` what was built of it for the target.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    save(model, folder / "model.onnx")
    _place(built.engine.path, folder / "engine.onnx")
    _write_golden(folder / "golden.npz", built)
    write_json(folder / "plan.json", plan)
    write_text(folder / "run.py", RUN.format(engine="engine.onnx", threads=report["target"]["threads"]))
    write_report(report, folder)
    files = [
        "model.onnx",
        "engine.onnx",
        "golden.npz",
        "plan.json",
        "run.py",
        "report.json",
        "report.html",
        "report.md",
    ]
    manifest = {
        "cutback": version("cutback"),
        "created": report["created"],
        "files": {name: file_digest(folder / name) for name in files},
        "inputs": [{"name": s.name, "shape": list(s.shape), "dtype": s.dtype} for s in input_specs(model.proto)],
        "outputs": [value.name for value in model.proto.graph.output],
        "versions": {"onnx": onnx.__version__, "numpy": np.__version__, **_stack(report)},
        **{
            key: report.get(key)
            for key in ("model", "target", "device", "goal", "met", "latency", "accuracy", "flops", "params", "doubts")
        },
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def _stack(report: Mapping[str, Any]) -> dict[str, Any]:
    device = report.get("device") or {}
    stack = device.get("stack") or {}
    return {key: value for key, value in stack.items() if isinstance(value, str)}


def _place(source: Path, target: Path) -> None:
    """Copied beside, then renamed."""
    beside = target.with_name(f".{target.name}.new")
    try:
        shutil.copyfile(source, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _write_golden(path: Path, built: Built) -> None:
    beside = path.with_name(f".{path.stem}.new.npz")
    arrays = {f"input:{name}": value for name, value in built.golden_inputs.items()}
    arrays |= {f"output:{name}": value for name, value in built.golden_outputs.items()}
    try:
        np.savez(beside, allow_pickle=False, **arrays)
        Path(beside).replace(path)
    finally:
        beside.unlink(missing_ok=True)
