"""Operators that work along axes, read or write by number, or sample in space: channels beside that pass."""

from typing import Any

import numpy as np
import pytest

from tests.graph.small import coupled, ints, is_exact

IMAGE = "float[1,3,4,4] x"
STEM = "a = Conv(x, w)"
LAST = "t = Transpose<perm = [0, 2, 3, 1]>(a)"
BACK = "z = Transpose<perm = [0, 3, 1, 2]>(m)"
POOL = "p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)"
UNPOOL = "MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>"
HEAD = "g = GlobalAveragePool(z) f = Flatten(g) y = Gemm(f, u, e)"
FOUR: dict[str, Any] = {"w": (4, 3, 1, 1), "u": (4, 2), "e": (2,)}

# What stands between the stem's four channels and the head, its constants, and the operator set.
PASSING: dict[str, tuple[str, dict[str, Any], int]] = {
    "largest along a row": ("z, i = TopK<axis = 3>(a, k)", {"k": ints(2)}, 18),
    "their positions": ("v, i = TopK<axis = 3>(a, k) z = Cast<to = 1>(i)", {"k": ints(2)}, 18),
    "one-hot maximum of a row": ("z = Hardmax<axis = 3>(a)", {}, 18),
    "one-hot maximum before opset 13": ("z = Hardmax<axis = 2>(a)", {}, 12),
    "running sum": ("z = CumSum(a, k)", {"k": np.asarray(2, np.int64)}, 18),
    "triangle": ("z = Trilu<upper = 1>(a, k)", {"k": np.asarray(1, np.int64)}, 18),
    "spectrum": ("v = Unsqueeze(a, k) d = DFT<axis = 2>(v) z = ReduceSum<keepdims = 0>(d, k)", {"k": ints(4)}, 18),
    "spectrum along an input": (
        "v = Unsqueeze(a, k) p = DFT(v, , d) z = ReduceSum<keepdims = 0>(p, k)",
        {"k": ints(4), "d": np.asarray(3, np.int64)}, 20,
    ),
    "reversed rows": (
        "t = Transpose<perm = [2, 0, 1, 3]>(a) m = ReverseSequence(t, n) z = Transpose<perm = [1, 2, 0, 3]>(m)",
        {"n": ints(2)}, 18,
    ),
    "centre crop": ("z = CenterCropPad<axes = [2, 3]>(a, k)", {"k": ints(2, 6)}, 18),
    "elements of a row": (
        "z = GatherElements<axis = 3>(a, i)", {"i": np.arange(32).reshape(1, 4, 4, 2) % 4}, 18,
    ),
    "written elements": (
        "z = ScatterElements<axis = 3>(a, i, k)",
        {"i": np.arange(32).reshape(1, 4, 4, 2) % 4, "k": (1, 4, 4, 2)}, 18,
    ),
    "written elements of opset 9": (
        "z = Scatter<axis = 3>(a, i, k)", {"i": np.arange(32).reshape(1, 4, 4, 2) % 4, "k": (1, 4, 4, 2)}, 9,
    ),
    "pixels by number": (
        f"{LAST} m = GatherND(t, i) n = Unsqueeze(m, k) z = Transpose<perm = [0, 3, 1, 2]>(n)",
        {"i": np.asarray([[[0, 1, 1], [0, 2, 3]]]), "k": ints(2)}, 18,
    ),
    "pixels of every image by number": (
        f"{LAST} m = GatherND<batch_dims = 1>(t, i) n = Unsqueeze(m, k) z = Transpose<perm = [0, 3, 1, 2]>(n)",
        {"i": np.asarray([[[1, 1], [2, 3]]]), "k": ints(2)}, 18,
    ),
    "written pixels": (
        f"{LAST} m = ScatterND(t, i, k) {BACK}", {"i": np.asarray([[0, 1, 1], [0, 2, 3]]), "k": (2, 4)}, 18,
    ),
    "a row for every element": (
        "c = Cast<to = 7>(a) o = OneHot<axis = 4>(c, d, v) z = ReduceMax<keepdims = 0>(o, k)",
        {"d": np.asarray(3, np.int64), "v": np.asarray([0, 1], np.float32), "k": ints(4)}, 18,
    ),
    "determinants": ("d = Det(a) z = Unsqueeze(d, k)", {"k": ints(2, 3)}, 18),
    "samples on a grid": (
        "z = GridSample(a, k)", {"k": np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 3, 3, 2)}, 16,
    ),
    "regions": (
        "z = RoiAlign<output_height = 2, output_width = 2>(a, r, i)",
        {"r": np.asarray([[0, 0, 3, 3], [1, 1, 2, 3]], np.float32), "i": ints(0, 0)}, 16,
    ),
    "pooled regions": (
        "z = MaxRoiPool<pooled_shape = [2, 2]>(a, r)",
        {"r": np.asarray([[0, 0, 0, 3, 3], [0, 1, 1, 2, 3]], np.float32)}, 16,
    ),
    "pooling undone": (
        f"{POOL} z = {UNPOOL}(p, i)", {}, 18,
    ),
    "power pooling": ("z = LpPool<kernel_shape = [2, 2]>(a)", {}, 18),
    "global power pooling": ("z = GlobalLpPool(a)", {}, 18),
    "norm over space": ("z = MeanVarianceNormalization<axes = [0, 2, 3]>(a)", {}, 13),
    "norm over space by default": ("z = MeanVarianceNormalization(a)", {}, 13),
    "root mean square of a row": ("z = RMSNormalization(a, k)", {"k": (4,)}, 23),
    "dropped-out mask": (
        "d, n = Dropout(a) c = Cast<to = 1>(n) z = Mul(d, c)", {}, 18,
    ),
    "bounds as inputs": ("z = Clip(a, , k)", {"k": np.asarray(1, np.float32)}, 18),
    "the type of another": ("z = CastLike(a, x)", {}, 18),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSING)
def test_channels_beside_what_an_operator_works_on_are_free(case) -> None:
    body, constants, opset = PASSING[case]
    model, channels, groups = coupled(IMAGE, f"{STEM} {body} {HEAD}", opset=opset, **FOUR, **constants)
    assert (groups["a"].channels, groups["a"].locked_because, groups["a"].exact) == (4, None, True)
    assert is_exact(model, channels, {"a": (1, 3)})


def test_written_elements_keep_what_they_write_over_in_step() -> None:
    body = f"{STEM} b = Conv(x, v) z = ScatterElements<axis = 3>(a, i, b) {HEAD}"
    numbers = np.broadcast_to(np.asarray([2, 3, 0, 1]), (1, 4, 4, 4))
    model, channels, groups = coupled(IMAGE, body, **FOUR, v=(4, 3, 1, 1), i=numbers)
    assert "b" not in groups
    assert is_exact(model, channels, {"a": (0, 3)})


def test_cache_and_what_is_written_into_it_lose_the_same_channels() -> None:
    body = f"{STEM} b = Conv(x, v) z = TensorScatter(a, b, i) {HEAD}"
    _, _, groups = coupled(IMAGE, body, opset=24, **FOUR, v=(4, 3, 1, 1), i=ints(0))
    assert "b" not in groups
    assert groups["a"].locked_because is None


def test_columns_become_the_channels_of_an_image() -> None:
    body = f"{STEM} r = Reshape(a, s) c = Col2Im(r, i, b) z = Relu(c) {HEAD}"
    shapes: dict[str, Any] = {"s": ints(1, 8, 16), "i": ints(5, 5), "b": ints(2, 2)}
    model, channels, groups = coupled(IMAGE, body, w=(8, 3, 1, 1), u=(2, 2), e=(2,), **shapes)
    assert (groups["a"].channels, groups["a"].step) == (2, 4)
    assert is_exact(model, channels, {"a": (1,)})


def test_deformable_convolution_reads_and_makes_channels_and_its_offsets_stay() -> None:
    body = f"{STEM} o = Conv(x, p) z = DeformConv<kernel_shape = [1, 1]>(a, v, o, b) {HEAD}"
    weights: dict[str, Any] = {
        "w": (4, 3, 1, 1),
        "p": (2, 3, 1, 1),
        "v": (5, 4, 1, 1),
        "b": (5,),
        "u": (5, 2),
        "c": (2,),
    }
    model, channels, groups = coupled(IMAGE, body, opset=19, e=(2,), **weights)
    assert {(s.tensor, s.axis, s.role) for s in groups["z"].slices} == {
        ("v", 0, "makes"),
        ("b", 0, "makes"),
        ("u", 0, "reads"),
    }
    assert groups["o"].locked_because == "DeformConv (DeformConv_z) samples where they say"
    assert is_exact(model, channels, {"a": (0, 3), "z": (1, 2)})


# As in PASSING; and the reason why the stem's channels are locked.
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "ranked channels": ("b, i = TopK<axis = 1>(a, k)", {"k": ints(4)}, "ranks the channels"),
    "largest channel": ("b = Hardmax<axis = 1>(a)", {}, "picks the largest of all channels"),
    "running sum over channels": (
        "b = CumSum(a, k)", {"k": np.asarray(1, np.int64)},
        "adds one channel after the other",
    ),
    "axis that is computed": (
        "m = ReduceMax<keepdims = 0>(x) k = Cast<to = 7>(m) b = CumSum(a, k)", {},
        "is computed in the graph",
    ),
    "triangle of channels": (
        "t = Transpose<perm = [0, 2, 3, 1]>(a) r = Trilu(t) b = Transpose<perm = [0, 3, 1, 2]>(r)", {},
        "keeps channels by their number",
    ),
    "cropped channels": ("b = CenterCropPad<axes = [1]>(a, k)", {"k": ints(4)}, "crops or pads the channels"),
    "channels by number": (
        "b = GatherElements<axis = 1>(a, i)", {"i": np.zeros((1, 4, 4, 4), np.int64)}, "channels by their number",
    ),
    "some of the channels": (
        "c = ScatterElements<axis = 3>(a, i, k) b = Relu(c)",
        {"i": np.zeros((1, 2, 4, 4), np.int64), "k": (1, 2, 4, 4)}, "the first few channels only",
    ),
    "channels written by number": (
        "b = ScatterND(a, i, k)", {"i": np.asarray([[0, 1]]), "k": (1, 4, 4)}, "channels by their number",
    ),
    "grid out of a network": (
        "h = Transpose<perm = [0, 2, 3, 1]>(a) c = GridSample(x, h) b = Conv(c, o)",
        {"w": (2, 3, 1, 1), "o": (4, 3, 1, 1)}, "GridSample (GridSample_c) needs 'h' whole",
    ),
    "positions of maxima read by another": (
        "p, i = MaxPool<kernel_shape = [1, 1]>(a) c = Cast<to = 1>(i) b = Mul(p, c)", {},
        "reads the positions of a pooling's maxima",
    ),
    "pooling undone to another size": (
        f"{POOL} b = {UNPOOL}(p, i, k)", {"k": ints(1, 4, 5, 5)},
        "it cannot be shown to count like the pooling did",
    ),
    "random numbers": ("n = RandomNormalLike(a) b = Add(a, n)", {}, "draws random numbers"),
    "training": (
        "b = Dropout(a, k, t)", {"k": np.asarray(0.5, np.float32), "t": np.asarray(True)}, "draws random numbers",
    ),
    "positions": (
        "n = NonZero(a) c = Cast<to = 1>(n) m = ReduceMax(c) b = Mul(a, m)", {}, "answers with positions",
    ),
    "sequence": (
        "s = SequenceConstruct(a) b = SequenceAt(s, k)", {"k": np.asarray(0, np.int64)},
        "a sequence of tensors",
    ),
    "index out of a network": (
        "h = Cast<to = 7>(a) g = Gather(k, h) b = ReduceSum<keepdims = 0>(g, d)",
        {"k": (9, 2), "d": ints(4)}, "Gather (Gather_g) needs 'h' whole",
    ),
    "bound out of a network": (
        "h = Conv(x, o) m = ReduceMax<keepdims = 0>(h, d) q = Squeeze(m) b = Clip(a, q)",
        {"o": (1, 3, 1, 1), "d": ints(2, 3)}, "Clip (Clip_b) needs 'q' whole",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_channels_that_an_operator_works_on_are_locked_with_the_reason(case) -> None:
    body, weights, reason = REFUSED[case]
    weights = {"w": (4, 3, 1, 1), "v": (2, 4, 1, 1)} | weights
    _, _, groups = coupled(IMAGE, f"{STEM} {body} y = Conv(b, v)", **weights)
    assert [g.locked_because for g in groups.values() if reason in (g.locked_because or "")]
