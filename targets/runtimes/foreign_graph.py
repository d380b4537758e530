"""An ONNX graph that a device wrote, read without trust (host side).

A protobuf of a few bytes a part becomes objects of a hundred and more. So the parts are counted on the bytes, by ONNX's
own schema, before anything is made of them; nothing that the graph points at outside itself is looked at.
"""

import hashlib
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from targets.foreign_json import shown

MOST_PARTS = 1_000_000  # fields, and each 64 bytes of packed numbers; a network of a thousand nodes has some 40,000
MOST_INPUTS = 2048  # of one node, or outputs
DEEPEST = 32  # bodies within bodies
LONGEST_NAME = 8192  # bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types; the others are of groups, which ONNX has none of
FIXED = {FIXED64: 8, FIXED32: 4}
PLAIN = tuple(  # kinds of fields that are as large in memory as in a file
    getattr(FieldDescriptor, f"TYPE_{kind}") for kind in ("BYTES", "STRING", "FLOAT", "DOUBLE")
)


def read_graph(path: Path) -> onnx.ModelProto:
    """The model, its names and texts without control characters, long texts by their hash. `ValueError` where it is no
    ONNX, or in more parts than any network's."""
    data = path.read_bytes()
    Counter(data).message(onnx.ModelProto.DESCRIPTOR, 0, len(data), 0)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as failure:
        raise ValueError("a graph that is no ONNX") from failure
    for tensor in model.graph.initializer:
        tensor.name = name_from(tensor.name)
    for node in model.graph.node:
        clean(node)
    for value in (*model.graph.input, *model.graph.output):
        value.name = name_from(value.name)
    return model


def clean(node: onnx.NodeProto) -> None:
    if max(len(node.input), len(node.output)) > MOST_INPUTS:
        raise ValueError(f"a graph with a node of more than {MOST_INPUTS} tensors")
    node.name, node.op_type, node.domain = map(name_from, (node.name, node.op_type, node.domain))
    for names in (node.input, node.output):
        for index, name in enumerate(names):
            if not name.isprintable() or len(name) > LONGEST_NAME:
                names[index] = name_from(name)
    for attribute in node.attribute:
        attribute.name = name_from(attribute.name)
        if len(attribute.s) > LONGEST_NAME:
            attribute.s = hashlib.sha256(attribute.s).hexdigest().encode()
        elif attribute.s:
            attribute.s = shown(attribute.s.decode("utf-8", errors="replace")).encode()


def name_from(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise ValueError("a graph with a name that is too long")
    return shown(name)


class Counter:
    """Walks the wire format of one message after the other. `ValueError` past the bounds, or where it is none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = 0

    def message(self, descriptor: Any, at: int, end: int, depth: int) -> None:
        if depth > 3 * DEEPEST:  # a body is three messages deep
            raise ValueError("a graph that is too deep")
        fields = descriptor.fields_by_number
        while at < end:
            tag, at = self._number(at, end)
            field, wire = fields.get(tag >> 3), tag & 7
            self._count(1)
            if wire == VARINT:
                _, at = self._number(at, end)
            elif wire in FIXED:
                at += FIXED[wire]
            elif wire == BYTES:
                size, at = self._number(at, end)
                if at + size > end:
                    raise ValueError("a graph that ends early")
                if field is not None and field.message_type is not None:
                    self.message(field.message_type, at, at + size, depth + 1)
                elif field is not None and field.type not in PLAIN:  # packed: a byte may become eight
                    self._count(size // 64)
                at += size
            else:
                raise ValueError("a graph that is no ONNX")
        if at != end:
            raise ValueError("a graph that ends early")

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MOST_PARTS:
            raise ValueError(f"a graph of more than {MOST_PARTS} parts")

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """A varint: its value, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ValueError("a graph that is no ONNX")
