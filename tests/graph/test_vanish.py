"""Residual branches that may vanish: which, what goes with them, and what they leave."""

from typing import Any

import pytest

from pipeline.graph.cut import cut, whole
from targets.errors import BadInput
from tests.graph.small import coupled, is_exact

IMAGE = "float[1,3,4,4] x"
HEAD = "g = GlobalAveragePool(z) f = Flatten(g) y = Gemm(f, u)"
BRANCH = "s = Conv(x, w) a = Conv(s, v) r = Relu(a) b = Conv(r, t)"
WEIGHTS: dict[str, Any] = {"w": (4, 3, 1, 1), "v": (6, 4, 1, 1), "t": (4, 6, 1, 1), "u": (4, 2)}


@pytest.mark.parametrize(
    "after",
    ["z = Add(s, b)", "c = Relu(b) z = Add(c, s)", "c = Mul(b, k) z = Add(s, c)", "z = Sum(s, b)"],
)
def test_branch_that_ends_in_an_add_may_vanish_and_leaves_a_constant(after) -> None:
    model, channels, groups = coupled(IMAGE, f"{BRANCH} {after} {HEAD}", **WEIGHTS, k=(4, 1, 1))
    assert groups["a"].vanishes
    small = cut(model, channels, {"a": ()})
    assert sum(node.op_type == "Conv" for node in small.proto.graph.node) == 1
    assert is_exact(model, channels, {"a": ()})


@pytest.mark.parametrize("after", ["z = Mul(s, b)", "c = Softmax<axis = 2>(b) z = Add(s, c)", "z = Relu(b)"])
def test_branch_that_ends_elsewhere_keeps_a_channel(after) -> None:
    _, channels, groups = coupled(IMAGE, f"{BRANCH} {after} {HEAD}", **WEIGHTS)
    assert groups["a"].vanishes_with is None
    with pytest.raises(BadInput, match="cannot lose all its channels"):
        whole(channels, {"a": ()})


def test_gate_inside_a_branch_goes_with_it_and_never_alone() -> None:
    gate = "p = GlobalAveragePool(r) q = Conv(p, d) h = Relu(q) e = Conv(h, o) i = Sigmoid(e) m = Mul(r, i)"
    body = f"s = Conv(x, w) a = Conv(s, v) r = Relu(a) {gate} b = Conv(m, t) z = Add(s, b) {HEAD}"
    model, channels, groups = coupled(IMAGE, body, **WEIGHTS, d=(2, 6, 1, 1), o=(6, 2, 1, 1))
    assert (groups["a"].vanishes_with, groups["q"].vanishes_with) == ("a", "a")
    assert whole(channels, {"a": ()})["q"] == ()
    assert is_exact(model, channels, {"a": ()})
    with pytest.raises(BadInput, match="can only vanish together with 'a'"):
        whole(channels, {"q": ()})


def test_of_branches_inside_each_other_the_inner_ones_may_vanish() -> None:
    body = (
        "s = Conv(x, w) a = Conv(s, v) r = Relu(a) i = Conv(r, n) j = Relu(i) k = Conv(j, m) l = Add(r, k) "
        f"b = Conv(l, t) z = Add(s, b) {HEAD}"
    )
    model, channels, groups = coupled(IMAGE, body, **WEIGHTS, n=(5, 6, 1, 1), m=(6, 5, 1, 1))
    assert [group.id for group in groups.values() if group.vanishes] == ["i"]
    assert is_exact(model, channels, {"i": ()})


def test_channels_read_beside_those_of_the_stream_cannot_vanish() -> None:
    body = f"s = Conv(x, w) a = Conv(s, v) c = Concat<axis = 1>(a, s) b = Conv(c, t) z = Add(s, b) {HEAD}"
    _, _, groups = coupled(IMAGE, body, **(WEIGHTS | {"t": (4, 10, 1, 1)}))
    assert groups["a"].vanishes_with is None


def test_two_branches_of_one_add_never_vanish_both() -> None:
    body = f"s = Conv(x, w) a = Conv(s, v) b = Conv(a, t) c = Conv(s, n) d = Conv(c, m) z = Add(b, d) {HEAD}"
    _, _, groups = coupled(IMAGE, body, **WEIGHTS, n=(5, 4, 1, 1), m=(4, 5, 1, 1))
    assert sum(group.vanishes for group in groups.values()) == 1
