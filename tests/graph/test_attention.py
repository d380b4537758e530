"""Products of two activations: heads lose the same inner channels, or whole heads go."""

from typing import Any

import pytest

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.model import from_proto
from tests.graph.random_cuts import proven, random_half, random_vanishing
from tests.graph.small import coupled, ints, is_exact, proto

TOKENS = "float[1,6,5] x"
HEADS = """
    {project}
    qh = Reshape(q, h) qt = Transpose<perm = [0, 2, 1, 3]>(qh)
    kh = Reshape(k, h2) kt = Transpose<perm = [0, 2, 3, 1]>(kh)
    vh = Reshape(v, h3) vt = Transpose<perm = [0, 2, 1, 3]>(vh)
    s = MatMul(qt, kt) b = Add(s, bias) a = Softmax<axis = 3>(b) o = MatMul(a, vt)
    ot = Transpose<perm = [0, 2, 1, 3]>(o) m = Reshape(ot, flat) y = MatMul(m, wo)
"""
SEPARATE = HEADS.format(project="q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)")
TOGETHER = HEADS.format(project="p = MatMul(x, wp) q, k, v = Split<axis = 2>(p, thirds)")
WEIGHTS: dict[str, Any] = {
    "wo": (12, 4), "h": ints(0, 6, 3, 4), "h2": ints(0, 6, 3, 4), "h3": ints(0, 6, 3, 4), "flat": ints(0, 6, 12),
    "bias": (1, 3, 6, 6),
}  # fmt: skip
APART: dict[str, Any] = {"wq": (5, 12), "wk": (5, 12), "wv": (5, 12)} | WEIGHTS
JOINED: dict[str, Any] = {"wp": (5, 36), "thirds": ints(12, 12, 12)} | WEIGHTS


def test_queries_and_keys_lose_the_same_inner_channels_of_every_head_and_values_their_own() -> None:
    model, channels, groups = coupled(TOKENS, SEPARATE, **APART)
    assert {name: (group.channels, group.step) for name, group in groups.items() if not group.locked_because} == {
        "q": (4, 3), "v": (4, 3),
    }  # fmt: skip
    assert {piece.tensor for piece in groups["q"].slices} == {"wq", "wk"}
    kept = {"q": (0, 3), "v": (1, 2, 3)}
    small = cut(model, channels, kept)
    assert small.shapes["s"] == (1, 3, 6, 6)
    assert small.shapes["qt"] == (1, 3, 6, 2)
    assert small.shapes["m"] == (1, 6, 9)
    assert is_exact(model, channels, kept)


def test_whole_heads_take_their_bias_tables_along() -> None:
    model = from_proto(proto(TOKENS, SEPARATE, **APART))
    channels = couple(model, blocks="whole")
    (group,) = channels.free
    assert (group.channels, group.step) == (3, 4)
    assert {piece.tensor for piece in group.slices} == {"wq", "wk", "wv", "wo", "bias"}
    small = cut(model, channels, {"q": (0, 2)})
    assert small.shapes["s"] == (1, 2, 6, 6)
    assert is_exact(model, channels, {"q": (0, 2)})


def test_more_heads_than_channels_inside_are_cut_whole() -> None:
    shapes: dict[str, Any] = {
        "h": ints(0, 6, 6, 2),
        "h2": ints(0, 6, 6, 2),
        "h3": ints(0, 6, 6, 2),
        "bias": (1, 6, 6, 6),
    }
    _, channels, _ = coupled(TOKENS, SEPARATE, **(APART | shapes))
    (group,) = channels.free
    assert (group.channels, group.step) == (6, 2)


@pytest.mark.parametrize("blocks", ["auto", "inside", "whole"])
@pytest.mark.parametrize(("body", "weights"), [(SEPARATE, APART), (TOGETHER, JOINED)], ids=["separate", "together"])
def test_attention_is_cut_exactly_either_way(body, weights, blocks) -> None:
    model = from_proto(proto(TOKENS, body, **weights))
    channels = couple(model, blocks=blocks)
    assert channels.free
    for seed in range(3):
        proven(model, channels, random_half(channels, seed))


COSINE = SEPARATE.replace(
    "s = MatMul(qt, kt)",
    """
    ql = ReduceL2<axes = [3]>(qt) kl = ReduceL2<axes = [2]>(kt) qn = Div(qt, ql) kn = Div(kt, kl)
    c = MatMul(qn, kn) s = Mul(c, scale)
""",
)


@pytest.mark.parametrize(("blocks", "expected"), [("inside", (4, 3)), ("whole", (3, 4))])
def test_cosine_attention_divides_by_the_length_of_what_every_head_keeps(blocks, expected) -> None:
    model = from_proto(proto(TOKENS, COSINE, opset=13, **APART, scale=(3, 1, 1)))
    channels = couple(model, blocks=blocks)
    assert {(group.channels, group.step, group.exact) for group in channels.free} == {(*expected, True)}
    for seed in range(3):
        proven(model, channels, random_half(channels, seed))


@pytest.mark.parametrize(("shape", "blocks", "expected"), [
    ((3, 1), "inside", (4, 3)), ((1, 4), "whole", (3, 4)), ((3, 4), "inside", (4, 3)), ((3, 4), "whole", (3, 4)),
])  # fmt: skip
def test_parameter_of_blocks_leaves_the_choice_open(shape, blocks, expected) -> None:
    body = "a = MatMul(x, w) h = Reshape(a, r) m = Mul(h, k) f = Reshape(m, z) y = MatMul(f, v)"
    model = from_proto(proto(TOKENS, body, w=(5, 12), r=ints(0, 6, 3, 4), k=shape, z=ints(0, 6, 12), v=(12, 2)))
    channels = couple(model, blocks=blocks)
    (group,) = channels.free
    assert (group.channels, group.step) == expected
    assert is_exact(model, channels, {group.id: (0, 2)})


def test_heads_of_cross_covariance_attention_go_whole() -> None:
    body = """
        q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
        qh = Reshape(q, h) kh = Reshape(k, h2) vh = Reshape(v, h3)
        qt = Transpose<perm = [0, 2, 3, 1]>(qh) kt = Transpose<perm = [0, 2, 1, 3]>(kh)
        s = MatMul(qt, kt) t = Mul(s, heat) a = Softmax<axis = 3>(t) vt = Transpose<perm = [0, 2, 3, 1]>(vh)
        o = MatMul(a, vt) ot = Transpose<perm = [0, 3, 1, 2]>(o) m = Reshape(ot, flat) y = MatMul(m, wo)
    """
    weights = {name: value for name, value in APART.items() if name != "bias"}
    model, channels, _ = coupled(TOKENS, body, **weights, heat=(3, 1, 1))
    (group,) = channels.free
    assert (group.channels, group.step) == (3, 4)
    assert {piece.tensor for piece in group.slices} == {"wq", "wk", "wv", "wo", "heat"}
    assert is_exact(model, channels, {group.id: (0, 2)})


def test_learned_queries_lose_what_the_keys_lose() -> None:
    body = """
        k = MatMul(x, wk) kt = Transpose<perm = [0, 2, 1]>(k) s = MatMul(queries, kt) a = Softmax<axis = 2>(s)
        v = MatMul(x, wv) o = MatMul(a, v) y = MatMul(o, wo)
    """
    model, channels, groups = coupled(TOKENS, body, wk=(5, 4), wv=(5, 4), wo=(4, 2), queries=(1, 3, 4))
    assert {(piece.tensor, piece.axis) for piece in groups["k"].slices} == {("wk", 1), ("queries", 2)}
    assert is_exact(model, channels, {"k": (0, 3), "v": (1, 2)})


def test_block_of_attention_may_vanish() -> None:
    body = SEPARATE.replace("y = MatMul(m, wo)", "z = MatMul(m, wo) r = MatMul(x, wr) t = Add(r, z) y = MatMul(t, wy)")
    model, channels, groups = coupled(TOKENS, body, **APART, wr=(5, 4), wy=(4, 2))
    assert groups["v"].vanishes
    assert groups["q"].vanishes_with == "v"
    assert proven(model, channels, {"v": (), "q": ()}).relative_error < 1e-5
    assert cut(model, channels, {"v": (), "q": ()}).proto.graph.node[0].op_type == "MatMul"
    proven(model, channels, random_vanishing(channels, 0))


def test_class_token_beside_the_tokens_is_cut_with_them() -> None:
    body = "e = MatMul(x, w) t = Concat<axis = 1>(c, e) p = Add(t, pos) y = MatMul(p, v)"
    model, channels, groups = coupled(TOKENS, body, w=(5, 8), c=(1, 1, 8), pos=(1, 7, 8), v=(8, 2))
    assert {(piece.tensor, piece.axis) for piece in groups["e"].slices} == {("w", 1), ("c", 2), ("pos", 2), ("v", 0)}
    assert is_exact(model, channels, {"e": (1, 5, 6)})


@pytest.mark.parametrize(("tokens", "sizes"), [(1, ints(1, 1)), (2, ints(2, 8))], ids=["as they are", "written out"])
def test_tokens_expanded_to_the_batch_at_run_time_are_cut_too(tokens, sizes) -> None:
    body = """
        e = MatMul(x, w) shape = Shape<end = 1>(e) target = Concat<axis = 0>(shape, sizes) k = Expand(c, target)
        t = Concat<axis = 1>(k, e) y = MatMul(t, v)
    """
    model = from_proto(
        proto("float[B,6,5] x", body, w=(5, 8), c=(1, tokens, 8), sizes=sizes, v=(8, 2)), {"x": (2, 6, 5)}
    )
    channels = couple(model)
    (group,) = channels.free
    assert {(piece.tensor, piece.axis) for piece in group.slices} == {("w", 1), ("c", 2), ("v", 0)}
    assert is_exact(model, channels, {group.id: (0, 7)})


def test_embedding_table_makes_channels() -> None:
    model, channels, groups = coupled("int64[1,6] x", "e = Gather(table, x) y = MatMul(e, v)", table=(9, 8), v=(8, 2))
    assert {(piece.tensor, piece.axis, piece.role) for piece in groups["e"].slices} == {
        ("table", 1, "makes"), ("v", 0, "reads"),
    }  # fmt: skip
    assert is_exact(model, channels, {"e": (1, 2)})
