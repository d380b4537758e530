"""Random graphs from the supported operators, cut at random: the cut equals the masked original.

`CUTBACK_EXAMPLES=2000` runs more of them.
"""

import os
from collections.abc import Callable, Mapping
from typing import get_args

import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.flops import parameters
from pipeline.graph.labels import Blocks
from pipeline.graph.model import from_proto
from tests.graph.quantised_steps import QUANTISED
from tests.graph.random_cuts import proven, random_half, random_vanishing
from tests.graph.sketch import Sketch, Tensor

EXAMPLES = int(os.environ.get("CUTBACK_EXAMPLES", "200"))
MAX_CHANNELS = 48
WIDTHS = (4, 6, 8, 12)
Draw = Callable[[st.SearchStrategy], object]


def _divisors(draw, number: int) -> int:
    divisor: int = draw(st.sampled_from([d for d in range(1, number + 1) if number % d == 0]))
    return divisor


def conv(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.conv(x, draw(st.sampled_from(WIDTHS)), draw(st.sampled_from([1, 3])), bias=draw(st.booleans()))


def grouped(s: Sketch, x: Tensor, draw) -> Tensor:
    groups = _divisors(draw, x.channels)
    return s.conv(x, groups * draw(st.sampled_from([1, 2, 3])), 3, groups)


def depthwise(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.conv(x, x.channels, 3, x.channels)


def conv_transpose(s: Sketch, x: Tensor, draw) -> Tensor:
    groups = _divisors(draw, x.channels)
    return s.conv_transpose(x, groups * draw(st.sampled_from([1, 2])), groups)


def act(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.act(x, draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Softplus", "Abs"])))


def scaled(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.scaled(x, draw(st.sampled_from(["Mul", "Add", "Sub", "Max"])))


def residual(s: Sketch, x: Tensor, draw) -> Tensor:
    """A branch that may vanish, with all that may lie inside it and between it and the Add."""
    inner = s.conv(x, draw(st.sampled_from(WIDTHS)), 3)
    inside = draw(
        st.sampled_from(["nothing", "gate", "gate in space", "another beside it", "the input beside it", "a branch"])
    )
    if inside == "gate":
        inner = gated(s, inner, draw)
    elif inside == "gate in space":
        inner = space_gated(s, inner, draw)
    elif inside == "the input beside it":
        inner = s.concat(inner, x)
    elif inside == "another beside it":
        inner = s.concat(inner, s.conv(x, 4))
    elif inside == "a branch":
        inner = s.pair(inner, s.conv(s.act(s.conv(inner, 4), "Relu"), inner.channels), "Add")
    body = s.conv(s.act(inner, "Relu"), x.channels, bias=draw(st.booleans()))
    for after in draw(st.lists(st.sampled_from(["batch_norm", "scaled", "act", "slope"]), max_size=2)):
        body = STEPS[after](s, body, draw)
    return s.pair(x, body, "Add")


def gated(s: Sketch, x: Tensor, draw) -> Tensor:
    inner = s.act(s.conv(s.pooled(x), 4), "Relu")
    return s.pair(x, s.act(s.conv(inner, x.channels), "Sigmoid"), "Mul")


def space_gated(s: Sketch, x: Tensor, draw) -> Tensor:
    one = s.act(s.conv(x, 1), "Sigmoid")
    return s.pair(x, s.expand(one, *x.shape) if draw(st.booleans()) else one, "Mul")


def summed_gate(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.pair(x, s.act(s.reduced(x, "ReduceSum", [1]), "Sigmoid"), "Mul")


def two_ways(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.concat(s.conv(x, draw(st.sampled_from(WIDTHS))), s.conv(x, draw(st.sampled_from(WIDTHS)), 3))


def dense_concat(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.concat(x, s.conv(x, 4, 3))


def negated_concat(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.concat(x, s.act(x, "Neg"))


def split_halves(s: Sketch, x: Tensor, draw) -> Tensor:
    first = draw(st.integers(1, x.channels - 1))
    left, right = s.split(x, first, x.channels - first)
    return s.concat(right, s.conv(left, 4))


def glu(s: Sketch, x: Tensor, draw) -> Tensor:
    left, right = s.split(s.conv(x, 12), 6, 6)
    return s.pair(left, s.act(right, "Sigmoid"), "Mul")


def sliced(s: Sketch, x: Tensor, draw) -> Tensor:
    start = draw(st.integers(0, x.channels - 1))
    return s.slice(x, 1, start, draw(st.integers(start + 1, x.channels)))


def cropped(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.slice(x, 2, 0, max(1, x.shape[2] // 2))


def padded_shortcut(s: Sketch, x: Tensor, draw) -> Tensor:
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return s.pair(s.pad(x, before, after), s.conv(x, x.channels + before + after), "Add")


def taken(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.take(x, draw(st.lists(st.integers(0, x.channels - 1), min_size=1, max_size=12)))


def shuffled(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.shuffle(x, _divisors(draw, x.channels))


def picked_block(s: Sketch, x: Tensor, draw) -> Tensor:
    blocks = _divisors(draw, x.channels)
    return s.block(x, blocks, draw(st.integers(-blocks, blocks - 1)))


def dense(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.dense(x, draw(st.sampled_from(WIDTHS)))


def pixel_shuffle(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.depth_to_space(s.conv(x, draw(st.sampled_from([4, 8, 12]))), draw(st.sampled_from(["DCR", "CRD"])))


def space_to_depth(s: Sketch, x: Tensor, draw) -> Tensor:
    return x if x.shape[2] % 2 or x.shape[3] % 2 else s.space_to_depth(x)


def pooled(s: Sketch, x: Tensor, draw) -> Tensor:
    return x if min(x.shape[2:]) < 2 else s.pool(x, draw(st.sampled_from(["MaxPool", "AveragePool"])))


def upsampled(s: Sketch, x: Tensor, draw) -> Tensor:
    return x if x.shape[2] > 8 else s.upsample(x)


def space_to_channels(s: Sketch, x: Tensor, draw) -> Tensor:
    _, c, h, w = x.shape
    return s.reshape(x, 1, c * h, 1, w) if c * h <= MAX_CHANNELS else x


def softmax(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.op("Softmax", [x.name], x.shape, axis=draw(st.sampled_from([1, 2, 3])))


def attention(s: Sketch, x: Tensor, draw) -> Tensor:
    if x.shape[2] * x.shape[3] > 64:
        return x
    heads, inner = draw(st.sampled_from([(1, 4), (2, 4), (4, 2), (3, 3)]))
    made = s.attention(x, heads, inner, draw(st.booleans()))
    return s.pair(x, made, "Add") if draw(st.booleans()) else made


def group_norm(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.group_norm(x, _divisors(draw, x.channels))


def normalised(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.op("LpNormalization", [x.name], x.shape, axis=1, p=draw(st.sampled_from([1, 2])))


def response_norm(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.op("LRN", [x.name], x.shape, size=draw(st.sampled_from([3, 5])))


def statistics_gate(s: Sketch, x: Tensor, draw) -> Tensor:
    kind = draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceLogSumExp"]))
    return s.pair(x, s.act(s.reduced(x, kind, [1]), "Sigmoid"), "Mul")


def conv_of_another_rank(s: Sketch, x: Tensor, draw) -> Tensor:
    return s.conv_of_rank(x, draw(st.sampled_from(WIDTHS)), draw(st.sampled_from([1, 3])))


STEPS: Mapping[str, Callable[[Sketch, Tensor, object], Tensor]] = {
    step.__name__: step
    for step in (
        conv, grouped, depthwise, conv_transpose, act, scaled, residual, gated, space_gated, summed_gate, two_ways,
        dense_concat, negated_concat, split_halves, glu, sliced, cropped, padded_shortcut, taken, shuffled,
        picked_block, dense, pixel_shuffle, space_to_depth, pooled, upsampled, space_to_channels, softmax,
        attention, group_norm, normalised, response_norm, statistics_gate, conv_of_another_rank,
    )
} | {
    "batch_norm": lambda s, x, draw: s.batch_norm(x), "slope": lambda s, x, draw: s.slope(x),
    "layer_norm": lambda s, x, draw: s.layer_norm(x), "beside_a_token": lambda s, x, draw: s.beside_a_token(x),
    **QUANTISED,
}  # fmt: skip


@st.composite
def graphs(draw) -> onnx.ModelProto:
    sketch = Sketch(draw(st.sampled_from([11, 13, 18, 20, 21])), draw(st.integers(0, 2**16)))
    tensors = [sketch.conv(sketch.input(1, 3, 6, 6), draw(st.sampled_from(WIDTHS)), 3)]
    read: set[str] = set()
    for name in draw(st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=9)):
        x = draw(st.sampled_from(tensors[-3:]))
        if 2 <= x.channels <= MAX_CHANNELS and max(x.shape[2:]) <= 24:
            made = STEPS[name](sketch, x, draw)
            if made != x:
                read.add(x.name)
                tensors.append(made)
    same = [(a, b) for a in tensors for b in tensors if a != b and a.shape == b.shape]
    if same and draw(st.booleans()):
        a, b = draw(st.sampled_from(same))
        tensors.append(sketch.pair(a, b, draw(st.sampled_from(["Add", "Mul"]))))
        read |= {a.name, b.name}
    leaves = [tensor for tensor in tensors if tensor.name not in read]
    return sketch.finish(sketch.head(leaves, 3))


@given(graphs(), st.integers(0, 2**16), st.sampled_from(get_args(Blocks)))
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_cut_of_any_graph_equals_the_masked_original(proto: onnx.ModelProto, seed: int, blocks: Blocks) -> None:
    model = from_proto(proto)
    channels = couple(model, blocks=blocks)
    for kept in (random_half(channels, seed), random_vanishing(channels, seed)):
        proven(model, channels, kept)
        small = cut(model, channels, kept)
        assert parameters(small.proto) <= parameters(model.proto)
        assert {value.name for value in small.proto.graph.output} == {value.name for value in proto.graph.output}
