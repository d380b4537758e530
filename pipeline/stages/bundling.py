"""The bundle: a folder with all that is needed to deploy the engine and to believe what is said of it."""

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.graph.model import Model, input_specs, save
from pipeline.report import write_report
from pipeline.report.write import plain
from pipeline.stages.building import Built, engine_name
from pipeline.stages.precisions import Variant
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

RUN_BY_ONNX_RUNTIME = ("onnxruntime", "ort")  # engines of others have no script yet

TOLD = (  # of the report, in the manifest
    "model", "preprocessing", "target", "device", "goal", "met", "latency", "accuracy", "flops", "params", "doubts",
)  # fmt: skip


def write_bundle(
    folder: Path,
    model: Model,
    plan: Mapping[str, Any],
    built: Built,
    report: Mapping[str, Any],
    variants: Sequence[Variant] = (),
) -> dict[str, Any]:
    """Write everything into `folder`/.work/bundle, then move it to its place, the manifest last: a folder with a
    manifest is whole, and a disk that is full leaves an earlier bundle as it was. Returns the manifest.

    `model.onnx` is the cut network (with `model.onnx.data` beside it where it is over 2 GB), `engine`, with its
    runtime's suffix, what was built of it for the target; `model-int8.onnx` and `engine-int8` the same in another
    precision.
    """
    staged = folder / ".work" / "bundle"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    save(model, staged / "model.onnx")
    engine = engine_name(built)
    shutil.copyfile(built.engine.path, staged / engine)
    for variant in variants:
        if variant.built is not None and variant.model is not None:
            save(variant.model, staged / f"model-{variant.precision}.onnx")
            shutil.copyfile(variant.built.engine.path, staged / engine_name(variant.built, f"-{variant.precision}"))
    _write_golden(staged / "golden.npz", built)
    write_json(staged / "plan.json", plan)
    if built.engine.runtime in RUN_BY_ONNX_RUNTIME:
        write_text(staged / "run.py", RUN.format(engine=engine, threads=report["target"]["threads"]))
    write_report(report, staged)
    files = sorted(path.name for path in staged.iterdir())
    manifest = plain(_manifest(model, report, {name: file_digest(staged / name) for name in files}))
    write_json(staged / "manifest.json", manifest)
    (folder / "manifest.json").unlink(missing_ok=True)
    for name in (*files, "manifest.json"):
        (staged / name).replace(folder / name)
    staged.rmdir()
    return dict(manifest)


def _manifest(model: Model, report: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "cutback": version("cutback"),
        "created": report["created"],
        "files": dict(files),
        "inputs": [{"name": s.name, "shape": list(s.shape), "dtype": s.dtype} for s in input_specs(model.proto)],
        "outputs": [value.name for value in model.proto.graph.output],
        "versions": {"onnx": onnx.__version__, "numpy": np.__version__, **_stack(report)},
        **{key: report.get(key) for key in TOLD},
    }


def _stack(report: Mapping[str, Any]) -> dict[str, Any]:
    device = report.get("device") or {}
    stack = device.get("stack") or {}
    return {key: value for key, value in stack.items() if isinstance(value, str)}


def _write_golden(path: Path, built: Built) -> None:
    arrays = {f"input:{name}": value for name, value in built.golden_inputs.items()}
    arrays |= {f"output:{name}": value for name, value in built.golden_outputs.items()}
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
