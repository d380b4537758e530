"""What each operator does to channels: the structure first, then the proof of a cut."""

from typing import Any

import numpy as np
from onnx import numpy_helper

from pipeline.graph.cut import cut, plan
from tests.graph.small import coupled, ints, is_exact

IMAGE = "float[1,3,4,4] x"
STEM = "a = Conv(x, w)"
HEAD = "g = GlobalAveragePool(z) f = Flatten(g) y = Gemm(f, u)"


def test_conv_reads_what_the_conv_before_it_makes() -> None:
    model, channels, groups = coupled(IMAGE, "a = Conv(x, w, b) y = Conv(a, v)", w=(4, 3, 1, 1), b=(4,), v=(2, 4, 1, 1))
    assert [(s.tensor, s.axis, s.role) for s in groups["a"].slices] == [
        ("w", 0, "makes"), ("b", 0, "makes"), ("v", 1, "reads"),
    ]  # fmt: skip
    assert [read.tensor for read in groups["a"].reads] == ["a"]
    assert plan(channels, {"a": (1, 3)}) == {"w": {0: [1, 3]}, "b": {0: [1, 3]}, "v": {1: [1, 3]}}
    assert is_exact(model, channels, {"a": (1, 3)})


def test_depthwise_conv_loses_whole_groups_and_counts_them_again() -> None:
    body = f"{STEM} z = Conv<group = 4>(a, v) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(8, 1, 3, 3), u=(8, 2))
    assert groups["a"].channels == 4
    assert {(s.tensor, len(s.channel)) for s in groups["a"].slices} == {("w", 4), ("v", 8), ("u", 8)}
    small = cut(model, channels, {"a": (0, 3)})
    (conv,) = [node for node in small.proto.graph.node if node.output[0] == "z"]
    assert [entry.i for entry in conv.attribute if entry.name == "group"] == [2]
    assert is_exact(model, channels, {"a": (0, 3)})


def test_conv_of_few_wide_groups_loses_the_same_inner_channels_in_all() -> None:
    body = f"{STEM} z = Conv<group = 2>(a, v) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(8, 3, 1, 1), v=(8, 4, 1, 1), u=(8, 2))
    assert (groups["a"].channels, groups["a"].step) == (4, 2)
    assert (groups["z"].channels, groups["z"].step) == (4, 2)
    assert is_exact(model, channels, {"a": (0, 3), "z": (1,)})


def test_transposed_conv_of_many_groups_loses_whole_groups() -> None:
    body = f"{STEM} z = ConvTranspose<group = 4>(a, v) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(4, 1, 2, 2), u=(4, 2))
    assert groups["a"].channels == 4
    assert is_exact(model, channels, {"a": (1, 2)})


def test_gemm_that_transposes_its_weight_is_cut_along_the_other_axis() -> None:
    body = "f = Gemm<transB = 1>(x, w) y = Gemm<transB = 1>(f, v)"
    model, channels, groups = coupled("float[1,3] x", body, w=(4, 3), v=(2, 4))
    assert [(s.tensor, s.axis) for s in groups["f"].slices] == [("w", 0), ("v", 1)]
    assert is_exact(model, channels, {"f": (2,)})


def test_matrix_product_along_space_leaves_channels_alone() -> None:
    body = f"{STEM} z = MatMul(a, m) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), m=(4, 5), u=(4, 2))
    assert groups["a"].channels == 4
    assert is_exact(model, channels, {"a": (0,)})


def test_fused_conv_unites_what_it_makes_with_what_it_adds() -> None:
    body = f'{STEM} z = com.microsoft.FusedConv<activation = "Relu">(a, v, b, a) {HEAD}'
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(4, 4, 1, 1), b=(4,), u=(4, 2))
    assert "z" not in groups
    assert groups["a"].channels == 4
    assert is_exact(model, channels, {"a": (0, 2)})


def test_addition_unites_its_operands() -> None:
    body = f"{STEM} b = Conv(x, v) z = Add(a, b) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(4, 3, 1, 1), u=(4, 2))
    assert {s.tensor for s in groups["a"].slices} == {"w", "v", "u"}
    assert is_exact(model, channels, {"a": (1, 2)})


def test_constant_per_channel_rides_along() -> None:
    body = f"{STEM} p = PRelu(a, s) z = Mul(p, c) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), s=(4, 1, 1), c=(1, 4, 1, 1), u=(4, 2))
    assert {(s.tensor, s.axis) for s in groups["a"].slices if s.role == "rides"} == {("s", 0), ("c", 1)}
    assert is_exact(model, channels, {"a": (3,)})


def test_concat_offsets_shift_kept_channels() -> None:
    body = f"{STEM} b = Conv(x, v) z = Concat<axis = 1>(a, b) {HEAD}"
    model, channels, _ = coupled(IMAGE, body, w=(2, 3, 1, 1), v=(3, 3, 1, 1), u=(5, 2))
    assert plan(channels, {"b": (0, 2)})["u"] == {0: [0, 1, 2, 4]}
    assert channels.widths("z", 1) == ({"a": 1, "b": 1}, 0)
    assert is_exact(model, channels, {"a": (1,), "b": (0, 2)})


def test_two_slices_of_one_tensor_never_lose_all_their_channels() -> None:
    body = f"{STEM} b = Slice(a, s0, s1, one) c = Slice(a, s1, s3, one) z = Concat<axis = 1>(c, b) {HEAD}"
    bounds: dict[str, Any] = {"s0": ints(0), "s1": ints(1), "s3": ints(3), "one": ints(1)}
    _, _, groups = coupled(IMAGE, body, w=(3, 3, 1, 1), u=(3, 2), **bounds)
    assert sorted(group.channels for group in groups.values()) == [1, 2, 2]
    assert sorted(group.channels for group in groups.values() if not group.locked_because) == [2]


def test_split_into_equal_parts_gets_its_sizes_written_down() -> None:
    body = f"{STEM} b, c = Split<axis = 1, num_outputs = 2>(a) d = Conv(c, v) z = Concat<axis = 1>(b, d) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(2, 2, 1, 1), u=(4, 2))
    assert {group.channels for group in groups.values()} == {2}
    assert is_exact(model, channels, {"a": (0,)})


def test_padded_channels_go_with_those_they_are_added_to() -> None:
    body = f"{STEM} p = Pad(a, n) b = Conv(x, v) z = Add(p, b) {HEAD}"
    model, channels, groups = coupled(
        IMAGE, body, w=(2, 3, 1, 1), v=(4, 3, 1, 1), u=(4, 2), n=ints(0, 1, 0, 0, 0, 1, 0, 0)
    )
    assert sum(group.channels for group in groups.values() if not group.locked_because) == 4
    assert is_exact(model, channels, {group: (0,) for group, g in groups.items() if not g.locked_because})


def test_gather_renumbers_the_channels_that_stay() -> None:
    body = f"{STEM} z = Gather<axis = 1>(a, i) {HEAD}"
    model, channels, _ = coupled(IMAGE, body, w=(4, 3, 1, 1), i=ints(3, 0, 2, 1), u=(4, 2))
    small = cut(model, channels, {"a": (1, 3)})
    (indices,) = [
        numpy_helper.to_array(tensor).tolist() for tensor in small.proto.graph.initializer if tensor.name == "i"
    ]
    assert indices == [1, 0]
    assert is_exact(model, channels, {"a": (1, 3)})


def test_single_index_picks_a_block_and_the_blocks_stay_as_many() -> None:
    body = f"{STEM} r = Reshape(a, s) z = Gather<axis = 1>(r, i) {HEAD}"
    model, channels, groups = coupled(
        IMAGE, body, w=(6, 3, 1, 1), s=ints(1, 2, 3, 4, 4), i=np.asarray(1, np.int64), u=(3, 2)
    )
    assert (groups["a"].channels, groups["a"].step) == (3, 2)
    assert channels.widths("r", 1) == ({}, -1)
    assert is_exact(model, channels, {"a": (0, 2)})


def test_flatten_spreads_a_channel_over_its_pixels() -> None:
    model, channels, groups = coupled(IMAGE, "a = Conv(x, w) f = Flatten(a) y = Gemm(f, u)", w=(2, 3, 1, 1), u=(32, 2))
    (reading,) = [s for s in groups["a"].slices if s.role == "reads"]
    assert reading.channel.tolist() == [0] * 16 + [1] * 16
    assert is_exact(model, channels, {"a": (1,)})


def test_pixel_shuffle_takes_a_whole_block_for_a_channel() -> None:
    body = f"{STEM} z = DepthToSpace<blocksize = 2>(a) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(8, 3, 1, 1), u=(2, 2))
    assert (groups["a"].channels, groups["a"].step) == (2, 4)
    assert is_exact(model, channels, {"a": (1,)})


def test_slope_behind_a_pixel_shuffle_goes_with_its_block() -> None:
    body = f"{STEM} b = DepthToSpace<blocksize = 2>(a) z = PRelu(b, s) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(16, 3, 1, 1), s=(4, 1, 1), u=(4, 2))
    assert (groups["a"].channels, groups["a"].step) == (4, 4)
    assert is_exact(model, channels, {"a": (1, 2)})


def test_expanded_gate_keeps_its_channel_and_counts_the_others() -> None:
    body = f"{STEM} b = Conv(a, v) e = Expand(b, s) z = Concat<axis = 1>(a, e) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), v=(1, 4, 1, 1), s=ints(1, 4, 4, 4), u=(8, 2))
    assert groups["b"].locked_because == "Expand (Expand_e) repeats this single channel"
    assert is_exact(model, channels, {"a": (0, 2), "e": (1,)})


def test_gate_that_is_expanded_only_to_be_multiplied_is_left_to_broadcasting() -> None:
    body = f"{STEM} b = ReduceMean<keepdims = 1>(a, i) e = Expand(b, s) z = Mul(a, e) {HEAD}"
    model, channels, _ = coupled(IMAGE, body, w=(4, 3, 1, 1), i=ints(1), s=ints(1, 4, 4, 4), u=(4, 2))
    assert "Expand" not in {node.op_type for node in model.proto.graph.node}
    assert is_exact(model, channels, {"a": (0, 2)})


def test_expansion_that_makes_the_operand_larger_stays() -> None:
    body = "a = Conv(x, w) p = GlobalAveragePool(a) e = Expand(p, s) z = Mul(e, p) y = Conv(z, u)"
    model, channels, _ = coupled(IMAGE, body, w=(4, 3, 1, 1), s=ints(1, 4, 2, 2), u=(2, 4, 1, 1))
    assert "Expand" in {node.op_type for node in model.proto.graph.node}
    assert is_exact(model, channels, {"a": (0, 2)})


def test_sum_over_channels_is_exact_and_mean_is_not() -> None:
    for operator, exact in (("ReduceSum", True), ("ReduceMean", False)):
        body = f"{STEM} s = {operator}(a, i) z = Mul(a, s) {HEAD}"
        model, channels, groups = coupled(IMAGE, body, w=(4, 3, 1, 1), i=ints(1), u=(4, 2))
        assert groups["a"].locked_because is None
        assert groups["a"].exact is exact
        assert not exact or is_exact(model, channels, {"a": (0, 2)})


def test_softmax_over_channels_makes_the_group_inexact_and_over_space_does_not() -> None:
    for axis, exact in ((1, False), (2, True)):
        _, _, groups = coupled(IMAGE, f"{STEM} z = Softmax<axis = {axis}>(a) {HEAD}", w=(4, 3, 1, 1), u=(4, 2))
        assert groups["a"].exact is exact


def test_optional_input_given_as_an_empty_constant_locks_nothing() -> None:
    body = f'{STEM} z = Resize<mode = "nearest">(a, r, s) {HEAD}'
    empty, scales = np.zeros(0, np.float32), np.asarray([1, 1, 2, 2], np.float32)
    model, channels, groups = coupled(IMAGE, body, opset=11, w=(4, 3, 1, 1), r=empty, s=scales, u=(4, 2))
    assert groups["a"].locked_because is None
    assert is_exact(model, channels, {"a": (1, 3)})


def test_resize_to_sizes_counts_channels_again() -> None:
    body = f'{STEM} z = Resize<mode = "nearest">(a, , , s) {HEAD}'
    model, channels, _ = coupled(IMAGE, body, w=(4, 3, 1, 1), s=ints(1, 4, 8, 8), u=(4, 2))
    assert is_exact(model, channels, {"a": (0,)})
