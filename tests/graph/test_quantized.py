"""Quantised graphs: integers, scales and zero points are cut together, and what cannot be followed says so."""

import logging
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut, masked, plan
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import from_proto
from pipeline.graph.proof import prove
from pipeline.importance.criteria import score
from targets.errors import ProofFailed
from tests.graph import zoo
from tests.graph.exports import exported
from tests.graph.random_cuts import proven, random_half
from tests.graph.small import coupled, ints, is_exact, proto

IMAGE = "float[1,3,4,4] x"
RANDOM = np.random.default_rng(0)
TAIL = "g = GlobalAveragePool(a) f = Flatten(g) y = Gemm(f, u)"


def int8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def scales(*shape: int) -> np.ndarray:
    return RANDOM.uniform(0.005, 0.02, shape).astype(np.float32)


POINT = np.asarray(3, np.int8)


def test_weight_bias_scales_and_zero_points_are_cut_together() -> None:
    body = (
        "d = DequantizeLinear<axis = 0>(w, s, p) e = DequantizeLinear<axis = 0>(b, t) a = Conv(x, d, e) "
        "h = DequantizeLinear<axis = 1>(v, r, q) y = Conv(a, h)"
    )
    weights: dict[str, Any] = {
        "w": int8(4, 3, 1, 1), "s": scales(4), "p": int8(4), "b": np.arange(4, dtype=np.int32), "t": scales(4),
        "v": int8(2, 4, 1, 1), "r": scales(4), "q": int8(4),
    }  # fmt: skip
    model, channels, groups = coupled(IMAGE, body, **weights)
    assert {(piece.tensor, piece.axis, piece.role) for piece in groups["a"].slices} == {
        ("w", 0, "makes"), ("s", 0, "rides"), ("p", 0, "rides"), ("b", 0, "makes"), ("t", 0, "rides"),
        ("v", 1, "reads"), ("r", 0, "rides"), ("q", 0, "rides"),
    }  # fmt: skip
    assert plan(channels, {"a": (1, 3)})["q"] == {0: [1, 3]}
    assert is_exact(model, channels, {"a": (1, 3)})


def test_masked_weight_holds_its_zero_point_where_it_reads_a_removed_channel() -> None:
    body = "a = Conv(x, w) d = DequantizeLinear(v, s, p) y = Conv(a, d)"
    weights: dict[str, Any] = {"w": (4, 3, 1, 1), "v": int8(2, 4, 1, 1), "s": scales(), "p": POINT}
    model, channels, _ = coupled(IMAGE, body, **weights)
    tensors = {tensor.name: tensor for tensor in masked(model, channels, {"a": (0,)}).proto.graph.initializer}
    assert (numpy_helper.to_array(tensors["v"])[:, 1:] == POINT).all()
    assert is_exact(model, channels, {"a": (0,)})


@pytest.mark.parametrize(
    ("read", "weight", "group"),
    [
        ("y = ConvTranspose(a, d)", (4, 2, 2, 2), ""),
        ("y = Conv<group = 4>(a, d)", (4, 1, 3, 3), "locked"),
        ("b = Conv<group = 4>(a, d) y = Conv(b, z)", (8, 1, 3, 3), ""),
        ("b = Conv<group = 2>(a, d) y = Conv(b, z)", (8, 2, 1, 1), ""),
    ],
)
def test_every_kind_of_convolution_reads_quantised_weights(read, weight, group) -> None:
    body = f"a = Conv(x, w) d = DequantizeLinear(v, s, p) {read}"
    weights: dict[str, Any] = {"w": (4, 3, 1, 1), "v": int8(*weight), "s": scales(), "p": POINT, "z": (2, 8, 1, 1)}
    model, channels, groups = coupled(IMAGE, body, **weights)
    assert (groups["a"].locked_because is not None) == (group == "locked")
    if not group:
        assert is_exact(model, channels, random_half(channels))


def test_transposed_weight_is_transposed_as_integers_with_its_scales() -> None:
    body = "f = Gemm(x, w) d = DequantizeLinear<axis = 0>(v, s) t = Transpose<perm = [1, 0]>(d) y = MatMul(f, t)"
    model, channels, groups = coupled("float[2,3] x", body, w=(3, 6), v=int8(4, 6), s=scales(4))
    assert [node.op_type for node in model.proto.graph.node] == ["Gemm", "DequantizeLinear", "MatMul"]
    assert model.shapes["t"] == (6, 4)
    assert groups["f"].locked_because is None
    assert is_exact(model, channels, {"f": (0, 4)})


def test_reshaped_weight_is_reshaped_as_integers() -> None:
    body = "f = Gemm(x, w) d = DequantizeLinear<axis = 3>(v, s) t = Reshape(d, r) y = MatMul(f, t)"
    model, channels, groups = coupled("float[2,3] x", body, w=(3, 6), v=int8(1, 2, 3, 4), s=scales(4), r=ints(6, 4))
    assert [node.op_type for node in model.proto.graph.node] == ["Gemm", "DequantizeLinear", "MatMul"]
    assert groups["f"].locked_because is None
    assert is_exact(model, channels, {"f": (0, 4)})


def test_float_weight_that_is_quantised_in_the_graph_is_cut_before_it() -> None:
    body = (
        "k = QuantizeLinear<axis = 0>(w, s, p) d = DequantizeLinear<axis = 0>(k, s, p) a = Conv(x, d) "
        "i = QuantizeLinear(a, m, o) j = DequantizeLinear(i, m, o) y = Conv(j, v)"
    )
    weights: dict[str, Any] = {"w": (4, 3, 1, 1), "s": scales(4), "p": np.zeros(4, np.int8), "v": (2, 4, 1, 1)}
    model, channels, groups = coupled(IMAGE, body, **weights, m=np.asarray(0.1, np.float32), o=POINT)
    assert plan(channels, {"a": (1, 2)})["w"] == {0: [1, 2]}
    assert groups["a"].locked_because is None
    assert is_exact(model, channels, {"a": (1, 2)})


def test_two_readers_of_one_quantised_weight_are_cut_apart() -> None:
    body = "d = DequantizeLinear(w, s) a = Conv(x, d) b = Conv(x, d) c = Concat<axis = 1>(a, b) y = Conv(c, v)"
    model, channels, groups = coupled(IMAGE, body, w=int8(4, 3, 1, 1), s=scales(), v=(2, 8, 1, 1))
    assert {group.id for group in groups.values() if group.locked_because is None} == {"a", "b"}
    assert is_exact(model, channels, {"a": (1, 2), "b": (0, 3)})


def test_per_channel_scales_of_an_activation_ride_along() -> None:
    body = "a = Conv(x, w) q = QuantizeLinear<axis = 1>(a, s, p) d = DequantizeLinear<axis = 1>(q, s, p) y = Conv(d, v)"
    weights: dict[str, Any] = {"w": (4, 3, 1, 1), "s": 10 * scales(4), "p": np.zeros(4, np.int8), "v": (2, 4, 1, 1)}
    model, channels, _ = coupled(IMAGE, body, **weights)
    assert plan(channels, {"a": (1, 2)})["s"] == {0: [1, 2]}
    assert is_exact(model, channels, {"a": (1, 2)})


def test_quantised_constant_that_meets_channels_rides_along() -> None:
    body = "a = Conv(x, w) d = DequantizeLinear<axis = 1>(k, s) b = Mul(a, d) y = Conv(b, v)"
    weights: dict[str, Any] = {"w": (4, 3, 1, 1), "k": int8(1, 4, 1, 1), "s": scales(4), "v": (2, 4, 1, 1)}
    model, channels, groups = coupled(IMAGE, body, **weights)
    assert groups["a"].locked_because is None
    assert is_exact(model, channels, {"a": (1, 2)})


def test_scales_in_blocks_lock_the_axis_they_lie_on_and_no_other() -> None:
    body = "f = Gemm(x, w) d = DequantizeLinear<axis = 0, block_size = 2>(v, s) g = MatMul(f, d) y = MatMul(g, u)"
    weights: dict[str, Any] = {"w": (3, 4), "v": int8(4, 6), "s": scales(2, 6), "u": (6, 2)}
    model, channels, groups = coupled("float[2,3] x", body, opset=21, **weights)
    assert "one scale for a block of its indices" in (groups["f"].locked_because or "")
    assert is_exact(model, channels, {"g": (0, 3, 5)})


def test_weights_of_four_bits_are_cut_as_any_other() -> None:
    source = proto("float[2,3] x", "f = Gemm(x, w) d = DequantizeLinear<axis = 1>(v, s) y = MatMul(f, d)", opset=21,
                   w=(3, 4), s=scales(3))  # fmt: skip
    four = helper.make_tensor("v", onnx.TensorProto.INT4, (4, 3), RANDOM.integers(-8, 8, 12).tolist())
    source.graph.initializer.append(four)
    model = from_proto(source)
    channels = couple(model)
    (small,) = [t for t in cut(model, channels, {"f": (0, 1, 3)}).proto.graph.initializer if t.name == "v"]
    assert (small.data_type, list(small.dims)) == (onnx.TensorProto.INT4, [3, 3])
    assert is_exact(model, channels, {"f": (0, 1, 3)})


def test_scale_computed_from_an_activation_locks_the_weight_and_nothing_else() -> None:
    body = "m = ReduceMax<keepdims = 0>(x) d = DequantizeLinear(w, m) a = Conv(x, d) b = Conv(a, v) y = Conv(b, u)"
    model, channels, groups = coupled(IMAGE, body, w=int8(4, 3, 1, 1), v=(4, 4, 1, 1), u=(2, 4, 1, 1))
    assert {group.id for group in groups.values() if group.locked_because is None} == {"b"}
    assert is_exact(model, channels, {"b": (0, 2)})


def test_proof_sees_a_wrong_cut_behind_the_rounding() -> None:
    body = "a = Conv(x, w) q = QuantizeLinear(a, m, o) d = DequantizeLinear(q, m, o) y = Conv(d, v)"
    weights: dict[str, Any] = {"w": (4, 3, 1, 1), "v": (2, 4, 1, 1), "m": np.asarray(0.1, np.float32), "o": POINT}
    model, channels, _ = coupled(IMAGE, body, **weights)
    with pytest.raises(ProofFailed, match="differs from the masked original"):
        prove(cut(model, channels, {"a": (0, 1)}), masked(model, channels, {"a": (0, 2)}))


# Whole networks, as ONNX Runtime's own tool quantises them.


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self._feeds = iter([{name: image.numpy()} for image in zoo.example(3)[0].split(1)])

    def get_next(self):
        return next(self._feeds, None)


@cache
def quantised(family: str, form: str, per_channel: bool, activations: QuantType, narrow: bool) -> bytes:
    source = exported(family, "legacy_folded", free=False)
    logging.disable(logging.WARNING)  # the tool advises to run its own preprocessing first
    try:
        with TemporaryDirectory() as folder:
            before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            onnx.save(source, before)
            if form == "dynamic":
                quantize_dynamic(before, after, per_channel=per_channel, weight_type=QuantType.QUInt8)
            else:
                quantize_static(
                    before, after, Calibration(source.graph.input[0].name), quant_format=QuantFormat[form],
                    per_channel=per_channel, reduce_range=narrow, activation_type=activations,
                    weight_type=QuantType.QInt8,
                )  # fmt: skip
            return after.read_bytes()
    finally:
        logging.disable(logging.NOTSET)


STATIC = [
    ("resnet_basic", "QDQ", True, QuantType.QUInt8, False),
    ("resnet_basic", "QOperator", True, QuantType.QUInt8, False),
    ("mobilenet_v3", "QDQ", False, QuantType.QInt8, False),
    ("mobilenet_v3", "QOperator", False, QuantType.QUInt8, True),
    pytest.param("shufflenet", "QDQ", True, QuantType.QInt8, True, marks=pytest.mark.slow),
    pytest.param("densenet", "QDQ", False, QuantType.QUInt8, False, marks=pytest.mark.slow),
    ("densenet", "QOperator", True, QuantType.QUInt8, False),
]
SHARE = {"resnet_basic": 0.258, "mobilenet_v3": 0.308, "shufflenet": 0.328, "densenet": 0.259}


@pytest.mark.parametrize(("family", "form", "per_channel", "activations", "narrow"), STATIC)
def test_quantised_network_is_cut_as_far_as_the_float_one(family, form, per_channel, activations, narrow) -> None:
    model = from_proto(onnx.load_from_string(quantised(family, form, per_channel, activations, narrow)))
    channels = couple(model)
    assert {group.locked_because for group in channels.groups if group.locked_because} == {
        "they are the graph's output 'output'"
    }
    kept = random_half(channels)
    share = paper_cost(cut(model, channels, kept)).flops / paper_cost(model).flops
    assert share == pytest.approx(SHARE[family], abs=1e-3)
    proof = proven(model, channels, kept)
    assert proof.relative_error < 1e-5
    assert proof.quanta <= 1
    with pytest.raises(ProofFailed):
        prove(cut(model, channels, kept), masked(model, channels, random_half(channels, seed=1)))


@pytest.mark.parametrize("per_channel", [False, True])
def test_range_that_is_taken_at_run_time_reads_all_channels(per_channel) -> None:
    """Convolutions are cut; so are matrix products, whose scales for each channel meet the one of the activation."""
    model = from_proto(onnx.load_from_string(quantised("vgg", "dynamic", per_channel, QuantType.QUInt8, False)))
    channels = couple(model)
    assert {group.locked_because for group in channels.groups if group.locked_because} == {
        "they are the graph's output 'output'"
    }
    assert all(group.exact for group in channels.groups)
    kept = random_half(channels)
    assert paper_cost(cut(model, channels, kept)).flops / paper_cost(model).flops == pytest.approx(0.274, abs=1e-3)
    assert proven(model, channels, kept).relative_error < 1e-5


def test_quantised_filters_are_scored_as_the_numbers_they_stand_for() -> None:
    body = "d = DequantizeLinear<axis = 0>(w, s, p) a = Conv(x, d) y = Conv(a, v)"
    weights: dict[str, Any] = {
        "w": int8(4, 3, 1, 1), "s": np.asarray([1, 2, 3, 4], np.float32), "p": int8(4), "v": (2, 4, 1, 1)
    }  # fmt: skip
    model, _, groups = coupled(IMAGE, body, **weights)
    real = (weights["w"].reshape(4, 3).astype(float) - weights["p"][:, None]) * weights["s"][:, None]
    assert np.allclose(score("l1", model.proto, [groups["a"]])["a"], np.abs(real).sum(1))
