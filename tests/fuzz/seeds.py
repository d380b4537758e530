"""Small sound models that mutation starts from: between them they hold every kind of thing a file may hold."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser, shape_inference

from tests.graph.small import ints, proto

SHARED = Path(os.environ.get("CUTBACK_MODELS", "no models"))  # a folder of networks that others trained
SHARED_FILES = (
    "mnist_cntk",
    "polygraphy_residual_block",
    "sinet_portrait",
    "superres_espcn_core",
    "superres_prepost_op18",
)
IMAGE = "float[1,4,6,6] x"


def convolutions() -> onnx.ModelProto:
    body = (
        "a = Conv<pads = [1,1,1,1]>(x, w) b = BatchNormalization(a, s, b1, m, v) c = Relu(b) "
        "d = Conv<group = 4, pads = [1,1,1,1]>(c, dw) e = Conv(d, pw, pb) f = Add(e, x) "
        "g = MaxPool<kernel_shape = [2,2]>(f) p = GlobalAveragePool(g) q = Flatten(p) y = Gemm<transB = 1>(q, fw, fb)"
    )
    return proto(
        "float[n,4,6,6] x", body, opset=17, w=(4, 4, 3, 3), s=(4,), b1=(4,), m=(4,), v=(4,), dw=(4, 1, 3, 3),
        pw=(4, 4, 1, 1), pb=(4,), fw=(5, 4), fb=(5,),
    )  # fmt: skip


def joins() -> onnx.ModelProto:
    body = (
        "a = Conv(x, w) b, c = Split<axis = 1>(a, sizes) d = Concat<axis = 1>(c, b) e = Slice(d, start, stop, along) "
        "f = Reshape(e, blocks) g = Transpose<perm = [0,2,1,3,4]>(f) h = Reshape(g, back) "
        'i = Pad(h, amounts) y = Resize<mode = "nearest">(i, "", scales)'
    )
    return proto(
        IMAGE, body, w=(6, 4, 1, 1), sizes=ints(2, 4), start=ints(1), stop=ints(5), along=ints(1),
        blocks=ints(1, 2, 2, 6, 6), back=ints(1, 4, 6, 6), amounts=ints(0, 1, 0, 0, 0, 1, 0, 0),
        scales=np.asarray([1, 1, 2, 2], np.float32),
    )  # fmt: skip


def sizes() -> onnx.ModelProto:
    body = (
        "s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, first) t = Concat<axis = 0>(u, rest) r = Reshape(x, t) "
        "z = ConstantOfShape(three) e = Expand(one, big) i = Tile(e, reps) k = Range(zero, four, step) "
        "kf = Cast<to = 1>(k) o = Add(i, kf) j = ReduceSum(z) p = Mul(r, j) y = Sub(p, j)"
    )
    return proto(
        "float[n,4,6,6] x", body, zero=np.asarray(0), first=ints(0), rest=ints(144), three=ints(2, 3),
        one=np.asarray([1], np.float32), big=ints(2, 2), reps=ints(1, 2), four=np.asarray(4), step=np.asarray(1),
    )  # fmt: skip


def attention() -> onnx.ModelProto:
    body = (
        "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) r = Reshape(q, heads) "
        "t = Transpose<perm = [0,2,1,3]>(r) l = Reshape(k, heads) m = Transpose<perm = [0,2,3,1]>(l) "
        "o = Reshape(v, heads) p = Transpose<perm = [0,2,1,3]>(o) "
        "s = MatMul(t, m) a = Softmax<axis = -1>(s) b = MatMul(a, p) c = Transpose<perm = [0,2,1,3]>(b) "
        "d = Reshape(c, whole) e = MatMul(d, wo) f = Add(e, x) y = LayerNormalization(f, g, h)"
    )
    return proto(
        "float[1,5,8] x", body, wq=(8, 8), wk=(8, 8), wv=(8, 8), wo=(8, 8), g=(8,), h=(8,),
        heads=ints(0, 0, 2, 4), whole=ints(0, 0, 8),
    )  # fmt: skip


def quantised() -> onnx.ModelProto:
    body = (
        "xq = QuantizeLinear(x, sx, zx) xd = DequantizeLinear(xq, sx, zx) wd = DequantizeLinear<axis = 0>(w, sw, zw) "
        "a = Conv(xd, wd) y = Relu(a)"
    )
    return proto(
        IMAGE, body, sx=np.asarray(0.1, np.float32), zx=np.asarray(3, np.uint8), zw=np.zeros(4, np.int8),
        w=np.arange(64, dtype=np.int8).reshape(4, 4, 2, 2), sw=np.asarray([0.1, 0.2, 0.3, 0.4], np.float32),
    )  # fmt: skip


def bodies() -> onnx.ModelProto:
    body = (
        "c = Greater(m, zero) a = Conv(x, w) "
        "b = If(c) <then_branch = t () => (float[1,4,6,6] p) { p = Relu(a) },"
        " else_branch = e () => (float[1,4,6,6] q) { k = Constant<value_float = 2.0>() q = Mul(a, k) }> "
        'l = Loop(trips, "", b) <body = l (int64 i, bool go, float[1,4,6,6] h) => (bool on, float[1,4,6,6] o) '
        "{ on = Identity(go) o = Add(h, b) }> y = Relu(l)"
    )
    model = proto(f"{IMAGE}, float m", body, w=(4, 4, 1, 1), zero=np.asarray(0, np.float32), trips=np.asarray(2))
    for size in (1, 4, 6, 6):  # what a loop makes, inference does not say
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    return model


def functions() -> onnx.ModelProto:
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
        g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float[4,4,1,1] w = {
        1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> { a = own.twice(x, w) y = own.block<slope = 0.2>(a, w) }
        <domain: "own", opset_import: ["" : 18]> twice (x, w) => (y) { a = Conv(x, w) y = Conv(a, w) }
        <domain: "own", opset_import: ["" : 18, "own" : 1]> block<slope>(x, w) => (y)
        { a = own.twice(x, w) y = LeakyRelu<alpha: float = @slope>(a) }"""
    )


def constants() -> onnx.ModelProto:
    body = (
        "k = Constant<value = float[2,2] {1.0, 2.0, 3.0, 4.0}>() l = Constant<value_ints = [1, 4, 3, 12]>() "
        "i = Identity(w) s = Mul(i, two) a = Conv(x, s) b = Conv(x, i) c = Add(a, b) d = Reshape(c, l) "
        "e = CastLike(one, d) f = Add(d, e) o = ReduceMean(k) t, n = TopK(f, many) z = Where(yes, t, o) "
        "y = Clip(z, low)"
    )
    return proto(
        IMAGE, body, w=(4, 4, 1, 1), two=np.asarray(2, np.float32), one=np.asarray(1), many=ints(3),
        yes=np.asarray(True), low=np.asarray(0, np.float32),
    )  # fmt: skip


def sequences() -> onnx.ModelProto:
    body = "q = SplitToSequence<axis = 1>(x, two) a = SequenceAt(q, zero) b = SequenceAt(q, one) y = Add(a, b)"
    return proto(IMAGE, body, two=np.asarray(2), zero=np.asarray(0), one=np.asarray(1))


def kinds_of_tensors() -> onnx.ModelProto:
    """Typed fields, strings, halves, four-bit integers, a sparse constant; half of them lead nowhere."""
    body = "h = Cast<to = 1>(half) i = Cast<to = 1>(four) a = Mul(x, h) b = Add(a, i) y = Mul(b, typed)"
    model = proto(IMAGE, body, opset=21)
    model.ir_version = 10
    tensors = model.graph.initializer
    tensors.append(numpy_helper.from_array(np.ones((4, 1, 1), np.float16), "half"))
    tensors.append(helper.make_tensor("four", TensorProto.INT4, (1, 4, 1, 1), [1, -2, 3, -4]))
    tensors.append(helper.make_tensor("typed", TensorProto.FLOAT, (4, 1, 1), [1, 2, 3, 4]))
    tensors.append(numpy_helper.from_array(np.asarray(["a", "bc"], object), "text"))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["rare"], "", None, None, sparse_value=_sparse()))
    model.graph.node.append(helper.make_node("Identity", ["text"], ["label"]))
    model.graph.node.append(helper.make_node("Add", ["rare", "rare"], ["more"]))
    return model


def recurrent() -> onnx.ModelProto:
    return proto(
        "float[3,1,4] x", "a, b, c = LSTM<hidden_size = 2>(x, w, r) d = Squeeze(a, one) y = MatMul(d, f)",
        w=(1, 8, 4), r=(1, 8, 2), one=ints(1), f=(2, 3),
    )  # fmt: skip


def older() -> onnx.ModelProto:
    """Opset 7 and initialisers among the inputs, as exporters wrote in 2018."""
    body = (
        "a = Conv(x, w) b = BatchNormalization(a, s, b1, m, v) d = Dropout<ratio = 0.5>(b) "
        'u = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(d) y = PRelu(u, p)'
    )
    model = proto(IMAGE, body, opset=7, w=(4, 4, 1, 1), s=(4,), b1=(4,), m=(4,), v=(4,), p=(4, 1, 1))
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = 3
    return model


def _sparse() -> onnx.SparseTensorProto:
    values = helper.make_tensor("", TensorProto.FLOAT, (1,), [3.0])
    return helper.make_sparse_tensor(values, helper.make_tensor("", TensorProto.INT64, (1,), [1]), [4])


SEEDS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "convolutions": convolutions, "joins": joins, "sizes": sizes, "attention": attention, "quantised": quantised,
    "bodies": bodies, "functions": functions, "constants": constants, "sequences": sequences,
    "kinds of tensors": kinds_of_tensors, "recurrent": recurrent, "older": older,
}  # fmt: skip


@cache
def seed_files(*, shared: bool) -> Mapping[str, bytes]:
    """Every seed as a file's bytes; on request with the small files of real exporters, where they are at hand."""
    # a file has to declare its outputs' ranks
    files = {name: shape_inference.infer_shapes(build()).SerializeToString() for name, build in SEEDS.items()}
    if shared:
        found = (SHARED / f"{name}.onnx" for name in SHARED_FILES)
        files |= {path.stem: path.read_bytes() for path in found if path.exists()}
    return files
