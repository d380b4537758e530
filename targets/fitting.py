"""The model as the runtime there can read it: no newer than that, and with its shapes bound (host side)."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import version_converter

from targets.errors import BadInput, TargetError
from targets.feeds import bind
from targets.protocol import one_line
from targets.runtimes import Reads
from targets.runtimes.onnx_inputs import specs_of

STANDARD = ("", "ai.onnx")
LARGEST_BYTES = 2**31 - 1  # of one protobuf message, which is what is rewritten


def fitted(path: Path, reads: Reads, runtime: str, shapes: Mapping[str, Sequence[int]] | None, folder: Path) -> Path:
    """`path` itself where the runtime takes it as it is, else a copy in `folder`: at the opset and IR version that it
    reads, and, where `shapes` are given, without free dimensions (unset batch: 1).

    `TargetError` names the operator that has no older form, `BadInput` a shape that does not fit. What cannot be read
    as ONNX is left to the runtime to refuse.
    """
    try:
        header = onnx.load(path, load_external_data=False)
    except Exception:  # noqa: BLE001 -- protobuf's own errors; the runtime says in its words what is wrong with the file
        return path
    opset = max((entry.version for entry in header.opset_import if entry.domain in STANDARD), default=0)
    newer = opset > reads.opset or header.ir_version > reads.ir
    specs = specs_of(header.graph)
    bound = None if shapes is None else bind(specs, shapes)
    free = bound is not None and any(list(bound[spec["name"]]) != spec["shape"] for spec in specs)
    if not (newer or free):
        return path
    model = whole(path)
    if opset > reads.opset:
        model = at_opset(model, opset, reads.opset, runtime, path.name)
    model.ir_version = min(model.ir_version, reads.ir)
    if bound is not None:
        with_shapes(model.graph, bound)
    copy = folder / path.name
    onnx.save(model, copy)
    return copy


def inputs_of(path: Path) -> list[dict[str, Any]]:
    """The inputs as an ONNX file declares them; see `targets.runtimes.Loaded.inputs`."""
    try:
        return specs_of(onnx.load(path, load_external_data=False).graph)
    except Exception as failure:  # protobuf's own errors
        raise BadInput(f"{path.name} is not a model that ONNX can read: {one_line(str(failure))}") from failure


def outputs_of(path: Path) -> list[str] | None:
    """What an ONNX file calls its outputs; None where it cannot be read."""
    try:
        return [value.name for value in onnx.load(path, load_external_data=False).graph.output]
    except Exception:  # noqa: BLE001 -- protobuf's own errors; a runtime ran it all the same
        return None


def weights_beside(path: Path) -> int:
    """Bytes of the weights that an ONNX file keeps outside itself; none of what is no such file."""
    try:
        tensors = onnx.load(path, load_external_data=False).graph.initializer
    except Exception:  # noqa: BLE001 -- protobuf's own errors; an engine, which is whole
        return 0
    outside = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return sum(8 * math.prod(tensor.dims) for tensor in outside)  # of the widest type


def whole(path: Path) -> onnx.ModelProto:
    """With its weights, wherever they lie."""
    try:
        model = onnx.load(path)
    except OSError as failure:
        raise BadInput(f"{path}: its weights cannot be read: {failure.strerror or failure}.") from failure
    if model.ByteSize() > LARGEST_BYTES:
        raise TargetError(
            f"{path.name} has to be rewritten for the runtime, and is too large for that (over 2 GB). Export it with "
            "fixed shapes at an older opset."
        )
    return model


def at_opset(model: onnx.ModelProto, has: int, wanted: int, runtime: str, name: str) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, wanted)
    except Exception as failure:  # whatever its C++ throws
        raise TargetError(
            f"{name} is ONNX opset {has}; {runtime} reads up to {wanted}, and {culprit(str(failure), model)} cannot be "
            f"converted down: {one_line(str(failure))} Export it at opset {wanted}, or use a newer {runtime}."
        ) from failure


def culprit(message: str, model: onnx.ModelProto) -> str:
    """The node that the converter stumbled over, from the operator that its message names."""
    words = set(re.findall(r"[A-Za-z][A-Za-z0-9]+", message))
    for node in model.graph.node:
        if node.op_type in words:
            return f"node {node.name or node.output[0]!r} ({node.op_type})"
    return "it"


def with_shapes(graph: onnx.GraphProto, bound: Mapping[str, Sequence[int]]) -> None:
    """The inputs declared with these shapes; what was inferred from others goes."""
    del graph.value_info[:]
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, bound.get(value.name, ()), strict=False):
            dim.dim_value = size
