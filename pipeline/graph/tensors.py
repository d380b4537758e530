"""The tensors written in a model: where they all are, and whether each holds what its shape says."""

import math
from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

# What is packed closer than a byte an element.
PACKED_BITS = {
    "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6,
}  # fmt: skip
PACKED = {number: PACKED_BITS[name] for name, number in TensorProto.DataType.items() if name in PACKED_BITS}
PACKED_IN_FIELDS = (2, 4)  # bits; wider ones take an entry each where they are not raw
COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)  # two numbers an element


def all_tensors(proto: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor in the graph, in its bodies and in the functions, sparse ones' parts included."""
    yield from graph_tensors(proto.graph)
    for function in proto.functions:
        for entry in function.attribute_proto:
            yield from _attribute_tensors(entry)
        for node in function.node:
            for entry in node.attribute:
                yield from _attribute_tensors(entry)


def graph_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for entry in node.attribute:
            yield from _attribute_tensors(entry)


def check_tensors(proto: onnx.ModelProto) -> None:
    """Every tensor holds as many elements as its shape says, of a type there is; raises ValueError naming the first."""
    for tensor in all_tensors(proto):
        if tensor.data_location == TensorProto.EXTERNAL:  # reading has brought in what lies where it is said to
            raise ValueError(f"tensor {tensor.name!r} lies in another file without saying in which")
        wanted, unit = stored_bytes(tensor), "bytes"
        held = len(tensor.raw_data)
        if tensor.data_type == TensorProto.STRING or not tensor.HasField("raw_data"):
            wanted, unit = _entries(tensor), "entries"
            held = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
        if wanted != held:
            shape = list(tensor.dims)
            raise ValueError(f"tensor {tensor.name!r} of shape {shape} holds {held} {unit} instead of {wanted}")
        for text in tensor.string_data:
            text.decode()  # UnicodeDecodeError is a ValueError


def stored_bytes(tensor: TensorProto) -> int:
    """How many bytes the tensor takes where it is raw or in a file; ValueError for a type or shape that cannot be."""
    known = tensor.data_type in helper.get_all_tensor_dtypes() and tensor.data_type != TensorProto.UNDEFINED
    if not known or min(tensor.dims, default=0) < 0:
        raise ValueError(f"tensor {tensor.name!r} has the type {tensor.data_type} and shape {list(tensor.dims)}")
    bits = PACKED.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-int(math.prod(tensor.dims)) * int(bits) // 8)


def _entries(tensor: TensorProto) -> int:
    """How many entries of its typed field the tensor takes."""
    elements = int(math.prod(tensor.dims))
    bits = PACKED.get(tensor.data_type)
    if bits in PACKED_IN_FIELDS:
        return -(-elements * bits // 8)
    return 2 * elements if tensor.data_type in COMPLEX else elements


def _attribute_tensors(entry: onnx.AttributeProto) -> Iterator[TensorProto]:
    if entry.HasField("t"):
        yield entry.t
    yield from entry.tensors
    for sparse in (*([entry.sparse_tensor] if entry.HasField("sparse_tensor") else []), *entry.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    for graph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
        yield from graph_tensors(graph)
