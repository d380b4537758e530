"""Functions, bodies, recurrent operators and foreign domains: what they touch is locked, and the rest is cut."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut, masked, plan
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import from_proto
from pipeline.graph.proof import prove
from targets.errors import ProofFailed
from tests.graph.random_cuts import proven, random_half
from tests.graph.small import coupled, ints, is_exact, proto

IMAGE = "float[1,3,4,4] x"
AROUND = "a = Conv(x, w) r = Relu(a) b = Conv(r, v)"
WEIGHTS: dict[str, Any] = {"w": (8, 3, 1, 1), "v": (4, 8, 1, 1), "u": (6, 4, 1, 1), "t": (2, 6, 1, 1)}
AFTER = "d = Conv(c, u) e = Relu(d) y = Conv(e, t)"

# What makes `c` of `b`, and the reason that locks b.
TOUCHING = {
    "If": (
        ("m = ReduceMax<keepdims = 0>(b) q = Greater(m, zero) "
        "c = If(q) <then_branch = p () => (float[1,4,4,4] i) { i = Relu(b) },"
        " else_branch = o () => (float[1,4,4,4] j) { j = Neg(b) }>"),
        "If (If_c) runs a graph of its own, which is not followed",
    ),
    "If inside If": (
        ("m = ReduceMax<keepdims = 0>(x) q = Greater(m, zero) "
        "c = If(q) <then_branch = p () => (float[1,4,4,4] i) { i = If(q) <"
        "then_branch = k () => (float[1,4,4,4] l) { l = Relu(b) },"
        " else_branch = n () => (float[1,4,4,4] s) { s = Abs(b) }> },"
        " else_branch = o () => (float[1,4,4,4] j) { j = Neg(b) }>"),
        "If (If_c) runs a graph of its own, which is not followed",
    ),
    "Loop": (
        ("c = Loop(trips, keep, b) <body = l (int64 i, bool g, float[1,4,4,4] h) => (bool k, float[1,4,4,4] n)"
        " { k = Identity(g) n = Add(h, b) }>"),
        "Loop (Loop_c) runs a graph of its own, which is not followed",
    ),
    "Scan": (
        ("s = Squeeze(b, first) p, o = Scan<num_scan_inputs = 1, body = l (float[4,4] h, float[4,4] i) => "
        "(float[4,4] n, float[4,4] g) { n = Add(h, i) g = Relu(n) }>(state, s) c = Unsqueeze(o, first)"),
        "Scan (Scan_p) runs a graph of its own, which is not followed",
    ),
    "custom domain": ("c = own.Strange<how = 3>(b)", "own.Strange (Strange_c) is an operator without a coupling rule"),
}  # fmt: skip


CONSTANTS: dict[str, Any] = {
    "zero": np.asarray(0, np.float32), "trips": np.asarray(2), "keep": np.asarray(True), "first": ints(0),
    "state": np.zeros((4, 4), np.float32),
}  # fmt: skip


def around(body: str) -> onnx.ModelProto:
    """The body between two pairs of convolutions. What a foreign operator makes has the shape the file declares."""
    source = proto(IMAGE, f"{AROUND} {body} {AFTER}", **WEIGHTS, **CONSTANTS)
    if "own.Strange" in body:
        source.graph.value_info.append(helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, (1, 4, 4, 4)))
    return source


@pytest.mark.parametrize("case", TOUCHING)
def test_what_a_body_or_foreign_operator_touches_is_locked_and_the_rest_is_cut(case) -> None:
    body, reason = TOUCHING[case]
    model = from_proto(around(body))
    channels = couple(model)
    assert reason in (channels.group("b").locked_because or "")
    assert {group.id for group in channels.free} == {"a", "d"}
    kept = random_half(channels)
    assert paper_cost(cut(model, channels, kept)).flops / paper_cost(model).flops == 0.5
    assert is_exact(model, channels, kept)
    with pytest.raises(ProofFailed):
        prove(cut(model, channels, kept), masked(model, channels, random_half(channels, seed=1)))


def test_foreign_operator_of_unknown_shape_locks_what_follows_and_no_more() -> None:
    source = around("c = own.Strange<how = 3>(b)")
    del source.graph.value_info[:]
    model = from_proto(source)
    channels = couple(model)
    assert [group.id for group in channels.free] == ["a"]
    assert is_exact(model, channels, {"a": (0, 1, 5)})


def test_network_behind_a_foreign_operator_is_locked_whole() -> None:
    source = proto(IMAGE, f"i = own.Strange(x) {AROUND.replace('Conv(x', 'Conv(i')} y = Relu(b)", **WEIGHTS)
    model = from_proto(source)
    channels = couple(model)
    assert not channels.free
    assert proven(model, channels, {}).inputs == 0


def test_shape_that_differs_from_run_to_run_is_not_relied_on() -> None:
    """The loop runs as often as the input's sign says: its scan output is as long as that."""
    body = (
        "m = ReduceMax<keepdims = 0>(x) q = Cast<to = 7>(m) p, c = Loop(q, keep, b) "
        "<body = l (int64 i, bool g, float[1,4,4,4] h) => (bool k, float[1,4,4,4] n, float[1,4,4,4] o)"
        " { k = Identity(g) n = Identity(h) o = Abs(h) }> y = ReduceSum(c)"
    )
    model, channels, _ = coupled(IMAGE, f"{AROUND} {body}", **WEIGHTS, **CONSTANTS)
    assert "c" not in model.shapes or model.shapes["p"] == (1, 4, 4, 4)
    assert [group.id for group in channels.free] == ["a"]


@pytest.mark.parametrize(
    ("inside", "trips"), [("n = Add(h, b)", 2**40), ("e = Expand(b, huge) n = Slice(e, first, one, first)", 2)]
)
def test_body_that_may_run_away_is_not_run_to_learn_its_shape(inside, trips) -> None:
    body = (
        "c = Loop(times, keep, b) <body = l (int64 i, bool g, float[1,4,4,4] h) => (bool k, float[1,4,4,4] n)"
        f" {{ k = Identity(g) {inside} }}>"
    )
    constants: dict[str, Any] = {"times": np.asarray(trips), "huge": ints(2**33, 4, 4, 4), "one": ints(1)}
    model, channels, _ = coupled(IMAGE, f"{AROUND} {body} y = Relu(c)", **WEIGHTS, **CONSTANTS, **constants)
    assert "c" not in model.shapes
    assert [group.id for group in channels.free] == ["a"]


def test_model_local_functions_are_followed_nested_ones_too() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 18, "pkg" : 1]>
        g (float[1,3,4,4] x) => (float[1,2,1,1] y) {
            a = pkg.Layer(x, w) b = pkg.Block(a, v) p = GlobalAveragePool(b) y = Conv(p, u)
        }
        <domain: "pkg", opset_import: ["" : 18, "pkg" : 1]>
        Block (x, w) => (z) { a = pkg.Layer(x, w) z = Add(a, x) }
        <domain: "pkg", opset_import: ["" : 18]>
        Layer (x, w) => (z) { a = Conv(x, w) z = Relu(a) }
    """
    source = parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, shape in {"w": (8, 3, 1, 1), "v": (8, 8, 1, 1), "u": (2, 8, 1, 1)}.items():
        drawn = random.standard_normal(shape).astype(np.float32)
        source.graph.initializer.append(numpy_helper.from_array(drawn, name))
    model = from_proto(source)
    assert not model.proto.functions
    channels = couple(model)
    assert [(group.channels, {piece.tensor for piece in group.slices}) for group in channels.free] == [
        (8, {"w", "v", "u"})
    ]
    assert proven(model, channels, random_half(channels)).relative_error < 1e-5


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("kind", GATES)
def test_recurrent_operator_reads_channels_and_keeps_its_hidden_state(kind) -> None:
    """A line of text after convolutions, as recognisers have it: features are cut, the hidden state stays."""
    hidden, gates = 5, GATES[kind]
    body = (
        f"a = Conv(x, w) s = Squeeze(a, two) t = Transpose<perm = [2, 0, 1]>(s) "
        f'h = {kind}<hidden_size = {hidden}, direction = "bidirectional">(t, k, r) '
        "m = Transpose<perm = [0, 2, 1, 3]>(h) q = Reshape(m, flat) f = MatMul(q, p) e = Relu(f) y = MatMul(e, o)"
    )
    model, channels, _ = coupled(
        "float[1,3,1,6] x", body, w=(8, 3, 1, 1), two=ints(2), k=(2, gates * hidden, 8), r=(2, gates * hidden, hidden),
        flat=ints(6, 1, 2 * hidden), p=(2 * hidden, 7), o=(7, 3),
    )  # fmt: skip
    assert plan(channels, {"a": (0, 3)}) == {"w": {0: [0, 3]}, "k": {2: [0, 3]}}
    assert {group.id for group in channels.free} == {"a", "f"}
    assert is_exact(model, channels, random_half(channels))


def test_channels_that_a_recurrent_operator_steps_over_are_locked() -> None:
    body = (
        "a = Conv(x, w) s = Squeeze(a, two) t = Transpose<perm = [1, 0, 2]>(s) "
        "h, l = GRU<hidden_size = 2>(t, k, r) y = Relu(l)"
    )
    _, _, groups = coupled("float[1,3,1,6] x", body, w=(8, 3, 1, 1), two=ints(2), k=(1, 6, 6), r=(1, 6, 2))
    assert "GRU (GRU_h) steps over an axis that carries channels" in (groups["a"].locked_because or "")


def test_initial_state_made_of_channels_is_locked() -> None:
    body = (
        "a = Conv(x, w) g = GlobalAveragePool(a) f = Flatten(g) i = Unsqueeze(f, zeroth) s = Squeeze(x, two) "
        "t = Transpose<perm = [2, 0, 1]>(s) h, l = GRU<hidden_size = 8>(t, k, r, , , i) y = Relu(l)"
    )
    weights: dict[str, Any] = {"w": (8, 3, 1, 1), "two": ints(2), "zeroth": ints(0), "k": (1, 24, 3), "r": (1, 24, 8)}
    _, _, groups = coupled("float[1,3,1,6] x", body, **weights)
    assert "GRU (GRU_h) makes a hidden state" in (groups["a"].locked_because or "")


SQUEEZED = (
    "a = Conv(x, w) s = Shape(a) n = Gather(s, two) q = Equal(n, one) "
    "b = If(q) <then_branch = p () => (float i) { k = Relu(a) i = Squeeze(k, two) },"
    " else_branch = o () => (float i) { k = Neg(a) i = Identity(k) }> "
    "c = Relu(b) d = Unsqueeze(c, two) y = Conv(d, v)"
)


@pytest.mark.parametrize("dims", ["1,3,1,6", "n,3,1,w"])
def test_branch_whose_condition_hangs_on_known_sizes_is_taken(dims) -> None:
    source = proto(f"float[{dims}] x", SQUEEZED, **WEIGHTS, two=ints(2), one=ints(1))
    model = from_proto(source, {"x": (1, 3, 1, 6)})
    assert [node.op_type for node in model.proto.graph.node] == [
        "Conv", "Relu", "Squeeze", "Relu", "Unsqueeze", "Conv"
    ]  # fmt: skip
    assert len({node.name for node in model.proto.graph.node}) == 6
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 1, 6)).astype(np.float32)}
    assert np.array_equal(run_unoptimised(model.proto, feeds)["y"], run_unoptimised(source, feeds)["y"])
    channels = couple(model)
    assert proven(model, channels, {"a": (0, 3)}).relative_error < 1e-5


def test_nested_branches_that_use_the_same_names_are_told_apart() -> None:
    body = (
        "b = If(yes) <then_branch = p () => (float[1,3,4,4] i) { k = Relu(x) i = If(no) <"
        "then_branch = q () => (float[1,3,4,4] j) { m = Neg(k) j = Abs(m) },"
        " else_branch = r () => (float[1,3,4,4] j) { m = Sigmoid(k) l = If(q0) <"
        "then_branch = t () => (float[1,3,4,4] h) { h = Add(m, k) },"
        " else_branch = u () => (float[1,3,4,4] h) { h = Sub(m, k) }> "
        "j = Add(l, m) }> }, else_branch = o () => (float[1,3,4,4] i) { i = Identity(x) }> "
        "c = If(yes) <then_branch = p () => (float[1,3,4,4] i) { k = Tanh(b) i = Identity(k) },"
        " else_branch = o () => (float[1,3,4,4] i) { k = Neg(b) i = Identity(k) }> y = Add(b, c)"
    )
    inputs = f"{IMAGE}, bool q0"
    source = proto(inputs, body, yes=np.asarray(True), no=np.asarray(False))
    model = from_proto(source)
    assert [node.op_type for node in model.proto.graph.node] == ["Relu", "Sigmoid", "If", "Add", "Tanh", "Add"]
    for taken in (False, True):
        feeds = {
            "x": np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32),
            "q0": np.asarray(taken),
        }
        assert np.array_equal(run_unoptimised(model.proto, feeds)["y"], run_unoptimised(source, feeds)["y"])
