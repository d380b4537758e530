"""Attention as one operator loses whole heads, from all that it reads."""

from typing import Any

import numpy as np
import pytest

from tests.graph.small import coupled, ints, is_exact

WORDS = "float[1,5,6] x"
PROJECTED = "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)"
FLAT = f"{PROJECTED} a = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v) y = MatMul(a, u)"
WEIGHTS: dict[str, Any] = {"wq": (6, 8), "wk": (6, 8), "wv": (6, 8), "u": (8, 3)}
SPLIT = " ".join(f"{n}r = Reshape({n}, s{n}) {n}t = Transpose<perm = [0, 2, 1, 3]>({n}r)" for n in "qkv")
SIZES: dict[str, Any] = {f"s{n}": ints(1, 5, 4, 2) for n in "qkv"}
JOINED = "t = Transpose<perm = [0, 2, 1, 3]>(a) f = Reshape(t, sf) y = MatMul(f, u)"


def test_attention_loses_whole_heads_and_counts_them_again() -> None:
    model, channels, groups = coupled(WORDS, FLAT, opset=23, **WEIGHTS)
    assert (groups["q"].channels, groups["q"].step) == (4, 2)
    assert {s.tensor for s in groups["q"].slices} == {"wq", "wk", "wv", "u"}
    assert is_exact(model, channels, {"q": (1, 3)})


def test_attention_on_split_heads_loses_the_same_ones() -> None:
    body = f"{PROJECTED} {SPLIT} a = Attention(qt, kt, vt) {JOINED}"
    model, channels, groups = coupled(WORDS, body, opset=23, **WEIGHTS, **SIZES, sf=ints(1, 5, 8))
    assert (groups["q"].channels, groups["q"].step) == (4, 2)
    assert is_exact(model, channels, {"q": (0, 2, 3)})


def test_bias_of_every_head_goes_with_its_head() -> None:
    body = FLAT.replace("(q, k, v)", "(q, k, v, m)")
    model, channels, groups = coupled(WORDS, body, opset=23, **WEIGHTS, m=(1, 4, 5, 5))
    assert {(s.tensor, s.axis) for s in groups["q"].slices if s.role == "rides"} == {("m", 1)}
    assert is_exact(model, channels, {"q": (2,)})


def test_rotated_heads_go_whole() -> None:
    turned = "p = RotaryEmbedding<num_heads = 4>(q, c, s, i) o = RotaryEmbedding<num_heads = 4>(k, c, s, i)"
    body = f"{PROJECTED} {turned} {FLAT[len(PROJECTED) :].replace('(q, k, v)', '(p, o, v)')}"
    angles: dict[str, Any] = {"c": (9, 1), "s": (9, 1), "i": np.arange(5)[None]}
    model, channels, groups = coupled(WORDS, body, opset=23, **WEIGHTS, **angles)
    assert (groups["q"].channels, groups["q"].step) == (4, 2)
    assert is_exact(model, channels, {"q": (0, 3)})


def test_gated_unit_unites_its_operands() -> None:
    body = "a = MatMul(x, wq) b = MatMul(x, wk) g = SwiGLU(a, b) y = MatMul(g, u)"
    _, _, groups = coupled(WORDS, body, opset=28, wq=(6, 8), wk=(6, 8), u=(8, 3))
    assert {s.tensor for s in groups["a"].slices} == {"wq", "wk", "u"}


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        ("a = Attention<q_num_heads = 4, kv_num_heads = 2>(q, n, n)", "shares keys and values among heads"),
        ("a = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, c)", "has a fixed value"),
        ("a, l, r = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v)", "shows its inside"),
        ("h = RotaryEmbedding(qt, e, e) a = Reshape(h, sf)", "turns pairs of channels inside a head"),
    ],
)
def test_attention_that_cannot_lose_a_head_is_locked_with_the_reason(attention, reason) -> None:
    body = f"{PROJECTED} n = MatMul(x, wn) qt = Reshape(q, s) {attention} y = MatMul(a, u)"
    more: dict[str, Any] = {"wn": (6, 4), "c": (1, 5, 8), "e": (1, 5, 2), "s": ints(1, 1, 5, 8), "sf": ints(1, 5, 8)}
    _, _, groups = coupled(WORDS, body, opset=23, **WEIGHTS, **more)
    assert [g.locked_because for g in groups.values() if reason in (g.locked_because or "")]
