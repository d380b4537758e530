"""A Jetson that is not connected: models for its own TensorRT, and one program that builds, checks and times there.

Engines for it cannot be made elsewhere: TensorRT builds for the GPU that it runs on, and TensorRT for RTX leaves out
sm_87 (Orin). So ONNX travels, as old as the oldest TensorRT that is supported reads it, with its shapes bound.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from pipeline.check import changed_files, read_json
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import load, save
from pipeline.stages.quantizing import in_sixteen_bits
from targets.archive import write_standalone
from targets.connection import Tell, silent
from targets.errors import BadInput
from targets.fitting import fitted
from targets.runtimes.tensorrt import NEWEST

PROGRAM = "on_device.pyz"
BY_HAND = "model-int8-tensorrt.onnx"  # put into a bundle whose own int8 is for another runtime
INT8_COMMAND = (
    "cutback build BUNDLE/model.onnx --target local-tensorrt-rtx --precision int8 --data DATA "
    f"--keep-onnx BUNDLE/{BY_HAND} -o ENGINE"
)
ON_DEVICE = (
    "Engines for a Jetson (sm_87 is Orin, sm_72 is Xavier) and for its deep learning accelerators are built on the "
    "device only, by its own TensorRT; none is in here."
)

Feeds = Mapping[str, NDArray[Any]]


def pack(bundle: Path, folder: Path, *, tell: Tell = silent) -> Mapping[str, Any]:
    """`models`: by name (its file, without .onnx) in the order of the table that the device prints. `left_out`: what is
    not in the folder, and why. BadInput where the bundle was changed, or TensorRT cannot take its network."""
    manifest = read_json(bundle, "manifest.json")
    for failure in changed_files(bundle, manifest):
        raise BadInput(f"{bundle}: {failure}. Compress again.")
    with np.load(bundle / "golden.npz", allow_pickle=False) as archive:
        feeds = {entry.partition(":")[2]: archive[entry] for entry in archive.files if entry.startswith("input:")}
    packing = Packing(folder, feeds)
    uncut = bundle / ".work" / "uncut.onnx"
    if uncut.exists():
        packing.add("uncut", uncut)
    else:
        packing.left_out["uncut"] = "the bundle's .work folder, which holds the uncut network, is gone"
    packing.add("model", bundle / "model.onnx")
    add_int8(packing, bundle)
    packing.write_golden()
    write_standalone(folder / PROGRAM)
    return {
        "models": packing.models,
        "left_out": packing.left_out,
        "run": f"python3 {PROGRAM}",
        "engines": ON_DEVICE,
    }


class Packing:
    """A folder as it fills. What each model gives for the golden input is found here, on the graph as it is packed."""

    def __init__(self, folder: Path, feeds: Feeds) -> None:
        self.folder = folder
        self.models: dict[str, dict[str, str]] = {}
        self.left_out: dict[str, str] = {}
        self._feeds = feeds
        self._shapes = {name: values.shape for name, values in feeds.items()}
        self._golden: dict[str, NDArray[Any]] = {f"input:{name}": values for name, values in feeds.items()}

    def add(self, name: str, source: Path) -> None:
        """The model as it is, and in fp16 where it is in floating point. BadInput, or the host's TargetError with the
        node that has no older form, where TensorRT cannot take it."""
        oldest = NEWEST[0][1]
        graph = onnx.load(source, load_external_data=False)
        refusal = why_not(graph)
        if refusal:
            raise BadInput(f"{source.name}: {refusal}; TensorRT takes symmetric int8 only.")
        with tempfile.TemporaryDirectory(prefix="cutback-pack-") as copies:
            fit = fitted(source, oldest, "TensorRT 8.5", self._shapes, Path(copies))
            shutil.copyfile(fit, self.folder / f"{name}.onnx")
            weights = fit.with_name(f"{fit.name}.data")
            if weights.exists():
                shutil.copyfile(weights, self.folder / weights.name)
        quantised = any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
        self._keep(name, "int8" if quantised else "fp32")
        if not quantised:
            self._add_half(name)

    def _add_half(self, name: str) -> None:
        """What `name` is in fp16; left out where a weight is too large for it."""
        path = self.folder / f"{name}.onnx"
        try:
            save(in_sixteen_bits(load(path, self._shapes), "fp16"), self.folder / f"{name}-fp16.onnx")
        except BadInput as refusal:
            self.left_out[f"{name}-fp16"] = str(refusal)
            return
        self._keep(f"{name}-fp16", "fp16")

    def write_golden(self) -> None:
        with (self.folder / "golden.npz").open("wb") as stream:
            np.savez(stream, allow_pickle=False, **self._golden)

    def _keep(self, name: str, precision: str) -> None:
        outputs = run_unoptimised(onnx.load(self.folder / f"{name}.onnx"), self._feeds)
        self._golden |= {f"{name}:{output}": values for output, values in outputs.items()}
        self.models[name] = {"precision": precision}


def add_int8(packing: Packing, bundle: Path) -> None:
    """The bundle's int8 where TensorRT takes it, else the one that was put there for it."""
    reasons = []
    for name in (BY_HAND, "model-int8.onnx"):
        path = bundle / name
        refusal = why_not(onnx.load(path, load_external_data=False)) if path.exists() else "it is not there"
        if refusal is None:
            packing.add("model-int8", path)
            return
        reasons.append(f"{name}: {refusal}")
    packing.left_out["model-int8"] = f"{'; '.join(reasons)}. To get one: {INT8_COMMAND}, and pack again."


def why_not(model: onnx.ModelProto) -> str | None:
    """Why TensorRT cannot take the model's integers; None where it can. It wants pairs of int8 about zero."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type.startswith("QLinear") or node.op_type.endswith("Integer"):
            return f"node {node.name!r} ({node.op_type}) computes in integers of its own"
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            return f"node {node.name!r} ({node.op_type}) is not symmetric int8"
    return None
