"""One small call, or some, of every operator that has a rule: for every version of its schema, and for gradients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pipeline.autograd.node import Rule
from pipeline.autograd.ops import DOMAINS

Array = NDArray[Any]
NEVER = 10**6


@dataclass(frozen=True)
class Call:
    """One node: inputs in order (None: left out), attributes, and the versions of the schema it is written for."""

    inputs: Sequence[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    since: int = 0
    until: int = NEVER
    outputs: int = 1
    fixed: frozenset[int] = frozenset()  # float inputs that are no variables of the function


def f(*shape: int, seed: int = 0) -> Array:
    """Floats apart from each other and from zero, so that no maximum is a tie and no kink is near."""
    size = int(np.prod(shape))
    steps = np.random.default_rng(seed).permutation(size) - size // 2 + 0.5
    return (steps * (2.4 / max(size, 4))).astype(np.float32).reshape(shape)


def p(*shape: int, seed: int = 0) -> Array:
    """Floats above one half."""
    return np.abs(f(*shape, seed=seed)) + np.float32(0.5)


def small(*shape: int, seed: int = 0) -> Array:
    """Floats between -0.9 and 0.9."""
    return (f(*shape, seed=seed) * 0.7).astype(np.float32)


def i(*values: Any) -> Array:
    return np.array(values, np.int64)


def n(value: int) -> Array:
    return np.array(value, np.int64)


def b(*values: Any) -> Array:
    return np.array(values, bool)


def s(*values: Any) -> Array:
    return np.array(values, np.float32)


def q(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> Array:
    low, high = (0, 255) if dtype == np.uint8 else (-100, 100)
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def call(*inputs: Any, **attributes: Any) -> Call:
    return Call(inputs, attributes)


def between(since: int, until: int, made: Call) -> Call:
    return Call(made.inputs, made.attributes, since, until, made.outputs, made.fixed)


def giving(outputs: int, made: Call) -> Call:
    return Call(made.inputs, made.attributes, made.since, made.until, outputs, made.fixed)


def fixing(indices: set[int], made: Call) -> Call:
    return Call(made.inputs, made.attributes, made.since, made.until, made.outputs, frozenset(indices))


def moved(at: int, *inputs: Any, name: str = "axes", value: Sequence[int], **attributes: Any) -> list[Call]:
    """An attribute that became the next input at opset `at`."""
    return [
        between(0, at - 1, call(*inputs, **{name: list(value)}, **attributes)),
        between(at, NEVER, call(*inputs, i(*value), **attributes)),
    ]


def tensor(value: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value))


X = (2, 3, 4, 5)
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def recurrent(op: str, **attributes: Any) -> Call:
    """Three steps, two sequences of which the second ends after two, two entries in and two hidden."""
    sides, gates = (2 if attributes.get("direction") == "bidirectional" else 1), GATES[op]
    weights = [f(sides, gates * 2, 2, seed=1), f(sides, gates * 2, 2, seed=2), f(sides, gates * 4, seed=3)]
    states = [f(sides, 2, 2, seed=4)] + ([f(sides, 2, 2, seed=5), f(sides, 6, seed=6)] if op == "LSTM" else [])
    lengths = np.array([3, 2], np.int32)
    made = call(f(3, 2, 2), *weights, lengths, *states, hidden_size=2, **attributes)
    return giving(3 if op == "LSTM" else 2, made)


UNARY = {
    "Abs": f, "Acos": small, "Asin": small, "Asinh": f, "Atan": f, "Atanh": small, "Ceil": f, "Cos": f, "Cosh": f,
    "Elu": f, "Erf": f, "Exp": f, "Floor": f, "Gelu": f, "HardSigmoid": f, "HardSwish": f, "LeakyRelu": f, "Log": p,
    "Mish": f, "Neg": f, "Reciprocal": p, "Relu": f, "Round": f, "Selu": f, "Sigmoid": f, "Sign": f, "Sin": f,
    "Sinh": f, "Softplus": f, "Softsign": f, "Sqrt": p, "Swish": f, "Tan": small, "Tanh": f, "ThresholdedRelu": f,
    "Celu": f, "Shrink": f, "Identity": f, "GlobalAveragePool": f, "GlobalMaxPool": f, "GlobalLpPool": p, "LRN": None,
    "Size": f, "Shape": f, "NonZero": f,
}  # fmt: skip
COMPARED = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
SUMMED = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
          "ReduceSumSquare")  # fmt: skip

CALLS: dict[str, list[Call]] = {
    **{op: [call(make(2, 3, 4))] for op, make in UNARY.items() if make},
    **{op: [call(f(2, 3, 4), f(3, 1, seed=1))] for op in ("Add", "Mul", "Sub", *COMPARED)},
    **{op: [call(b(True, False, True), b(True, True, False))] for op in ("And", "Or", "Xor")},
    **{op: moved(18, f(2, 3, 4), value=[-2], keepdims=0) for op in SUMMED},
    **{op: [call(np.array([5, 9], np.int32), np.array([3, 12], np.int32))]
       for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    **{op: [call(n(6))] for op in ("BlackmanWindow", "HammingWindow", "HannWindow")},
    **{op: [call(f(2, 3, 4), axis=1), call(f(2, 3, 4), axis=2)] for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{op: [call(f(2, 3, 4), axis=1, keepdims=0)] for op in ("ArgMax", "ArgMin")},
    **{op: [recurrent(op, direction=side) for side in ("forward", "reverse", "bidirectional")] for op in GATES},
    "Acosh": [call(p(2, 3) + 1)],
    "AffineGrid": [call(f(2, 2, 3), i(2, 3, 3, 4)), call(f(2, 2, 3), i(2, 3, 3, 4), align_corners=1)],
    "Attention": [
        between(0, 24, call(f(2, 4, 8), f(2, 5, 8, seed=1), f(2, 5, 8, seed=2), q_num_heads=2, kv_num_heads=2)),
        call(f(2, 2, 4, 4), f(2, 2, 4, 4, seed=1), f(2, 2, 4, 3, seed=2), f(4, 4, seed=3), is_causal=1),
    ],
    "AveragePool": [call(f(*X), kernel_shape=[2, 3], strides=[1, 2], pads=[0, 1, 1, 1])],
    "BatchNormalization": [call(f(*X), p(3), f(3, seed=1), f(3, seed=2), p(3, seed=3), epsilon=1e-3)],
    "BitCast": [call(q(2, 3, dtype=np.int32), to=TensorProto.FLOAT)],
    "BitShift": [call(q(4), np.array([1, 2, 0, 3], np.uint8), direction="RIGHT")],
    "BitwiseNot": [call(np.array([5, 9], np.int32))],
    "Cast": [call(f(2, 3), to=TensorProto.DOUBLE), call(f(2, 3) * 4, to=TensorProto.INT64)],
    "CastLike": [fixing({1}, call(f(2, 3), np.zeros(1)))],
    "CausalConvWithState": [giving(2, call(f(2, 3, 5), f(3, 1, 3), f(3), f(2, 3, 2, seed=1), activation="silu"))],
    "CenterCropPad": [call(f(5, 4), i(3, 7))],
    "Clip": [
        between(0, 10, call(f(2, 3), min=-0.5, max=0.5)),
        between(11, NEVER, call(f(2, 3), np.float32(-0.5), np.float32(0.5))),
    ],
    "Col2Im": [call(f(1, 8, 9), i(4, 5), i(2, 2), strides=[1, 2], pads=[0, 0, 0, 1])],
    "Compress": [call(f(3, 4), b(True, False, True), axis=0), call(f(3, 4), b(False, True))],
    "Concat": [call(f(2, 3), f(2, 2, seed=1), axis=1)],
    "ConstantOfShape": [call(i(2, 3), value=tensor(s(2.5)))],
    "Conv": [call(f(*X), f(4, 3, 3, 3, seed=1), f(4, seed=2), pads=[0, 1, 1, 1], strides=[2, 1])],
    "ConvInteger": [call(q(1, 2, 4, 4), q(3, 2, 2, 2, seed=1), np.uint8(3), np.uint8(120))],
    "ConvTranspose": [call(f(*X), f(3, 2, 3, 3, seed=1), f(2, seed=2), strides=[2, 1], pads=[1, 0, 0, 1])],
    "CumProd": [call(p(2, 4), n(1), exclusive=1), call(p(2, 4), n(1), reverse=1)],
    "CumSum": [call(f(2, 4), n(1), exclusive=1), call(f(2, 4), n(-1), reverse=1)],
    "DFT": [
        between(0, 19, call(f(2, 5, 3, 1), None, axis=1)),
        between(20, NEVER, call(f(2, 5, 3, 1), None, n(1))),
        between(20, NEVER, call(f(2, 6, 1), None, n(1), onesided=1)),
    ],
    "DeformConv": [
        call(f(1, 4, 3, 4), f(2, 2, 2, 2, seed=1), small(1, 16, 2, 3, seed=2), f(2, seed=3), p(1, 8, 2, 3, seed=4),
             group=2, offset_group=2),
    ],
    "DepthToSpace": [call(f(1, 8, 2, 3), blocksize=2),
                     between(11, NEVER, call(f(1, 8, 2, 3), blocksize=2, mode="CRD"))],
    "DequantizeLinear": [call(q(2, 3), np.float32(0.25), np.uint8(7)),
                         between(13, NEVER, call(q(2, 3, dtype=np.int8), p(3), q(3, dtype=np.int8), axis=1))],
    "Det": [call(f(2, 3, 3))],
    "Div": [call(f(2, 3, 4), p(3, 1, seed=1))],
    "Dropout": [call(f(2, 3))],
    "DynamicQuantizeLinear": [giving(3, call(f(3, 4)))],
    "Einsum": [call(f(2, 3, 4), f(2, 4, 5, seed=1), equation="bij,bjk->bik"), call(f(3, 3), equation="ii->i")],
    "Equal": [between(0, 10, call(i(1, 2, 3), i(3, 2, 1))), between(11, NEVER, call(s(1, 2, 3), s([3], [2], [1])))],
    "Expand": [call(f(3, 1), i(2, 1, 4))],
    "EyeLike": [call(f(3, 4), k=1)],
    "Flatten": [call(f(2, 3, 4), axis=2)],
    "Gather": [call(f(3, 4), i(2, 0, 0), axis=1), call(f(4), n(-2))],
    "GatherElements": [call(f(3, 4), i([2, 0], [1, 3]), axis=1)],
    "GatherND": [call(f(3, 4, 2), i([0, 1], [2, 3])),
                 between(12, NEVER, call(f(2, 3, 4), i([[1]], [[2]]), batch_dims=1))],
    "Gemm": [call(f(3, 4), f(5, 4, seed=1), f(5, seed=2), transB=1, alpha=0.5, beta=2.0)],
    "GridSample": [
        between(0, 19, call(f(2, 3, 4, 5), small(2, 3, 3, 2, seed=1), mode="bilinear", padding_mode="border")),
        between(20, NEVER, call(f(2, 3, 4, 5), small(2, 3, 3, 2, seed=1), mode="linear", align_corners=1)),
    ],
    "GroupNormalization": [
        between(0, 20, call(f(2, 4, 3), p(2), f(2, seed=1), num_groups=2)),
        between(21, NEVER, call(f(2, 4, 3), p(4), f(4, seed=1), num_groups=2)),
    ],
    "InstanceNormalization": [call(f(*X), p(3), f(3, seed=1))],
    "IsInf": [call(s(1, np.inf, -np.inf))],
    "IsNaN": [call(s(1, np.nan))],
    "LRN": [call(f(2, 6, 2, 2), size=3, alpha=0.3)],
    "LayerNormalization": [call(f(2, 3, 4), p(4), f(4, seed=1))],
    "LinearAttention": [
        giving(2, call(f(1, 3, 8), f(1, 3, 4, seed=1), f(1, 3, 6, seed=2), None, -p(1, 3, 2), p(1, 3, 2),
                       q_num_heads=4, kv_num_heads=2)),
    ],
    "LpNormalization": [call(f(2, 3, 4), axis=1, p=2), call(p(2, 3, 4), axis=-1, p=1)],
    "LpPool": [call(f(*X), kernel_shape=[2, 2], p=2)],
    "MatMul": [call(f(2, 3, 4), f(4, 5, seed=1))],
    "MatMulInteger": [call(q(2, 3), q(3, 4, seed=1), np.uint8(3), np.uint8(120))],
    "Max": [between(0, 7, call(f(2, 3), f(2, 3, seed=4) * 1.1)),
            between(8, NEVER, call(f(2, 3), f(3, seed=4) * 1.1, f(2, 1, seed=2) * 1.3))],
    "MaxPool": [call(f(*X), kernel_shape=[2, 3], strides=[1, 2], pads=[0, 1, 1, 1]),
                between(8, NEVER, giving(2, call(f(*X), kernel_shape=[2, 2])))],
    "MaxRoiPool": [fixing({1}, call(f(2, 2, 6, 6), s([0, 0, 0, 3, 4], [1, 1, 2, 5, 5]), pooled_shape=[2, 2]))],
    "MaxUnpool": [call(f(1, 1, 2, 2), i([[[[5, 7], [13, 15]]]])[0], kernel_shape=[2, 2], strides=[2, 2])],
    "Mean": [call(f(2, 3), f(2, 3, seed=1))],
    "MeanVarianceNormalization": [call(f(*X))],
    "Min": [between(0, 7, call(f(2, 3), f(2, 3, seed=4) * 1.1)),
            between(8, NEVER, call(f(2, 3), f(3, seed=4) * 1.1, f(2, 1, seed=2) * 1.3))],
    "Mod": [call(i(-7, 7, 5), i(3, -3, 2)), call(f(6), p(6, seed=1), fmod=1)],
    "NonMaxSuppression": [call(s([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 3, 1, 4]]),
                               s([[0.9, 0.7, 0.8]]), i(3), s(0.5), s(0))],
    "Not": [call(b(True, False))],
    "OneHot": [call(i(1, -1, 2), n(4), s(0.5, 3))],
    "PRelu": [call(f(2, 3, 4), p(3, 1))],
    "Pad": [
        between(0, 10, call(f(2, 3), pads=[0, 1, 1, 0], value=1.5)),
        between(11, NEVER, call(f(2, 3), i(0, 1, 1, 0), np.float32(1.5))),
        between(11, NEVER, call(f(3, 4), i(1, 2, 2, 0), mode="reflect")),
        between(11, NEVER, call(f(3, 4), i(1, 2, 2, 0), mode="edge")),
        between(19, NEVER, call(f(3, 4), i(1, 5, 2, 0), mode="wrap")),
    ],
    "Pow": [call(p(2, 3), f(3, seed=1))],
    "QLinearConv": [
        call(q(1, 2, 4, 4), np.float32(0.1), np.uint8(100), q(3, 2, 2, 2, seed=1), np.float32(0.05), np.uint8(130),
             np.float32(0.4), np.uint8(90)),
    ],
    "QLinearMatMul": [
        call(q(2, 3), np.float32(0.1), np.uint8(100), q(3, 4, seed=1), np.float32(0.05), np.uint8(130),
             np.float32(0.4), np.uint8(90)),
    ],
    "QuantizeLinear": [call(f(3, 4) * 9, np.float32(0.1), np.uint8(128)),
                       between(13, NEVER, call(f(3, 4), p(4), q(4, dtype=np.int8), axis=1))],
    "RMSNormalization": [call(f(2, 3, 4), p(4))],
    "Range": [call(n(1), n(9), n(3))],
    "ReduceLogSum": moved(18, p(2, 3, 4), value=[1], keepdims=1),
    "ReduceSum": moved(13, f(2, 3, 4), value=[1], keepdims=1),
    "Reshape": [call(f(2, 3, 4), i(0, -1))],
    "Resize": [
        between(0, 10, call(f(1, 2, 3, 4), s(1, 1, 2, 1.5), mode="linear")),
        between(11, NEVER, call(f(1, 2, 3, 4), s(), s(1, 1, 2, 1.5), mode="linear")),
        between(11, NEVER, call(f(1, 2, 4, 4), s(), s(), i(1, 2, 7, 3), mode="cubic")),
        between(11, NEVER, call(f(1, 2, 3, 4), s(), s(1, 1, 2, 3), mode="nearest")),
        between(18, NEVER, call(f(1, 1, 8, 8), None, s(1, 1, 0.5, 0.5), mode="linear", antialias=1)),
    ],
    "ReverseSequence": [call(f(4, 3), i(4, 1, 2), batch_axis=1, time_axis=0)],
    "RoiAlign": [
        fixing({1}, call(f(2, 2, 6, 6), s([0.5, 0.7, 4.2, 5], [1, 1, 3, 4]), i(0, 1),
                         output_height=2, output_width=3, sampling_ratio=2)),
        fixing({1}, call(f(2, 2, 6, 6), s([0.5, 0.7, 4.2, 5], [1, 1, 3, 4]), i(1, 0), output_height=2, output_width=2)),
    ],
    "RotaryEmbedding": [call(f(2, 2, 3, 4), f(5, 2, seed=1), f(5, 2, seed=2), i([0, 1, 2], [2, 3, 4]))],
    "STFT": [call(f(1, 16, 1), n(4), p(8), None, onesided=1)],
    "Scatter": [call(f(3, 4), i([2, 0], [1, 3]), f(2, 2, seed=1), axis=1)],
    "ScatterElements": [call(f(3, 4), i([2, 0], [1, 3]), f(2, 2, seed=1), axis=1),
                        between(18, NEVER, call(f(3, 4), i([2, 2], [1, 3]), f(2, 2, seed=1), axis=1, reduction="add"))],
    "ScatterND": [call(f(3, 4), i([2, 0], [1, 3]), f(2, seed=1)),
                  between(16, NEVER, call(f(3, 4), i([1], [1]), f(2, 4, seed=1), reduction="add"))],
    "Slice": [
        between(0, 9, call(f(3, 5), starts=[0, 1], ends=[2, -1], axes=[0, 1])),
        between(10, NEVER, call(f(3, 5), i(-1, 1), i(-9, 5), i(0, 1), i(-1, 2))),
    ],
    "SpaceToDepth": [call(f(1, 2, 4, 6), blocksize=2)],
    "Split": [giving(2, made) for made in moved(13, f(2, 5), name="split", value=[2, 3], axis=1)]
             + [between(18, NEVER, giving(2, call(f(2, 5), axis=1, num_outputs=2)))],
    "Squeeze": moved(13, f(2, 1, 3), value=[1]),
    "Sum": [between(0, 7, call(f(2, 3), f(2, 3, seed=1))), between(8, NEVER, call(f(2, 3), f(3, seed=1)))],
    "SwiGLU": [call(f(2, 3), f(2, 3, seed=1), alpha=1.5)],
    "TensorScatter": [call(f(2, 5, 3), f(2, 2, 3, seed=1), i(1, 3), axis=1),
                      call(f(2, 5, 3), f(2, 2, 3, seed=1), i(4, 3), axis=1, mode="circular")],
    "Tile": [call(f(2, 3), i(2, 2))],
    "TopK": [
        between(0, 9, giving(2, call(f(3, 5), k=2, axis=1))),
        between(10, NEVER, giving(2, call(f(3, 5), i(2), axis=0))),
        between(11, NEVER, giving(2, call(f(3, 5), i(2), axis=1, largest=0))),
    ],
    "Transpose": [call(f(2, 3, 4), perm=[2, 0, 1])],
    "Trilu": [call(f(3, 4), n(1)), call(f(3, 4), upper=0)],
    "Unique": [
        giving(4, fixing({0}, call(s(2, 1, 1, 3, 2)))),
        giving(4, call(s(2, 1, 5, 3, 4), sorted=0)),
        # the reference evaluator, which newer versions meet, leaves columns twice
        between(0, 27, giving(4, fixing({0}, call(s([2, 1, 2], [0, 1, 0]), axis=1, sorted=0)))),
    ],
    "Unsqueeze": moved(13, f(2, 3), value=[0, 2]),
    "Upsample": [
        between(0, 8, call(f(1, 2, 3, 4), scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")),
        between(9, NEVER, call(f(1, 2, 3, 4), s(1, 1, 2, 2), mode="linear")),
    ],
    "Where": [call(b([True, False, True]), f(2, 3), f(3, seed=1))],
}  # fmt: skip

CONTRIB_CALLS: dict[str, list[Call]] = {
    "BiasGelu": [call(f(2, 3), f(3, seed=1))],
    "FastGelu": [call(f(2, 3), f(3, seed=1))],
    "FusedConv": [call(f(*X), f(4, 3, 3, 3, seed=1), f(4, seed=2), p(2, 4, 2, 3), activation="Relu"),
                  call(f(*X), f(4, 3, 3, 3, seed=1), f(4, seed=2), activation="LeakyRelu", activation_params=[0.2])],
    "FusedGemm": [call(f(3, 4), f(4, 5, seed=1), f(5, seed=2), activation="LeakyRelu", activation_alpha=0.3)],
    "FusedMatMul": [call(f(2, 4, 3), f(2, 4, 5, seed=1), transA=1, alpha=0.5)],
    "Gelu": [call(f(2, 3))],
    "MultiHeadAttention": [call(f(2, 3, 8), f(2, 4, 8, seed=1), f(2, 4, 8, seed=2), f(24, seed=3), num_heads=2)],
    "QuickGelu": [call(f(2, 3), alpha=1.3)],
    "SkipLayerNormalization": [call(f(2, 3, 4), f(2, 3, 4, seed=1), p(4), f(4, seed=2), f(4, seed=3), epsilon=1e-3)],
    "SkipSimplifiedLayerNormalization": [call(f(2, 3, 4), f(2, 3, 4, seed=1), p(4), f(4, seed=3), epsilon=1e-3)],
}  # fmt: skip
TABLES: Mapping[str, Mapping[str, list[Call]]] = {"": CALLS, "com.microsoft": CONTRIB_CALLS}


def feeds(domain: str, op: str, made: Call) -> dict[str, Array]:
    """The inputs that vary, by name; shapes, axes and the like are initialisers instead."""
    rule: Rule = DOMAINS[domain][op]
    given = enumerate(made.inputs)
    return {f"x{at}": np.asarray(array) for at, array in given if array is not None and at not in rule.sizes}


def graph_of(domain: str, op: str, made: Call, opset: int) -> onnx.ModelProto:
    """The call as a model of that opset, with outputs that say nothing of themselves."""
    variable = feeds(domain, op, made)
    names = ["" if array is None else f"x{at}" for at, array in enumerate(made.inputs)]
    outputs = [f"y{at}" for at in range(made.outputs)]
    node = helper.make_node(op, names, outputs, name=op, domain=domain, **made.attributes)
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in variable.items()}
    fixed = [
        (f"x{at}", array) for at, array in enumerate(made.inputs) if array is not None and f"x{at}" not in variable
    ]
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in variable.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in fixed],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10)
