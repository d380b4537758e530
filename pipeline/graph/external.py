"""Weights that lie in files beside the model: read from its folder only, and written before any model names them."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import TensorProto, numpy_helper

from pipeline.graph.tensors import all_tensors, stored_bytes
from targets.errors import BadInput

# Two tensors may share bytes of a file, as tied weights do. More than this many times the file is no sharing.
MAX_SHARING = 16
MAX_TENSOR_BYTES = 2**31 - 2**16  # what protobuf copies, with the tensor's name and shape
ALIGNMENT_BYTES = 4096  # so that a runtime can map the weights
SMALL_BYTES = 1024  # what is smaller stays in the model: sizes and axes are read without the other file


def bring_in(proto: onnx.ModelProto, folder: Path) -> None:
    """Every external tensor of `proto` becomes one that holds its bytes. Raises BadInput, OSError or ValueError."""
    tensors = [tensor for tensor in all_tensors(proto) if tensor.data_location == TensorProto.EXTERNAL]
    places = [_place(tensor, folder) for tensor in tensors]
    claimed = sum(length for _, _, length in places)
    held = sum(path.stat().st_size for path in {path for path, _, _ in places})
    if claimed > MAX_SHARING * held:
        raise BadInput(f"The external tensors claim {claimed} bytes of files that hold {held}: the model is broken.")
    for tensor, (path, offset, length) in zip(tensors, places, strict=True):
        with path.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def names_external_data(proto: onnx.ModelProto) -> bool:
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in all_tensors(proto))


def move_out(proto: onnx.ModelProto, stream: BinaryIO, location: str) -> onnx.ModelProto:
    """The model with its large weights written to `stream`, which will be the file `location`. `proto` stays whole."""
    light = without_initialisers(proto)
    for tensor in proto.graph.initializer:
        entry = light.graph.initializer.add()
        data = tensor.raw_data or _raw(tensor)
        if len(data) < SMALL_BYTES:
            entry.CopyFrom(tensor)
            continue
        stream.seek(-(-stream.tell() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
        entry.name, entry.data_type, entry.data_location = tensor.name, tensor.data_type, TensorProto.EXTERNAL
        entry.dims.extend(tensor.dims)
        for key, value in (("location", location), ("offset", stream.tell()), ("length", len(data))):
            entry.external_data.add(key=key, value=str(value))
        stream.write(data)
    return light


def without_initialisers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """All of the model but its weights, none of which is copied on the way."""
    light = onnx.ModelProto()
    _copy_but(proto, light, "graph")
    _copy_but(proto.graph, light.graph, "initializer")
    return light


def data_files(path: Path) -> Iterator[Path]:
    """The names that a model's data file may have, the plain one first."""
    yield path.with_name(f"{path.name}.data")
    number = 1
    while True:
        number += 1
        yield path.with_name(f"{path.name}.{number}.data")


def _copy_but(source: onnx.ModelProto | onnx.GraphProto, target: onnx.ModelProto | onnx.GraphProto, left: str) -> None:
    for field, value in source.ListFields():
        if field.name == left:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _raw(tensor: TensorProto) -> bytes:
    if tensor.data_type == TensorProto.STRING:
        return b""
    return numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data


def _place(tensor: TensorProto, folder: Path) -> tuple[Path, int, int]:
    """File, first byte and number of bytes, all of which lie in the folder and the file."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location, what = fields.get("location", ""), f"The external data of {tensor.name!r}"
    relative = Path(location)
    if not location or "\0" in location or relative.is_absolute() or ".." in relative.parts:
        raise BadInput(f"{what} has the location {location!r}, which names no file in the model's folder.")
    path = folder / relative
    if not path.exists():
        raise BadInput(f"{what} is missing: {str(path)!r} does not exist. Copy it beside the model.")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"{what} leaves the model's folder through the link {location!r}. Copy it beside the model.")
    if not path.is_file():
        raise BadInput(f"{what} has the location {location!r}, which is no regular file.")
    if tensor.data_type == TensorProto.STRING:
        raise BadInput(f"{what} is text, which no file beside a model may hold.")
    wanted, size = stored_bytes(tensor), path.stat().st_size
    offset, length = _number(fields.get("offset", "0")), _number(fields.get("length", str(wanted)))
    if wanted > MAX_TENSOR_BYTES:
        raise BadInput(f"{what} is one tensor of {wanted} bytes; no tensor over 2 GB can be handled. Split it.")
    if offset is None or length != wanted or offset + wanted > size:
        raise BadInput(
            f"{what} should be {wanted} bytes; it is said to be {fields.get('length', 'the rest')} from byte "
            f"{fields.get('offset', 0)} of {location!r}, which holds {size}."
        )
    return path, offset, wanted


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
