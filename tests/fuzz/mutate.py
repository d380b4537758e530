"""Mutants of sound models: of the protobuf's fields, and of the file's bytes. The same number gives the same bytes."""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

INTEGERS = (
    0, 1, -1, 2, 3, 4, 7, 9, 16, 24, 64, 255, 1000, 2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**32, 2**33, 2**40, 2**62,
    2**63 - 1, -2, -(2**31), -(2**63),
)  # fmt: skip
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-45, 1e10, 3e38, float("inf"), float("-inf"), float("nan"))
OPERATORS = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}))
OPSETS = (1, 6, 7, 8, 9, 11, 13, 15, 17, 18, 19, 21, 23)
# Extents of the change: most mutants differ in one or two places, so that they pass the first checks.
CHANGES = (1, 1, 1, 2, 2, 3, 5)

Random = random.Random
Files = Mapping[str, bytes]


def mutant(number: int, files: Files) -> tuple[str, bytes]:
    """(what was done to which file, the bytes)."""
    generator = Random(number)
    name = generator.choice(sorted(files))
    if generator.random() < 0.25:
        kind, change = generator.choice(BYTE_CHANGES)
        data = files[name]
        for _ in range(generator.choice(CHANGES)):
            data = change(data, generator, files)
        return f"{name}, {kind}", data
    model = onnx.ModelProto.FromString(files[name])
    done = []
    for _ in range(generator.choice(CHANGES)):
        kind, edit = generator.choice(EDITS)
        edit(model, generator, files)
        done.append(kind)
    return f"{name}, {' + '.join(done)}", model.SerializeToString()


# Bytes.


def truncate(data: bytes, generator: Random, files: Files) -> bytes:
    return data[: generator.randrange(len(data) + 1)]


def flip(data: bytes, generator: Random, files: Files) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.choice((1, 2, 8)) if changed else 0):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, generator: Random, files: Files) -> bytes:
    start = generator.randrange(len(data) + 1)
    value = generator.choice((b"\xff" * 8, b"\x00" * 4, b"\x80" * 10, b"\xff" * 9 + b"\x01", b"\xc3\x28"))
    return data[:start] + value + data[start + len(value) :]


def splice(data: bytes, generator: Random, files: Files) -> bytes:
    other = files[generator.choice(sorted(files))]
    start, length = generator.randrange(len(other)), generator.choice((1, 4, 16, 64, 256))
    at = generator.randrange(len(data) + 1)
    return data[:at] + other[start : start + length] + data[at + generator.choice((0, length)) :]


def remove(data: bytes, generator: Random, files: Files) -> bytes:
    at = generator.randrange(len(data) + 1)
    return data[:at] + data[at + generator.choice((1, 2, 4, 16, 64)) :]


BYTE_CHANGES: tuple[tuple[str, Callable[[bytes, Random, Files], bytes]], ...] = (
    ("truncated", truncate), ("flipped", flip), ("overwritten", overwrite), ("spliced", splice), ("removed", remove),
)  # fmt: skip


# Fields.


def messages(message: Message) -> Iterator[Message]:
    """The message and all in it; not the single entries of a long list of weights."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                yield from messages(inner)


def _pick(model: onnx.ModelProto, generator: Random, *kinds: type[Message]) -> Any:
    found = [message for message in messages(model) if not kinds or isinstance(message, kinds)]
    return generator.choice(found) if found else None


def drop_field(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    message = _pick(model, generator)
    fields = [field for field, _ in message.ListFields()]
    if fields:
        message.ClearField(generator.choice(fields).name)


def drop_entry(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    values = _repeated(model, generator)
    if values is not None:
        del values[generator.randrange(len(values))]


def swap_entries(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    values = _repeated(model, generator)
    if values is not None and len(values) > 1:
        entries = list(values)
        i, j = generator.sample(range(len(entries)), 2)
        entries[i], entries[j] = entries[j], entries[i]
        copies = [type(e).FromString(e.SerializeToString()) if isinstance(e, Message) else e for e in entries]
        del values[:]
        values.extend(copies)


def repeat_entry(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    values = _repeated(model, generator)
    if values is not None:
        entry = values[generator.randrange(len(values))]
        values.extend([type(entry).FromString(entry.SerializeToString()) if isinstance(entry, Message) else entry])


def set_scalar(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    """Any field of any message, whether it is set or not."""
    message = _pick(model, generator)
    fields = [field for field in message.DESCRIPTOR.fields if field.type != FieldDescriptor.TYPE_MESSAGE]
    if generator.random() < 0.7:
        fields = [field for field, _ in message.ListFields() if field.type != FieldDescriptor.TYPE_MESSAGE] or fields
    if not fields:
        return
    field = generator.choice(fields)
    value = _scalar(field, model, generator)
    if not field.is_repeated:
        setattr(message, field.name, value)
        return
    values = getattr(message, field.name)
    if len(values) and generator.random() < 0.8:
        values[generator.randrange(len(values))] = value
    else:
        values.append(value)


def set_dimension(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    tensor = _pick(model, generator, onnx.TensorProto, onnx.TensorShapeProto.Dimension)
    if isinstance(tensor, onnx.TensorProto) and tensor.dims:
        tensor.dims[generator.randrange(len(tensor.dims))] = generator.choice(INTEGERS)
    elif isinstance(tensor, onnx.TensorShapeProto.Dimension):
        tensor.dim_value = generator.choice(INTEGERS)


def set_small_constant(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    """Sizes, axes, counts: eight bytes that are mostly one integer."""
    tensors = [
        t for t in messages(model)
        if isinstance(t, onnx.TensorProto) and t.data_type == onnx.TensorProto.INT64 and 8 <= len(t.raw_data) <= 64
    ]  # fmt: skip
    if tensors:
        tensor = generator.choice(tensors)
        at = 8 * generator.randrange(len(tensor.raw_data) // 8)
        value = generator.choice(INTEGERS).to_bytes(8, "little", signed=True)
        tensor.raw_data = tensor.raw_data[:at] + value + tensor.raw_data[at + 8 :]


def rewire(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    node = _pick(model, generator, onnx.NodeProto)
    if node is not None:
        side = node.input if generator.random() < 0.7 else node.output
        if side:
            side[generator.randrange(len(side))] = generator.choice(_names(model))


def other_operator(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    node = _pick(model, generator, onnx.NodeProto)
    if node is not None:
        node.op_type = generator.choice(OPERATORS)
        if generator.random() < 0.5:
            del node.attribute[:]


def other_opset(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    if model.opset_import:
        generator.choice(list(model.opset_import)).version = generator.choice(OPSETS)


def borrow(model: onnx.ModelProto, generator: Random, files: Files) -> None:
    """A message becomes one of its kind from another file."""
    message = _pick(model, generator)
    other = onnx.ModelProto.FromString(files[generator.choice(sorted(files))])
    donor = _pick(other, generator, type(message))
    if donor is not None and not isinstance(message, onnx.ModelProto):
        message.CopyFrom(donor)


def _repeated(model: onnx.ModelProto, generator: Random) -> Any:
    found = [
        value for message in messages(model) for field, value in message.ListFields()
        if field.is_repeated and len(value)
    ]  # fmt: skip
    return generator.choice(found) if found else None


def _names(model: onnx.ModelProto) -> list[str]:
    names = {name for m in messages(model) if isinstance(m, onnx.NodeProto) for name in (*m.input, *m.output)}
    names |= {m.name for m in messages(model) if isinstance(m, onnx.TensorProto)}
    return sorted(names) or [""]


def _scalar(field: FieldDescriptor, model: onnx.ModelProto, generator: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return generator.choice(("", "x", "\n", "a" * 70_000, "ai.onnx", "com.microsoft", *_names(model)[:20]))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return generator.choice((b"", b"\x00", b"\xff\xfe", b"\x00" * 64, b"nearest"))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return generator.choice(FLOATS)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return generator.choice([entry.number for entry in field.enum_type.values] if field.enum_type else [0])
    bits, signed = {
        FieldDescriptor.TYPE_INT32: (32, True), FieldDescriptor.TYPE_UINT64: (64, False),
    }.get(field.type, (64, True))  # fmt: skip
    value: int = generator.choice(INTEGERS) if generator.random() < 0.7 else generator.randrange(30)
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return min(max(value, lowest), highest)


EDITS: tuple[tuple[str, Callable[[onnx.ModelProto, Random, Files], None]], ...] = (
    ("field dropped", drop_field), ("entry dropped", drop_entry), ("entries swapped", swap_entries),
    ("entry repeated", repeat_entry), ("value set", set_scalar), ("value set", set_scalar),
    ("dimension set", set_dimension), ("small constant set", set_small_constant),
    ("small constant set", set_small_constant), ("rewired", rewire), ("rewired", rewire),
    ("other operator", other_operator), ("other opset", other_opset), ("borrowed", borrow),
)  # fmt: skip
