"""Files that somebody made to harm: every one by hand, under the name of what it tries."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.judge import judge
from tests.fuzz.seeds import IMAGE, SEEDS
from tests.graph.small import ints, proto

HUGE = 2**40
Write = Callable[[Path], object]


def judge_case(name: str, tell: Callable[[str], None]) -> tuple[str, str]:
    with TemporaryDirectory(prefix="cutback-fuzz-") as folder:
        path = Path(folder, "inner", "model.onnx")
        path.parent.mkdir()
        CASES[name](path)
        return judge(path, tell)


def base() -> onnx.ModelProto:
    return declared(proto(IMAGE, "a = Conv(x, w) y = Relu(a)", w=(8, 4, 3, 3)))


def declared(model: onnx.ModelProto) -> onnx.ModelProto:
    """With outputs of rank 4: files have to say one."""
    for value in model.graph.output:
        for name in "nchw":
            value.type.tensor_type.shape.dim.add(dim_param=name)
    return model


def written(make: Callable[[], onnx.ModelProto]) -> Write:
    return lambda path: _write(path, make())


def changed(change: Callable[[onnx.ModelProto], object]) -> Write:
    def make() -> onnx.ModelProto:
        model = base()
        change(model)
        return model

    return written(make)


def body(text: str, opset: int = 18, **weights: Any) -> Write:
    """A graph of this text, whose last tensor is `y`."""
    return written(lambda: declared(proto(IMAGE, text, opset=opset, **weights)))


def patched(old: bytes, new: bytes) -> Write:
    """Bytes that no writer would write."""

    def write(path: Path) -> None:
        data = base().SerializeToString()
        assert old in data
        path.write_bytes(data.replace(old, new))

    return write


def _write(path: Path, model: onnx.ModelProto) -> None:
    path.write_bytes(model.SerializeToString())


# Graphs.


def nested(levels: int) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        def branch(level: int) -> onnx.GraphProto:
            value = helper.make_tensor_value_info(f"o{level}", TensorProto.FLOAT, [1, 4, 6, 6])
            if level == levels:
                node = helper.make_node("Identity", ["x"], [f"o{level}"])
            else:
                inner = branch(level + 1)
                node = helper.make_node("If", ["c"], [f"o{level}"], then_branch=inner, else_branch=_leaf(level))
            return helper.make_graph([node], f"g{level}", [], [value])

        model = base()
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "c"))
        inner = branch(0)
        model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=_leaf(-1)))
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 6, 6]))
        return model

    return make


def _leaf(level: int) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(f"e{level}", TensorProto.FLOAT, [1, 4, 6, 6])
    return helper.make_graph([helper.make_node("Relu", ["x"], [f"e{level}"])], f"else{level}", [], [value])


def nested_bytes(path: Path) -> None:
    """A depth that no parser may follow, written from inside out."""
    graph = b""
    for _ in range(500):
        attribute = b"\x0a\x0bthen_branch" + b"\x32" + _varint(len(graph)) + graph + b"\xa0\x01\x05"
        node = b"\x12\x01y\x22\x02If" + b"\x2a" + _varint(len(attribute)) + attribute
        graph = b"\x0a" + _varint(len(node)) + node
    path.write_bytes(b"\x08\x08" + b"\x3a" + _varint(len(graph)) + graph + b"\x42\x04\x0a\x00\x10\x12")


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def function_model(functions: Mapping[str, list[str]]) -> Callable[[], onnx.ModelProto]:
    """Functions by name, each calling others one after the other; the graph calls the first."""

    def make() -> onnx.ModelProto:
        model = base()
        model.opset_import.add(domain="f", version=1)
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
        for name, calls in functions.items():
            names = ["in", *(f"t{number}" for number in range(len(calls)))]
            nodes = [
                helper.make_node(call, [a], [b], domain="f" if call in functions else "")
                for call, a, b in zip(calls, names[:-1], names[1:], strict=True)
            ]
            model.functions.append(helper.make_function("f", name, ["in"], [names[-1]], nodes, imports))
        model.graph.node[1].op_type, model.graph.node[1].domain = next(iter(functions)), "f"
        return model

    return make


def billion_laughs() -> Mapping[str, list[str]]:
    return {f"f{n}": [f"f{n + 1}"] * 2 if n < 60 else ["Relu"] for n in range(61)}


def chain(nodes: int, operator: str) -> Callable[[], onnx.ModelProto]:
    """Constants that double with every node."""

    def make() -> onnx.ModelProto:
        model = base()
        model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.float32), "t0"))
        steps = [helper.make_node(operator, [f"t{n}", f"t{n}"], [f"t{n + 1}"], axis=1) for n in range(nodes)]
        total = helper.make_node("ReduceMax", [f"t{nodes}"], ["top"], keepdims=0)
        kept = [*steps, total, model.graph.node[0], helper.make_node("Add", ["a", "top"], ["y"])]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del model.graph.node[:]
        model.graph.node.extend(copies)
        return model

    return make


def many_readers() -> onnx.ModelProto:
    """Four megabytes that a thousand nodes read: a copy for each is four gigabytes."""
    model = base()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 1024, 1024), np.float32), "big"))
    nodes = [helper.make_node("Add", ["big", f"s{n}"], [f"b{n}"]) for n in range(1000)]
    sizes = [helper.make_node("ReduceMax", ["a"], [f"s{n}"], keepdims=0) for n in range(1000)]
    ends = helper.make_node("Max", ["y0", *(f"b{n}" for n in range(1000))], ["y"])
    model.graph.node[1].output[0] = "y0"
    model.graph.node.extend([*sizes, *nodes, ends])
    return model


def retyped(kind: onnx.TypeProto) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.input[0].type.CopyFrom(kind)


def weight(**fields: Any) -> Write:
    """The convolution's weight with other fields."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        for name, value in fields.items():
            if isinstance(value, list):
                del getattr(tensor, name)[:]
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return changed(change)


def bare(**fields: Any) -> Write:
    """The same without its bytes."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(TensorProto(name="w", **fields))

    return changed(change)


def attribute(**fields: Any) -> Write:
    return changed(lambda model: model.graph.node[0].attribute.add(**fields))


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def out_of_order(model: onnx.ModelProto) -> None:
    first, second = (onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([second, first])


def sparse(dims: list[int], values: list[float], indices: list[int]) -> Write:
    def change(model: onnx.ModelProto) -> None:
        made = onnx.SparseTensorProto(dims=dims)
        made.values.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, (len(values),), values))
        made.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, (len(indices),), indices))
        del model.graph.initializer[:]
        model.graph.sparse_initializer.append(made)

    return changed(change)


def overflowing(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 2**62


def long_tensor_name(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "n" * 2**20


def node_names(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = "same"


# Weights in other files.


def external(prepare: Callable[[Path], object] = lambda folder: None, **entries: str) -> Write:
    """The weight lies where `entries` say; `prepare` fills the model's folder."""

    def write(path: Path) -> None:
        model = base()
        tensor = model.graph.initializer[0]
        data = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        (path.parent / "weights.bin").write_bytes(data)
        (path.parent.parent / "outside.bin").write_bytes(data)
        prepare(path.parent)
        _write(path, model)

    return write


def two_tensors(second_offset: int) -> Write:
    def write(path: Path) -> None:
        model = base()
        model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 1, 1), np.float32), "k"))
        model.graph.node[1].op_type = "PRelu"
        model.graph.node[1].input.append("k")
        data = model.graph.initializer[0].raw_data
        for tensor, offset in zip(model.graph.initializer, (0, second_offset), strict=True):
            length = len(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
        (path.parent / "weights.bin").write_bytes(data)
        _write(path, model)

    return write


def aliased(path: Path) -> None:
    """A thousand tensors that are all the same sixteen megabytes of one file."""
    model = base()
    (path.parent / "weights.bin").write_bytes(bytes(2**24))
    for number in range(1000):
        tensor = model.graph.initializer.add(name=f"k{number}", data_type=1, dims=[2**22], data_location=1)
        tensor.external_data.add(key="location", value="weights.bin")
    _write(path, model)


def below(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "weights.bin").rename(folder / "d" / "w")


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


EVIL_SIZES = ints(1, 4, 2**31, 2**31)
ONE = np.asarray(1, np.float32)

GRAPHS: Mapping[str, Write] = {
    "cycle": changed(cycle),
    "node reads itself": changed(lambda m: m.graph.node[1].input.__setitem__(0, "y")),
    "nodes out of order": changed(out_of_order),
    "tensor made twice": changed(lambda m: m.graph.node[1].output.__setitem__(0, "a")),
    "tensor made and given": changed(lambda m: m.graph.node[0].output.__setitem__(0, "w")),
    "input made": changed(lambda m: m.graph.node[1].output.__setitem__(0, "x")),
    "node names twice": changed(node_names),
    "weight twice": changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
    "weight without name": weight(name=""),
    "no weight": changed(lambda m: m.graph.initializer.__delitem__(0)),
    "no input": changed(lambda m: m.graph.input.__delitem__(0)),
    "input twice": changed(lambda m: m.graph.input.append(m.graph.input[0])),
    "no output": changed(lambda m: m.graph.output.__delitem__(0)),
    "output twice": changed(lambda m: m.graph.output.append(m.graph.output[0])),
    "output that nobody makes": changed(lambda m: setattr(m.graph.output[0], "name", "nowhere")),
    "output is the input": changed(lambda m: setattr(m.graph.output[0], "name", "x")),
    "output is a weight": changed(lambda m: setattr(m.graph.output[0], "name", "w")),
    "output without shape": changed(lambda m: m.graph.output[0].type.tensor_type.ClearField("shape")),
    "output without type": changed(lambda m: m.graph.output[0].ClearField("type")),
    "output of unknown type": changed(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 99)),
    "output of another type": changed(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 7)),
    "input without shape": changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
    "input without type": changed(lambda m: m.graph.input[0].ClearField("type")),
    "input of unknown type": changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)),
    "input is a sequence": changed(retyped(helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1])))),
    "input is optional": changed(retyped(helper.make_optional_type_proto(helper.make_tensor_type_proto(1, [1])))),
    "input is a map": changed(retyped(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, [1])))),
    "input is sparse": changed(retyped(helper.make_sparse_tensor_type_proto(1, [1]))),
    "input of negative size": changed(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", -3)),
    "input of no size": changed(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 0)),
    "input whose size overflows": changed(overflowing),
    "inputs missing of a node": changed(lambda m: m.graph.node[0].input.__delitem__(slice(None))),
    "inputs too many for a node": changed(lambda m: m.graph.node[0].input.extend(["w"] * 2000)),
    "inputs empty of a node": changed(lambda m: m.graph.node[0].input.__setitem__(0, "")),
    "outputs missing of a node": changed(lambda m: m.graph.node[0].output.__delitem__(0)),
    "operator without name": changed(lambda m: setattr(m.graph.node[0], "op_type", "")),
    "operator unknown": changed(lambda m: setattr(m.graph.node[0], "op_type", "Convolve")),
    "domain unknown": changed(lambda m: setattr(m.graph.node[0], "domain", "nobody")),
    "opset missing": changed(lambda m: m.opset_import.__delitem__(slice(None))),
    "opset 0": changed(lambda m: setattr(m.opset_import[0], "version", 0)),
    "opset negative": changed(lambda m: setattr(m.opset_import[0], "version", -5)),
    "opset 9999": changed(lambda m: setattr(m.opset_import[0], "version", 9999)),
    "opset 1": changed(lambda m: setattr(m.opset_import[0], "version", 1)),
    "opset twice": changed(lambda m: m.opset_import.add(domain="", version=9)),
    "IR version 0": changed(lambda m: m.ClearField("ir_version")),
    "IR version 10000": changed(lambda m: setattr(m, "ir_version", 10_000)),
    "If thirty levels deep": written(nested(29)),
    "If five hundred levels deep": nested_bytes,
    "function calls itself": written(function_model({"f": ["f"]})),
    "functions call each other": written(function_model({"f": ["g"], "g": ["h"], "h": ["Relu", "f"]})),
    "functions a thousand deep": written(
        function_model({f"f{n}": [f"f{n + 1}"] if n < 1000 else ["Relu"] for n in range(1001)})
    ),
    "functions that double": written(function_model(billion_laughs())),
    "function twice": changed(lambda m: m.functions.extend([function_model({"f": ["Relu"]})().functions[0]] * 2)),
    "constants that double": written(chain(62, "Concat")),
    "weight read a thousand times": written(many_readers),
    "name of a megabyte": changed(lambda m: setattr(m.graph.node[0], "name", "n" * 2**20)),
    "tensor name of a megabyte": changed(long_tensor_name),
    "name of line breaks": changed(lambda m: setattr(m.graph.node[0], "op_type", "Conv\n\x1b[31m\u202e")),
    "name that is no text": patched(b"Conv", b"\xff\xfe\xc3\x28"),
    "attribute of another type": attribute(name="group", type=onnx.AttributeProto.STRING, s=b"two"),
    "attribute without type": attribute(name="group", i=1),
    "attribute of two types": attribute(name="group", type=onnx.AttributeProto.INT, i=1, s=b"x"),
    "attribute that refers to nothing": attribute(name="group", type=onnx.AttributeProto.INT, ref_attr_name="g"),
    "attribute unknown": attribute(name="colour", type=onnx.AttributeProto.INT, i=1),
    "no groups": attribute(name="group", type=onnx.AttributeProto.INT, i=0),
    "groups negative": attribute(name="group", type=onnx.AttributeProto.INT, i=-4),
    "groups too many": attribute(name="group", type=onnx.AttributeProto.INT, i=2**62),
    "pads that overflow": attribute(name="pads", type=onnx.AttributeProto.INTS, ints=[2**62] * 4),
    "strides of none": attribute(name="strides", type=onnx.AttributeProto.INTS, ints=[0, 0]),
    "dilations that overflow": attribute(name="dilations", type=onnx.AttributeProto.INTS, ints=[2**62, 2**62]),
    "kernel of another shape": attribute(name="kernel_shape", type=onnx.AttributeProto.INTS, ints=[5, 5, 5]),
}  # fmt: skip

SIZES: Mapping[str, Write] = {
    "weight of negative size": weight(dims=[8, 4, -3, 3]),
    "weight that claims more": weight(dims=[8, 4, HUGE, 3]),
    "weight whose size overflows": weight(dims=[2**32, 2**32, 3, 3]),
    "weight whose size overflows to its own": weight(dims=[8 * 2**31, 4 * 2**33, 3, 3]),
    "weight without data": bare(data_type=1, dims=[8, 4, HUGE, HUGE]),
    "weight of strings without data": bare(data_type=8, dims=[8, 4, HUGE, 1]),
    "weight of four-bit integers without data": bare(data_type=22, dims=[HUGE]),
    "weight of four-bit integers, odd": bare(data_type=22, dims=[3], raw_data=b"\x21\x03"),
    "weight of four-bit integers, too long": bare(data_type=22, dims=[3], raw_data=b"\x21\x03\x00"),
    "weight of four-bit integers in a field": bare(data_type=22, dims=[3], int32_data=[33, 3]),
    "weight of four-bit integers, one entry each": bare(data_type=22, dims=[3], int32_data=[1, 2, 3]),
    "weight of bfloats": bare(data_type=16, dims=[8, 4, 3, 3], raw_data=bytes(576)),
    "weight of eight-bit floats": bare(data_type=17, dims=[8, 4, 3, 3], raw_data=bytes(288)),
    "weight of complex numbers": bare(data_type=14, dims=[1], float_data=[1.0, 2.0]),
    "weight of type 0": weight(data_type=0),
    "weight of type 99": weight(data_type=99),
    "weight of text": bare(data_type=8, dims=[2], string_data=[b"a", b"\xff\xfe"]),
    "weight in two fields": weight(float_data=[1.0] * 288),
    "weight in segments": changed(lambda m: m.graph.initializer[0].segment.__setattr__("begin", 5)),
    "weight without shape": weight(dims=[]),
    "weight of no elements": bare(data_type=1, dims=[8, 4, 0, 3]),
    "sparse weight": sparse([8, 4, 3, 3], [1.0, 2.0], [0, 250]),
    "sparse weight of any size": sparse([HUGE, 4, 3, 3], [1.0], [0]),
    "sparse weight outside itself": sparse([8, 4, 3, 3], [1.0], [288]),
    "sparse weight before itself": sparse([8, 4, 3, 3], [1.0], [-1]),
    "sparse weight with too few indices": sparse([8, 4, 3, 3], [1.0, 2.0], [0]),
    "ConstantOfShape": body("k = ConstantOfShape(s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", s=EVIL_SIZES),
    "ConstantOfShape negative": body("k = ConstantOfShape(s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", s=ints(-5)),
    "ConstantOfShape a little less": body(
        "k = ConstantOfShape(s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", s=ints(2**13, 2**13)
    ),
    "Expand": body("k = Expand(one, s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", one=ONE, s=EVIL_SIZES),
    "Expand of a size in the graph": body("s = Shape(x) t = Mul(s, f) k = Expand(one, t) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", one=ONE, f=ints(2**20)),
    "Expand of the input": body("y = Expand(x, s)", s=ints(2**16, 4, 6, 6)),
    "Tile": body("k = Tile(w, s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", w=(2, 2), s=ints(2**20, 2**20)),
    "Range": body("k = Range(zero, end, step) m = Cast<to = 1>(k) n = ReduceMax<keepdims = 0>(m) y = Add(x, n)", zero=np.asarray(0), end=np.asarray(2**62), step=np.asarray(1)),
    "Range without step": body("k = Range(zero, end, step) m = Cast<to = 1>(k) n = ReduceMax<keepdims = 0>(m) y = Add(x, n)", zero=np.asarray(0), end=np.asarray(5), step=np.asarray(0)),
    "Range of floats": body("k = Range(zero, end, step) n = ReduceMax<keepdims = 0>(k) y = Add(x, n)", zero=np.asarray(0.0, np.float32), end=np.asarray(1e30, np.float32), step=np.asarray(1e-30, np.float32)),
    "Pad": body("k = Pad(w, s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", w=(2, 2), s=ints(0, 0, 2**31, 2**31)),
    "Pad of channels": body("c = Conv(x, w) y = Pad(c, s)", w=(8, 4, 1, 1), s=ints(0, 2**24, 0, 0, 0, 0, 0, 0)),
    "Resize": body("k = Resize<mode = \"nearest\">(w, \"\", \"\", s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", w=(1, 1, 2, 2), s=EVIL_SIZES),
    "Resize by scales": body("k = Resize(w, \"\", s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", w=(1, 1, 2, 2), s=np.asarray([1, 1, 1e9, 1e9], np.float32)),
    "Resize by infinity": body("y = Resize(x, \"\", s)", s=np.asarray([1, 1, np.inf, np.nan], np.float32)),
    "Resize slowly": body("k = Resize<mode = \"cubic\">(w, \"\", \"\", s) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", w=(1, 1, 64, 64), s=ints(1, 1, 1900, 2000)),
    "Upsample": body("k = Upsample(w, s) m = ReduceMax(k) y = Add(x, m)", opset=9, w=(1, 1, 2, 2), s=np.asarray([1, 1, 1e9, 1e9], np.float32)),
    "OneHot": body("k = OneHot(i, d, v) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", i=ints(1), d=np.asarray(HUGE), v=np.asarray([0, 1], np.float32)),
    "EyeLike": body("k = ConstantOfShape(s) l = EyeLike(k) m = ReduceMax<keepdims = 0>(l) y = Add(x, m)", s=ints(2**20, 2**20)),
    "TopK of more than there is": body("v, i = TopK(x, k) y = Identity(v)", k=ints(2**40)),
    "Split of wrong sum": body("a, y = Split<axis = 1>(x, s)", s=ints(3, 2)),
    "Split of negative size": body("a, y = Split<axis = 1>(x, s)", s=ints(5, -1)),
    "Split into sequences by none": body("q = SplitToSequence<axis = 1>(x, k) y = SequenceAt(q, z)", k=np.asarray(0), z=np.asarray(0)),
    "Split into a sequence beyond": body("q = SplitToSequence<axis = 1>(x, k) y = SequenceAt(q, z)", k=np.asarray(2), z=np.asarray(2**40)),
    "Reshape to a contradiction": body("y = Reshape(x, s)", s=ints(-1, -1)),
    "Reshape to a negative": body("y = Reshape(x, s)", s=ints(-7, 4)),
    "Reshape to an overflow": body("y = Reshape(x, s)", s=ints(2**33, 2**33)),
    "Gather beyond": body("y = Gather<axis = 1>(x, i)", i=ints(2**40)),
    "Gather along no axis": body("y = Gather<axis = 9>(x, i)", i=ints(0)),
    "Slice of everything": body("y = Slice(x, a, b, c)", a=ints(-(2**63)), b=ints(2**63 - 1), c=ints(1)),
    "Slice by no steps": body("k = Slice(w, a, b, c, d) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", w=(4, 4), a=ints(0), b=ints(4), c=ints(0), d=ints(0)),
    "Slice backwards": body("y = Slice(x, a, b, c, d)", a=ints(2**63 - 1), b=ints(-(2**63)), c=ints(1), d=ints(-(2**63))),
    "Transpose along one axis twice": body("y = Transpose<perm = [0, 0, 1, 2]>(x)"),
    "Concat along no axis": body("y = Concat<axis = 7>(x, x)"),
    "Squeeze of a long axis": body("y = Squeeze(x, a)", a=ints(2)),
    "Unsqueeze far away": body("y = Unsqueeze(x, a)", a=ints(2**40)),
    "DepthToSpace of no blocks": body("y = DepthToSpace<blocksize = 0>(x)"),
    "DepthToSpace of odd blocks": body("c = Conv(x, w) y = DepthToSpace<blocksize = 3>(c)", w=(8, 4, 1, 1)),
    "Einsum over everything": body("k = Einsum<equation = \"ab,cd,ef->\">(w, w, w) y = Add(x, k)", w=(50, 50)),
    "Conv of constants": body("k = Conv(p, w) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", p=(1, 1, 300, 300), w=(1, 1, 150, 150)),
    "MaxPool of constants": body("k = MaxPool<kernel_shape = [150, 150]>(p) m = ReduceMax<keepdims = 0>(k) y = Add(x, m)", p=(1, 1, 400, 400)),
    "divided by zero": body("k = Div(one, zero) y = Add(x, k)", one=ONE, zero=np.asarray(0, np.float32)),
    "integers divided by zero": body("k = Div(one, zero) l = Cast<to = 1>(k) y = Add(x, l)", one=ints(1), zero=ints(0)),
    "scale zero": body("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", s=np.asarray(0, np.float32), z=np.asarray(0, np.uint8)),
    "scale of another length": body("d = DequantizeLinear<axis = 1>(w, s) y = Conv(x, d)", w=np.ones((8, 4, 3, 3), np.int8), s=(5,)),
    "scale along no axis": body("d = DequantizeLinear<axis = 9>(w, s) y = Conv(x, d)", w=np.ones((8, 4, 3, 3), np.int8), s=(8,)),
    "scale in blocks of none": body("d = DequantizeLinear<axis = 0, block_size = 0>(w, s) y = Conv(x, d)", opset=21, w=np.ones((8, 4, 3, 3), np.int8), s=(8, 4, 3, 3)),
    "zero point of another type": body("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", s=ONE, z=ints(0)),
}  # fmt: skip

FILES: Mapping[str, Write] = {
    "file empty": lambda path: path.touch(),
    "file is a folder": lambda path: path.mkdir(),
    "file is a pipe": lambda path: os.mkfifo(path),
    "file is a device": lambda path: path.symlink_to("/dev/zero"),
    "file is a dangling link": lambda path: path.symlink_to("nowhere"),
    "file of zeros": lambda path: path.write_bytes(bytes(100_000)),
    "file of ones": lambda path: path.write_bytes(b"\xff" * 100_000),
    "file of text": lambda path: path.write_text("<html>404</html>"),
    "file that claims to be longer": lambda path: path.write_bytes(b"\x08\x08\x3a\xff\xff\xff\xff\x07" + bytes(10)),
    "file that never ends a number": lambda path: path.write_bytes(b"\x80" * 1000),
    "file twice": lambda path: path.write_bytes(base().SerializeToString() * 2),
    "data beside": external(location="weights.bin", offset="0", length="1152"),
    "data without numbers": external(location="weights.bin"),
    "data in a folder below": external(below, location="d/w"),
    "data missing": external(location="nothing.bin"),
    "data without location": external(),
    "data at an empty location": external(location=""),
    "data at a location that is no name": external(location="a\0b"),
    "data at a location of a megabyte": external(location="a" * 2**20),
    "data at an absolute path": external(location="/etc/hostname"),
    "data above": external(location="../outside.bin"),
    "data above, through a folder": external(lambda f: (f / "d").mkdir(), location="d/../../outside.bin"),
    "data at a Windows path": external(location="..\\outside.bin"),
    "data through a link outside": external(link("l", "../outside.bin"), location="l"),
    "data through a folder outside": external(link("l", ".."), location="l/outside.bin"),
    "data through a link inside": external(link("l", "weights.bin"), location="l"),
    "data is a folder": external(lambda f: (f / "d").mkdir(), location="d"),
    "data is the folder": external(location="."),
    "data is a pipe": external(lambda f: os.mkfifo(f / "p"), location="p"),
    "data is a device": external(link("z", "/dev/zero"), location="z"),
    "data is the model": external(location="model.onnx"),
    "data from a negative byte": external(location="weights.bin", offset="-8"),
    "data from beyond the end": external(location="weights.bin", offset="1152"),
    "data from a byte that is no number": external(location="weights.bin", offset="zero"),
    "data from a byte of a thousand digits": external(location="weights.bin", offset="9" * 10_000),
    "data that is too short": external(location="weights.bin", length="8"),
    "data that is too long": external(location="weights.bin", length=str(2**50)),
    "data of negative length": external(location="weights.bin", length="-1"),
    "data that two tensors share": two_tensors(0),
    "data that overlaps": two_tensors(13),
    "data that a thousand tensors share": aliased,
}  # fmt: skip


def halves() -> Iterator[tuple[str, Write]]:
    """Every seed cut in the middle."""
    for name, build in SEEDS.items():
        yield f"{name}, half of it", partial(_write_half, build)


def _write_half(build: Callable[[], onnx.ModelProto], path: Path) -> None:
    data = build().SerializeToString()
    path.write_bytes(data[: len(data) // 2])


CASES: Mapping[str, Write] = {**GRAPHS, **SIZES, **FILES, **dict(halves())}
