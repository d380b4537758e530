"""An ONNX file from disk, or one clear line saying why it is none."""

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import numpy_helper

from pipeline.graph.editing import bodies
from targets.errors import BadInput

# Protobuf refuses messages of 2 GiB; weights go beside the model well before.
INLINE_LIMIT_BYTES = 1_800_000_000
FOUR_BIT = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.FLOAT4E2M1}


def read(path: Path) -> onnx.ModelProto:
    """The model with its external data, checked: what comes back can be walked without surprises."""
    try:
        if not path.exists():
            raise BadInput(f"{path} does not exist. Give the path of an ONNX file.")
        if not path.is_file():
            raise BadInput(f"{path} is a directory. Give the path of an ONNX file.")
        if path.stat().st_size == 0:
            raise BadInput(f"{path} is empty. Export the model again.")
        proto = onnx.load(path, format="protobuf")
    except DecodeError as error:
        raise BadInput(f"{path} is not an ONNX model, or was cut short. Export or copy it again.") from error
    except (onnx.checker.ValidationError, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} cannot be loaded: {one_line(error)}") from error
    if not proto.graph.node:
        raise BadInput(f"{path} holds no graph: not an ONNX model, or an empty one.")
    try:
        check_tensors(proto)
        onnx.checker.check_model(proto if proto.ByteSize() < INLINE_LIMIT_BYTES else str(path))
    except (onnx.checker.ValidationError, EncodeError, DecodeError, ValueError) as error:
        raise BadInput(f"{path} is not a valid ONNX model: {one_line(error)}") from error
    return proto


def check_tensors(proto: onnx.ModelProto) -> None:
    """Every tensor holds as many elements as its shape says, of a type there is; raises ValueError naming the first."""
    for tensor in _tensors(proto.graph):
        if tensor.data_type not in onnx.helper.get_all_tensor_dtypes() or min(tensor.dims, default=0) < 0:
            raise ValueError(f"tensor {tensor.name!r} has the type {tensor.data_type} and shape {list(tensor.dims)}")
        if tensor.data_type == onnx.TensorProto.STRING:
            continue
        if tensor.data_location == onnx.TensorProto.EXTERNAL:  # loading has brought in what lies where it is said to
            raise ValueError(f"tensor {tensor.name!r} lies in another file without saying in which")
        elements = math.prod(tensor.dims)
        if tensor.HasField("raw_data"):
            size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            wanted = -(-elements // 2) if tensor.data_type in FOUR_BIT else elements * size
            held = len(tensor.raw_data)
        else:
            wanted, held = elements, numpy_helper.to_array(tensor).size  # raises ValueError where they differ
        if wanted != held:
            raise ValueError(
                f"tensor {tensor.name!r} of shape {list(tensor.dims)} holds {held} bytes instead of {wanted}"
            )


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for entry in node.attribute:
            if entry.HasField("t"):
                yield entry.t
            yield from entry.tensors
        for body in bodies(node):
            yield from _tensors(body)
