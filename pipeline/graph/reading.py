"""An ONNX file from disk, or one clear line saying why it is none."""

from collections import Counter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from pipeline.graph.editing import STANDARD_DOMAINS, bodies
from pipeline.graph.external import bring_in, without_initialisers
from pipeline.graph.tensors import check_tensors, stored_bytes
from targets.errors import BadInput

# Larger weights are checked here, and stand in the checked graph as inputs: a check then costs no copy of them.
CHECKED_WHOLE_BYTES = 4096


def read(path: Path) -> onnx.ModelProto:
    """The model with its external data, checked: what comes back can be walked without surprises."""
    try:
        if not path.exists():
            raise BadInput(f"{path} does not exist. Give the path of an ONNX file.")
        if not path.is_file():
            what = "a directory" if path.is_dir() else "no regular file"
            raise BadInput(f"{path} is {what}. Give the path of an ONNX file.")
        if path.stat().st_size == 0:
            raise BadInput(f"{path} is empty. Export the model again.")
        proto = onnx.load(path, format="protobuf", load_external_data=False)
        bring_in(proto, path.parent)
    except DecodeError as error:
        raise BadInput(f"{path} is not an ONNX model, or was cut short. Export or copy it again.") from error
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} cannot be loaded: {one_line(error)}") from error
    if not proto.graph.node:
        raise BadInput(f"{path} holds no graph: not an ONNX model, or an empty one.")
    try:
        check_tensors(proto)
        check_names(proto.graph)
        check_opsets(proto)
        check_attributes(proto.graph)
        onnx.checker.check_model(_light(proto))
    except (onnx.checker.ValidationError, EncodeError, DecodeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path} is not a valid ONNX model: {one_line(error)}") from error
    return proto


def check_names(graph: onnx.GraphProto) -> None:
    """Every initialiser and input has a name, and no other of its kind has it; raises ValueError naming the first."""
    for kind, names in (
        ("initialisers", [tensor.name for tensor in graph.initializer]),
        ("initialisers", [tensor.values.name for tensor in graph.sparse_initializer]),
        ("inputs", [value.name for value in graph.input]),
        ("outputs", [value.name for value in graph.output]),
    ):
        twice = next((name for name, count in Counter(names).items() if count > 1 or not name), None)
        if twice is not None:
            raise ValueError(f"of its {kind}, {'several are called ' + repr(twice) if twice else 'one has no name'}")


def check_attributes(graph: onnx.GraphProto) -> None:
    """No attribute refers to a function's, outside of a function. Raises ValueError."""
    for node in graph.node:
        for entry in node.attribute:
            if entry.ref_attr_name:
                raise ValueError(f"attribute {entry.name!r} of {node.op_type} refers to one of a function it is not in")
        for body in bodies(node):
            check_attributes(body)


def check_opsets(proto: onnx.ModelProto) -> None:
    """One version a domain: tools differ in which of two they take. Raises ValueError."""
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain in STANDARD_DOMAINS else entry.domain
        newest = onnx.defs.onnx_opset_version()
        if domain == "" and entry.version > newest:
            raise ValueError(f"it speaks opset {entry.version}, the installed onnx package up to {newest}: update it")
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ValueError(f"it imports versions {versions[domain]} and {entry.version} of {domain or 'ai.onnx'!r}")


def one_line(error: Exception | str, limit: int = 300) -> str:
    """What an error says, as a line that a terminal can show, whatever names the file put into it."""
    text = " ".join(str(error).split())[:limit]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _light(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph for the checker: without large weights, and with a rank for outputs that declare none (runtimes do)."""
    light = without_initialisers(proto)
    listed = {value.name for value in light.graph.input}
    for tensor in proto.graph.initializer:
        if stored_bytes(tensor) <= CHECKED_WHOLE_BYTES:
            light.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for value in light.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return light
