"""Norms over channels: exact where whole blocks go, else proven against norms that leave the removed channels out."""

from typing import Any

import numpy as np
import pytest

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.model import from_proto
from tests.graph.random_cuts import proven, random_half
from tests.graph.small import coupled, ints, is_exact, proto

IMAGE = "float[1,3,4,4] x"
TOKENS = "float[1,6,5] x"

# What stands between two layers of eight channels, its own weights, and the operator set.
OVER_CHANNELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "LayerNormalization": ("n = LayerNormalization(a, s, b)", {"s": (8,), "b": (8,)}, 18),
    "layer norm in pieces": (
        """m = ReduceMean<axes = [2]>(a) d = Sub(a, m) p = Pow(d, two) q = ReduceMean<axes = [2]>(p) e = Add(q, eps)
        r = Sqrt(e) f = Div(d, r) g = Mul(f, s) n = Add(g, b)""",
        {"two": np.asarray(2, np.float32), "eps": np.asarray(1e-5, np.float32), "s": (8,), "b": (8,)}, 13,
    ),
    "Softmax": ("n = Softmax<axis = 2>(a)", {}, 13),
    "Softmax before opset 13": ("n = Softmax<axis = 2>(a)", {}, 11),
    "LogSoftmax": ("n = LogSoftmax<axis = 2>(a)", {}, 18),
    "maximum of the channels": ("m = ReduceMax<axes = [2]>(a) n = Sub(a, m)", {}, 13),
}  # fmt: skip


@pytest.mark.parametrize("case", OVER_CHANNELS)
def test_cut_equals_the_original_whose_statistics_leave_the_removed_channels_out(case) -> None:
    between, weights, opset = OVER_CHANNELS[case]
    body = f"a = MatMul(x, w) {between} y = MatMul(n, v)"
    model, channels, groups = coupled(TOKENS, body, opset=opset, w=(5, 8), v=(8, 2), **weights)
    assert not groups["a"].exact
    assert {read.statistics for read in groups["a"].reads} == {True, False}
    assert is_exact(model, channels, {"a": (0, 3, 4, 7)})


def test_l2_normalised_channels_are_exact() -> None:
    body = "a = MatMul(x, w) n = LpNormalization<axis = 2>(a) y = MatMul(n, v)"
    model, channels, groups = coupled(TOKENS, body, w=(5, 8), v=(8, 2))
    assert groups["a"].exact
    assert is_exact(model, channels, {"a": (0, 3)})


def test_response_norm_sees_the_neighbours_that_are_left() -> None:
    body = "a = Conv(x, w) n = LRN<size = 3>(a) y = Conv(n, v)"
    model, channels, groups = coupled(IMAGE, body, w=(8, 3, 1, 1), v=(2, 8, 1, 1))
    assert not groups["a"].exact
    assert is_exact(model, channels, {"a": (0, 3, 4)})


GROUP_NORM = "a = Conv(x, w) n = GroupNormalization<num_groups = {groups}>(a, s, b) y = Conv(n, v)"
IN_PIECES = """
    a = Conv(x, w) f = Reshape(a, r) i = InstanceNormalization(f, s, b) u = Reshape(i, z) g = Mul(u, sc) n = Add(g, bi)
    y = Conv(n, v)
"""
LAYERS: dict[str, Any] = {"w": (8, 3, 1, 1), "v": (2, 8, 1, 1)}


@pytest.mark.parametrize(("opset", "size"), [(18, 4), (21, 8)])
def test_group_norm_loses_whole_groups_exactly(opset, size) -> None:
    body = GROUP_NORM.format(groups=4)
    model, channels, groups = coupled(IMAGE, body, opset=opset, **LAYERS, s=(size,), b=(size,))
    assert (groups["a"].channels, groups["a"].step, groups["a"].exact) == (4, 2, True)
    small = cut(model, channels, {"a": (0, 3)})
    (norm,) = (node for node in small.proto.graph.node if node.op_type == "GroupNormalization")
    assert [entry.i for entry in norm.attribute if entry.name == "num_groups"] == [2]
    assert is_exact(model, channels, {"a": (0, 3)})


@pytest.mark.parametrize(("opset", "size"), [(18, 2), (21, 8)])
def test_group_norm_loses_the_same_inner_channels_of_every_group_when_asked(opset, size) -> None:
    model = from_proto(proto(IMAGE, GROUP_NORM.format(groups=2), opset=opset, **LAYERS, s=(size,), b=(size,)))
    channels = couple(model, blocks="inside")
    (group,) = channels.free
    assert (group.channels, group.step, group.exact) == (4, 2, False)
    assert cut(model, channels, {"a": (0, 3)}).shapes["a"] == (1, 4, 4, 4)
    assert is_exact(model, channels, {"a": (0, 3)})


def test_group_norm_with_one_group_is_a_norm_over_all_channels() -> None:
    model, channels, groups = coupled(IMAGE, GROUP_NORM.format(groups=1), opset=21, **LAYERS, s=(8,), b=(8,))
    assert (groups["a"].channels, groups["a"].exact) == (8, False)
    assert is_exact(model, channels, {"a": (0, 3, 4)})


@pytest.mark.parametrize(("groups", "blocks", "expected"), [
    (4, "auto", (4, 2, True)), (2, "inside", (4, 2, False)), (1, "auto", (8, 1, False)),
])  # fmt: skip
def test_group_norm_in_pieces_is_cut_like_the_operator(groups, blocks, expected) -> None:
    sizes: dict[str, Any] = {"r": ints(0, groups, -1), "z": ints(1, 8, 4, 4), "s": (groups,), "b": (groups,)}
    model = from_proto(proto(IMAGE, IN_PIECES, **LAYERS, **sizes, sc=(8, 1, 1), bi=(8, 1, 1)))
    channels = couple(model, blocks=blocks)
    (group,) = channels.free
    assert (group.channels, group.step, group.exact) == expected
    for seed in range(3):
        proven(model, channels, random_half(channels, seed))


def test_norm_over_the_channels_of_each_head_loses_whole_heads_or_leaves_them_out() -> None:
    body = "a = MatMul(x, w) h = Reshape(a, r) n = LayerNormalization(h, s, b) f = Reshape(n, z) y = MatMul(f, v)"
    weights: dict[str, Any] = {"w": (5, 12), "r": ints(0, 6, 3, 4), "z": ints(0, 6, 12), "v": (12, 2)}
    model = from_proto(proto(TOKENS, body, **weights, s=(4,), b=(4,)))
    found = {}
    for blocks in ("auto", "inside"):
        channels = couple(model, blocks=blocks)
        (group,) = channels.free
        found[blocks] = (group.channels, group.step, group.exact)
        assert is_exact(model, channels, {group.id: (0, 2)})
    assert found == {"auto": (3, 4, True), "inside": (4, 3, False)}


def test_norm_whose_scale_is_computed_locks_its_channels() -> None:
    body = (
        "a = MatMul(x, w) s = ReduceMean<axes = [0, 1], keepdims = 0>(x) n = LayerNormalization(a, s) y = MatMul(n, v)"
    )
    _, _, groups = coupled(TOKENS, body, opset=17, w=(5, 5), v=(5, 2))
    assert "parameter 1 of LayerNormalization_n is computed in the graph" in (groups["a"].locked_because or "")
