"""A model to disk: whole or not at all, and with its weights beside it where they are too many for one file."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from pipeline.graph.external import data_files, move_out, without_initialisers
from pipeline.graph.tensors import all_tensors, stored_bytes
from targets.errors import BadInput

# Protobuf refuses messages of 2 GiB; weights go beside the model well before.
INLINE_LIMIT_BYTES = 1_800_000_000
MAX_DATA_FILES = 100


def is_inline(proto: onnx.ModelProto) -> bool:
    """Whether the model fits into one file. Counted from the shapes: protobuf cannot measure what is larger."""
    return sum(stored_bytes(tensor) for tensor in all_tensors(proto)) <= INLINE_LIMIT_BYTES


def digest(proto: onnx.ModelProto) -> str:
    """A SHA-256 over the model, one initialiser after the other: the whole of it as bytes would be a second copy."""
    parts = hashlib.sha256(without_initialisers(proto).SerializeToString(deterministic=True))
    for tensor in proto.graph.initializer:
        parts.update(f"{tensor.name}\0{tensor.data_type}\0{list(tensor.dims)}\0".encode())
        parts.update(tensor.raw_data or tensor.SerializeToString(deterministic=True))
    return parts.hexdigest()


def write_proto(proto: onnx.ModelProto, path: Path) -> None:
    """Write beside, then rename: a reader never sees half a model. Over 2 GB the weights go into PATH.data.

    A data file that is there already stays as it is until the new model has taken the old one's place: weights then go
    into PATH.2.data. So the model that lies at `path` always finds its own weights, whenever a save is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    old = _own_data_files(path)
    if is_inline(proto):
        with _replacing(path) as beside:
            beside.write_bytes(proto.SerializeToString(deterministic=True))
    else:
        _write_with_data(proto, path)
    for data in old:
        data.unlink(missing_ok=True)


def _write_with_data(proto: onnx.ModelProto, path: Path) -> None:
    data = next((name for name in islice(data_files(path), MAX_DATA_FILES) if not name.exists()), None)
    if data is None:
        raise BadInput(f"Every name for the weights of {path} is taken: remove {path.name}.*.data.")
    try:
        with _replacing(data) as beside, beside.open("wb") as stream:
            light = move_out(proto, stream, data.name)
        with _replacing(path) as beside:
            beside.write_bytes(light.SerializeToString(deterministic=True))
    except BaseException:
        if data not in _own_data_files(path):  # an interrupt may come when the new model is in place already
            data.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write into; it takes the place of `path` where nothing was raised."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _own_data_files(path: Path) -> list[Path]:
    """The data files that an earlier save of `path` wrote and the model there still reads."""
    ours = set(islice(data_files(path), MAX_DATA_FILES))
    if not path.is_file() or not any(data in ours for data in path.parent.glob("*.data")):
        return []
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError:  # whatever it was, it is about to be replaced, and says nothing about who owns the data
        return []
    named = {path.with_name(entry.value) for tensor in all_tensors(model) for entry in tensor.external_data}
    return sorted(named & ours)
