"""Shuffled channels and grouped convolutions around them: any channels may go that leave the groups equally wide."""

from typing import Any

import numpy as np
import pytest

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.model import Model, from_proto
from tests.graph.random_cuts import proven, random_half
from tests.graph.small import coupled, ints, is_exact, proto

IMAGE = "float[1,3,4,4] x"
SHUFFLE = "r = Reshape(a, split) t = Transpose<perm = {perm}>(r) z = Reshape(t, join)"
IN_THREES: dict[str, Any] = {"split": ints(0, 3, 4, 4, 4), "join": ints(0, 12, 4, 4)}


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.proto.graph.node]


def test_shuffle_becomes_a_gather_and_loses_any_channels() -> None:
    body = f"a = Conv(x, w) {SHUFFLE.format(perm=[0, 2, 1, 3, 4])} y = Conv(z, v)"
    model, channels, groups = coupled(IMAGE, body, w=(12, 3, 1, 1), v=(2, 12, 1, 1), **IN_THREES)
    assert operators(model) == ["Conv", "Gather", "Conv"]
    assert (groups["a"].channels, groups["a"].step) == (12, 1)
    assert is_exact(model, channels, {"a": (0, 1, 2, 7, 11)})
    (order,) = (t for t in cut(model, channels, {"a": (0, 1, 5, 9)}).proto.graph.initializer if "order" in t.name)
    assert np.frombuffer(order.raw_data, np.int64).tolist() == [0, 1, 2, 3]


def test_shuffle_of_the_last_axis_with_a_free_batch_becomes_a_gather() -> None:
    body = "a = MatMul(x, w) r = Reshape(a, s) t = Transpose<perm = [0, 1, 3, 2]>(r) z = Reshape(t, j) y = MatMul(z, v)"
    model = from_proto(proto("float[B,5,6] x", body, w=(6, 8), s=ints(-1, 5, 2, 4), j=ints(-1, 5, 8), v=(8, 2)))
    assert operators(model) == ["MatMul", "Gather", "MatMul"]
    channels = couple(model)
    assert is_exact(model, channels, {"a": (0, 3, 6)})


@pytest.mark.parametrize(("perm", "join"), [
    ([0, 1, 2, 4, 3], (0, 12, 4, 4)), ([0, 2, 3, 1, 4], (0, 12, 4, 4)), ([0, 2, 1, 3, 4], (0, 3, 16, 4)),
])  # fmt: skip
def test_what_moves_anything_but_one_axis_stays_as_it_is(perm, join) -> None:
    body = f"a = Conv(x, w) {SHUFFLE.format(perm=perm)} g = GlobalAveragePool(z) f = Flatten(g) y = Gemm(f, v)"
    weights: dict[str, Any] = {**IN_THREES, "join": ints(*join), "w": (12, 3, 1, 1), "v": (join[1], 2)}
    model, channels, _ = coupled(IMAGE, body, **weights)
    assert "Gather" not in operators(model)
    for seed in range(3):
        proven(model, channels, random_half(channels, seed))


def test_shuffle_that_somebody_reads_half_way_stays() -> None:
    body = f"a = Conv(x, w) {SHUFFLE.format(perm=[0, 2, 1, 3, 4])} y = Conv(z, v) o = ReduceSum(t)"
    model = from_proto(proto(IMAGE, body, outputs="y,o", w=(12, 3, 1, 1), v=(2, 12, 1, 1), **IN_THREES))
    assert "Gather" not in operators(model)


def test_one_channel_of_every_group_goes_whichever_the_shuffle_brings_together() -> None:
    body = f"a = Conv(x, w) b = Conv<group = 3>(a, o) {SHUFFLE.format(perm=[0, 2, 1, 3, 4]).replace('(a,', '(b,')}"
    body += " y = Conv<group = 3>(z, v)"
    weights: dict[str, Any] = {"w": (12, 3, 1, 1), "o": (12, 4, 1, 1), "v": (6, 4, 1, 1), **IN_THREES}
    model, channels, groups = coupled(IMAGE, body, **weights)
    assert (groups["b"].channels, groups["b"].step) == (4, 3)
    for channel in range(4):  # places channel, channel + 4, channel + 8 behind the shuffle: one of each group before it
        assert is_exact(model, channels, {"b": tuple(sorted({0, 1, 2, 3} - {channel}))})


def test_groups_that_nobody_balances_lose_the_same_inner_channels() -> None:
    body = "a = Conv(x, w) b = Conv<group = 2>(a, o) y = Conv(b, v)"
    model, channels, groups = coupled(IMAGE, body, w=(8, 3, 1, 1), o=(8, 4, 1, 1), v=(2, 8, 1, 1))
    assert (groups["b"].channels, groups["b"].step) == (4, 2)
    assert is_exact(model, channels, {"a": (0, 3), "b": (1, 2)})


def test_groups_over_the_networks_input_make_fewer_channels_each() -> None:
    model, channels, groups = coupled(
        IMAGE, "a = Conv<group = 3>(x, w) y = Conv(a, v)", w=(12, 1, 3, 3), v=(2, 12, 1, 1)
    )
    assert (groups["a"].channels, groups["a"].step, groups["a"].locked_because) == (4, 3, None)
    assert is_exact(model, channels, {"a": (0, 2)})


def test_conv_over_tokens_passes_their_channels_on_and_one_with_a_window_locks_them() -> None:
    body = "a = MatMul(x, w) b = Conv(a, mix) y = MatMul(b, v)"
    model, channels, groups = coupled("float[1,6,5] x", body, w=(5, 8), mix=(6, 6, 1), v=(8, 2))
    assert {piece.tensor for piece in groups["a"].slices} == {"w", "v"}
    assert is_exact(model, channels, {"a": (0, 3, 5)})
    body = "a = MatMul(x, w) b = Conv<pads = [1, 1]>(a, mix) y = MatMul(b, v)"
    _, _, groups = coupled("float[1,6,5] x", body, w=(5, 8), mix=(6, 6, 3), v=(8, 2))
    assert groups["a"].locked_because == "Conv (Conv_b) has a window over an axis that carries channels"


def test_single_channel_says_that_it_is_one() -> None:
    _, _, groups = coupled(IMAGE, "a = Conv(x, w) b = Relu(a) y = Conv(b, v)", w=(1, 3, 1, 1), v=(2, 1, 1, 1))
    assert groups["a"].locked_because == "it is a single channel"


@pytest.mark.parametrize(
    "draw", ["n = RandomNormalLike(x)", "n = RandomUniformLike(x)", "s = Sigmoid(x) n = Bernoulli(s)"]
)
def test_networks_that_draw_random_numbers_are_proven_on_the_same_draws(draw) -> None:
    body = f"a = Conv(x, w) {draw} b = Conv(n, o) z = Add(a, b) y = Conv(z, v)"
    model, channels, _ = coupled(IMAGE, body, w=(4, 3, 1, 1), o=(4, 3, 1, 1), v=(2, 4, 1, 1))
    assert is_exact(model, channels, {channels.free[0].id: (0, 2)})
