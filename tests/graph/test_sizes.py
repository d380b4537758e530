"""Sizes that a graph computes from its own tensors: right after any cut, counted again, or locked."""

from typing import Any

import numpy as np
import pytest

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut, masked
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import from_proto
from pipeline.graph.proof import outputs_agree
from tests.graph.random_cuts import proven, random_half
from tests.graph.small import ints, proto

INPUTS = {"fixed": "float[1,3,4,4] x", "free": "float[n,3,h,w] x"}
BOUND = {"x": (1, 3, 4, 4)}
STEM = "a = Conv(x, w) s = Shape(a)"
CHANNELS = f"{STEM} c = Gather(s, one)"
WEIGHTS: dict[str, Any] = {
    "w": (8, 3, 1, 1), "v": (4, 8, 1, 1), "zero": ints(0), "one": ints(1), "two": ints(2), "three": ints(3),
    "four": ints(4),
}  # fmt: skip
HALVES = {"v": (4, 4, 1, 1)}

# What stands between Conv `a` and the Conv that reads `b` with `v`, and the weights of its own.
FOLLOWED: dict[str, tuple[str, dict[str, Any]]] = {
    "one number expanded to the shape": (f"{STEM} k = Expand(e, s) b = Add(a, k)", {"e": (1, 1, 1, 1)}),
    "scale expanded to the shape": (f"{STEM} k = Expand(e, s) b = Mul(a, k)", {"e": (1, 8, 1, 1)}),
    "scale expanded to baked channels": (f"{STEM} k = Expand(e, t) b = Mul(a, k)", {"e": (1,), "t": ints(1, 8, 1, 1)}),
    "constant of the shape": (f"{STEM} k = ConstantOfShape<value = float[1] {{2}}>(s) b = Add(a, k)", {}),
    "mask of the shape": (f"{STEM} k = ConstantOfShape(s) m = Greater(a, k) b = Where(m, a, k)", {}),
    "channels tiled": (f"{STEM} b = Tile(a, t)", {"t": ints(1, 2, 1, 1), "v": (4, 16, 1, 1)}),
    "numbers of the channels": (
        f"{CHANNELS} i = Squeeze(c) r = Range(o, i, l) f = Cast<to = 1>(r) q = Reshape(f, t) b = Mul(a, q)",
        {"o": np.asarray(0), "l": np.asarray(1), "t": ints(1, -1, 1, 1)},
    ),
    "channels taken by number": (
        f"{CHANNELS} i = Squeeze(c) r = Range(o, i, l) b = Gather<axis = 1>(a, r)",
        {"o": np.asarray(0), "l": np.asarray(1)},
    ),
    "resized to baked channels": (f'{STEM} b = Resize<mode = "nearest">(a, , , t)', {"t": ints(1, 8, 8, 8)}),
    "resized to computed sizes": (
        (f"{STEM} d = Slice(s, zero, two) e = Slice(s, two, four) f = Mul(e, two) t = Concat<axis = 0>(d, f) "
        'b = Resize<mode = "nearest">(a, , , t)'), {},
    ),
    "resized by scales of the shape": (
        f'{STEM} f = Mul(s, t) b = Resize<mode = "nearest">(a, , , f)', {"t": ints(1, 1, 2, 2)},
    ),
    "lower half of the channels": (f"{CHANNELS} h = Div(c, two) b = Slice(a, zero, h, one)", HALVES),
    "both halves": (
        f"{CHANNELS} h = Div(c, two) p = Slice(a, zero, h, one) q = Slice(a, h, c, one) b = Add(p, q)", HALVES
    ),
    "split in halves": (
        f"{CHANNELS} h = Div(c, two) k = Concat<axis = 0>(h, h) p, q = Split<axis = 1>(a, k) b = Mul(p, q)", HALVES
    ),
    "shuffle": (
        (f"{CHANNELS} n = Gather(s, zero) i = Gather(s, two) j = Gather(s, three) h = Div(c, two) "
        "r = Concat<axis = 0>(n, two, h, i, j) k = Reshape(a, r) m = Transpose<perm = [0, 2, 1, 3, 4]>(k) "
        "q = Concat<axis = 0>(n, c, i, j) b = Reshape(m, q)"), {},
    ),
    "mean over baked channels": (f"{CHANNELS} f = Cast<to = 1>(c) b = Div(a, f)", {}),
    "padded up to the other's channels": (
        (f"{CHANNELS} o = Conv(x, p) z = Shape(o) u = Gather(z, one) d = Sub(c, u) "
        "t = Concat<axis = 0>(zero, zero, zero, zero, zero, d, zero, zero) k = Pad(o, t) b = Add(a, k)"),
        {"p": (5, 3, 1, 1)},
    ),
    "pooled and expanded back": (
        f"{STEM} g = GlobalAveragePool(a) k = Expand(g, s) b = Concat<axis = 1>(a, k)", {"v": (4, 16, 1, 1)}
    ),
    "constant channels beside": (
        (f"{STEM} n = Slice(s, zero, one) i = Slice(s, two, four) r = Concat<axis = 0>(n, two, i) k = Expand(e, r) "
        "b = Concat<axis = 1>(a, k)"), {"e": (1, 1, 1, 1), "v": (4, 10, 1, 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLLOWED)
@pytest.mark.parametrize("dims", INPUTS)
def test_sizes_are_followed_at_fixed_and_free_dimensions(case, dims) -> None:
    body, weights = FOLLOWED[case]
    model = from_proto(proto(INPUTS[dims], f"{body} y = Conv(b, v)", **(WEIGHTS | weights)), BOUND)
    channels = couple(model)
    assert channels.group("a").locked_because is None
    for seed in range(2):
        kept = random_half(channels, seed)
        assert proven(model, channels, kept).relative_error < 1e-5
        pair = [maker(model, channels, kept).proto for maker in (cut, masked)]
        feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(np.float32)}
        if dims == "free" and "baked" not in case:
            assert outputs_agree(*(run_unoptimised(graph, feeds) for graph in pair)) < 1e-5


# The same, where the number itself is computed with: the reason.
LOCKED = {
    "number of elements": (f"{STEM} z = Size(a) f = Cast<to = 1>(z) b = Div(a, f)", {}, "Size (Size_z) computes"),
    "sum of sizes": (
        f"{STEM} z = ReduceSum(s) f = Cast<to = 1>(z) b = Div(a, f)", {},
        "ReduceSum (ReduceSum_z) computes with the number of them",
    ),
    "twice the channels": (
        (f"{STEM} f = Mul(s, t) k = ConstantOfShape<value = float[1] {{1}}>(f) "
         "m = ReduceSum<keepdims = 0>(k) b = Add(a, m)"),
        {"t": ints(1, 2, 1, 1)}, "Mul (Mul_f) computes with the number of them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOCKED)
def test_number_of_channels_that_is_computed_with_locks_them(case) -> None:
    body, weights, reason = LOCKED[case]
    model = from_proto(proto(INPUTS["free"], f"{body} y = Conv(b, v)", **(WEIGHTS | weights)), BOUND)
    assert reason in (couple(model).group("a").locked_because or "")


def test_output_that_counts_channels_locks_them() -> None:
    source = proto(
        INPUTS["fixed"], f"{STEM} z = Cast<to = 1>(s) b = Conv(a, v) y = Conv(b, u)", "y,z", **WEIGHTS, u=(2, 4, 1, 1)
    )
    model = from_proto(source)
    channels = couple(model)
    assert "the graph's output 'z' counts them" in (channels.group("a").locked_because or "")
    assert proven(model, channels, {"b": (1, 3)}).relative_error < 1e-5


def test_resize_to_the_channels_of_another_tensor_makes_them_one() -> None:
    body = (
        f"{STEM} o = Conv(x, p) d = Slice(s, zero, two) e = Slice(s, two, four) f = Mul(e, two) "
        't = Concat<axis = 0>(d, f) b = Resize<mode = "nearest">(o, , , t) k = Conv(a, q) m = Conv(b, v) '
        "g = GlobalAveragePool(m) h = GlobalAveragePool(k) y = Add(g, h)"
    )
    model = from_proto(proto(INPUTS["free"], body, **WEIGHTS, p=(8, 3, 1, 1), q=(4, 8, 1, 1)), BOUND)
    channels = couple(model)
    assert {piece.tensor for piece in channels.group("a").slices} == {"w", "p", "q", "v"}
    assert proven(model, channels, {"a": (0, 5)}).relative_error < 1e-5
