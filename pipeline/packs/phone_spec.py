"""What a phone's network takes and gives, in words and as files: shapes, layout, normalisation, golden data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.check import read_json, sha256
from targets.errors import BadInput
from targets.fitting import with_shapes
from targets.runtimes.onnx_inputs import specs_of

Arrays = Mapping[str, NDArray[np.generic]]

SPATIAL = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization", "Resize")
ELEMENT_BY_ELEMENT = ("Cast", "QuantizeLinear", "DequantizeLinear", "Sub", "Add", "Mul", "Div", "Identity", "Clip")

GOLDEN = "golden"
TEST_DATA = "test_data_set_0"  # where ONNX Runtime's own tools look for inputs, beside the model


@dataclass(frozen=True, eq=False)
class Bundle:
    """What `compress` wrote. `models`: file name -> graph, its dimensions bound as the golden data has them."""

    manifest: Mapping[str, Any]
    models: Mapping[str, onnx.ModelProto]
    inputs: Arrays
    outputs: Arrays


def read_bundle(folder: Path, models: Sequence[str]) -> Bundle:
    """`models`: file names; the first has to be there, the others may. BadInput where a file is gone, is not what the
    manifest says, or is a network that no phone holds."""
    manifest = read_json(folder, "manifest.json")
    hashes = manifest.get("files") or {}
    there = [name for index, name in enumerate(models) if index == 0 or name in hashes]
    for name in (*there, "golden.npz"):
        if name not in hashes:
            raise BadInput(f"{folder} is not a bundle: its manifest.json names no {name}. Compress again.")
        if sha256(folder / name) != hashes[name]:
            raise BadInput(f"{folder / name} was changed after it was written. Compress again.")
    if any(f"{name}.data" in hashes for name in there):
        raise BadInput(f"The network in {folder} is over 2 GB; there is no pack for a phone of it.")
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        arrays = {name: golden[name] for name in golden.files}
    inputs = {name.removeprefix("input:"): value for name, value in arrays.items() if name.startswith("input:")}
    outputs = {name.removeprefix("output:"): value for name, value in arrays.items() if name.startswith("output:")}
    return Bundle(manifest, {name: bound(folder / name, inputs, outputs) for name in there}, inputs, outputs)


def bound(path: Path, inputs: Arrays, outputs: Arrays) -> onnx.ModelProto:
    """Every dimension a number: compilers for phones take nothing else."""
    model = onnx.load(path)
    with_shapes(model.graph, {name: value.shape for name, value in inputs.items()})
    for value in model.graph.output:
        del value.type.tensor_type.shape.dim[:]
        for size in outputs[value.name].shape:
            value.type.tensor_type.shape.dim.add().dim_value = size
    return model


def write_golden(folder: Path, inputs: Arrays, outputs: Mapping[str, Arrays]) -> None:
    """Raw little-endian files in C order, and the inputs and first outputs again as ONNX tensors for ONNX Runtime's
    tools. `outputs`: name of a model file -> its outputs."""
    (folder / GOLDEN).mkdir()
    (folder / TEST_DATA).mkdir()
    first, *_ = outputs.values()
    for kind, arrays in (("input", inputs), ("output", first)):
        for number, (name, value) in enumerate(arrays.items()):
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
            (folder / TEST_DATA / f"{kind}_{number}.pb").write_bytes(tensor.SerializeToString())
    for number, value in enumerate(inputs.values()):
        (folder / golden_input(number)).write_bytes(little_endian(value))
    for model, arrays in outputs.items():
        for number, value in enumerate(arrays.values()):
            (folder / golden_output(model, number)).write_bytes(little_endian(value))


def little_endian(value: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()


def golden_input(number: int) -> str:
    return f"{GOLDEN}/input-{number}.bin"


def golden_output(model: str, number: int) -> str:
    """`model.onnx` -> golden/output-0.bin, `model-int8.onnx` -> golden/int8-output-0.bin: each its own graph's."""
    after = model.removeprefix("model").removesuffix(".onnx").removeprefix("-")
    return f"{GOLDEN}/{after}{'-' if after else ''}output-{number}.bin"


def describe(bundle: Bundle) -> dict[str, Any]:
    """`spec.json`, without what became of each runtime's file."""
    name, graph = next((name, model.graph) for name, model in bundle.models.items())
    model, preprocessing = bundle.models[name], bundle.manifest.get("preprocessing")
    return {
        "inputs": [
            {**spec, "layout": layout_of(spec["name"], graph, preprocessing), "golden": golden_input(number)}
            for number, spec in enumerate(specs_of(graph))
        ],
        "outputs": [
            {
                "name": output,
                "shape": list(value.shape),
                "dtype": value.dtype.name,
                "golden": {each: golden_output(each, number) for each in bundle.models},
            }
            for number, (output, value) in enumerate(bundle.outputs.items())
        ],
        "byte_order": "little",
        "preprocessing": preprocessing,
        "normalisation": normalisation_of(preprocessing),
        "opset": max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=None),
        "ir_version": model.ir_version,
    }


def layout_of(name: str, graph: onnx.GraphProto, preprocessing: Mapping[str, Any] | None) -> str | None:
    """NCHW or NHWC; None where neither the graph nor who compressed it tells. ONNX convolves and pools in NCHW."""
    rank = next(len(value.type.tensor_type.shape.dim) for value in graph.input if value.name == name)
    if rank != 4:
        return None
    if preprocessing:
        return str(preprocessing["layout"])
    same = {name}
    for node in graph.node:  # in topological order
        if node.input and node.input[0] in same:
            if node.op_type in SPATIAL:
                return "NCHW"
            if node.op_type in ELEMENT_BY_ELEMENT:
                same.add(node.output[0])
    return None


def normalisation_of(preprocessing: Mapping[str, Any] | None) -> str | None:
    if not preprocessing:
        return None
    mean, std = (", ".join(f"{value:g}" for value in preprocessing[key]) for key in ("mean", "std"))
    return f"(pixel / {preprocessing['scale']:g} - mean) / std, with mean ({mean}) and std ({std})"
