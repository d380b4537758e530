"""If, Loop, Scan and sequences: whole graphs against ONNX Runtime in every version, their gradients and weights."""

import numpy as np
import onnx
import pytest
import torch

from pipeline.autograd import OnnxModule, supported
from targets.errors import BadInput
from tests.autograd.graphs import by_runtime, by_torch, floats
from tests.autograd.test_versions import IN_GRAPHS

# Operators, and a graph of x (2, 3) that holds them.
GRAPHS: dict[str, tuple[tuple[str, ...], str]] = {
    "if": (
        ("If",),
        """(float[2,3] x, bool c) => (float[2,3] y)
           <float[3] w = {1.0, 2.0, 3.0}> {
             h = Tanh(x)
             b = If (c) <then_branch = yes () => (float[2,3] t) { t = Mul(h, w) },
                         else_branch = no () => (float[2,3] t) <float[3] v = {4.0, 5.0, 6.0}> { t = Sub(h, v) }>
             y = Add(b, x)
           }""",
    ),
    "loop": (
        ("Loop",),
        """(float[2,3] x, bool c) => (float[2,3] y, float[n,3] rows)
           <int64 m = {4}, float[3] w = {0.5, 0.6, 0.7}> {
             y, rows = Loop (m, , x) <body = step (int64 i, bool g, float[2,3] s)
                 => (bool again, float[2,3] t, float[3] row) <int64 two = {2}, float[2] both = {1.0, 1.0}> {
               u = Mul(s, w)
               t = Add(u, x)
               row = MatMul (both, t)
               half = Cast <to = 1> (i)
               limit = Cast <to = 1> (two)
               again = Less(half, limit)
             }>
           }""",
    ),
    "scan": (
        ("Scan",),
        """(float[2,3] x, bool c) => (float[2] y, float[3,2] rows)
           <float[2] s = {0.5, -0.5}, float[2] w = {2.0, 3.0}> {
             y, rows = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
                                body = step (float[2] a, float[2] e) => (float[2] t, float[2] o) {
               u = Mul(a, w)
               t = Add(u, e)
               o = Tanh(t)
             }> (s, x)
           }""",
    ),
    "sequences": (
        ("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceErase", "SequenceInsert", "SequenceLength",
         "SplitToSequence", "SequenceEmpty"),
        """(float[2,3] x, bool c) => (float[n,3] y)
           <int64 zero = {0}, int64 one = {1}> {
             parts = SplitToSequence <axis = 0> (x)
             first = SequenceAt (parts, zero)
             h = Tanh (first)
             more = SequenceInsert (parts, h, one)
             fewer = SequenceErase (more, zero)
             count = SequenceLength (fewer)
             real = Cast <to = 1> (count)
             whole = ConcatFromSequence <axis = 0> (fewer)
             pair = SequenceConstruct (whole, x)
             all = ConcatFromSequence <axis = 0> (pair)
             none = SequenceEmpty ()
             one_of = SequenceInsert (none, all)
             only = SequenceAt (one_of, zero)
             y = Mul (only, real)
           }""",
    ),
    "map": (
        ("SequenceMap",),
        """(float[2,3] x, bool c) => (float[2,3] y)
           <float[3] w = {1.0, 2.0, 3.0}> {
             parts = SplitToSequence <axis = 0> (x)
             mapped = SequenceMap (parts) <body = each (float[1,3] a) => (float[1,3] o) { o = Mul(a, w) }>
             y = ConcatFromSequence <axis = 0> (mapped)
           }""",
    ),
}  # fmt: skip
X = floats(2, 3)


def graph(name: str, opset: int) -> onnx.ModelProto:
    made = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {GRAPHS[name][1]}')
    return onnx.shape_inference.infer_shapes(made) if name == "map" else made


def versions() -> list[tuple[str, int]]:
    claimed = {entry.op: entry.versions for entry in supported() if entry.domain == ""}
    return [
        (name, max(v, 9)) for name, (ops, _) in GRAPHS.items() for v in sorted({v for op in ops for v in claimed[op]})
    ]


@pytest.mark.parametrize(("name", "opset"), versions())
def test_graphs_inside_nodes_run_as_the_runtime_runs_them(name, opset):
    made = graph(name, opset)
    used = {value.name for value in made.graph.input}
    for condition in (True, False):
        given = {key: value for key, value in {"x": X, "c": np.array(condition)}.items() if key in used}
        for ours, theirs in zip(by_torch(OnnxModule(made), given), by_runtime(made, given), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_every_operator_of_bodies_and_sequences_stands_in_a_graph():
    assert {op for ops, _ in GRAPHS.values() for op in ops} == IN_GRAPHS


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_pass_through_what_was_run(name):
    module = OnnxModule(graph(name, 18 if name == "map" else 11)).double()
    x = torch.from_numpy(X).double().requires_grad_()
    for condition in (True, False):
        assert torch.autograd.gradcheck(lambda value, c=condition: module(value, torch.tensor(c)), (x,))


def test_weights_of_inner_graphs_are_trained_and_written_back():
    made = graph("if", 11)
    module = OnnxModule(made)
    assert {"w", "b/else_branch/v"} <= set(dict(module.named_parameters()))
    assert module.to_onnx().SerializeToString() == made.SerializeToString()
    with torch.no_grad():
        module.get_tensor("b/else_branch/v").mul_(2)
    given = {"x": X, "c": np.array(False)}
    np.testing.assert_allclose(by_torch(module, given)[0], by_runtime(module.to_onnx(), given)[0], rtol=1e-6)
    assert not np.allclose(by_runtime(made, given)[0], by_runtime(module.to_onnx(), given)[0])


def test_branches_may_use_one_name_for_different_things():
    module = OnnxModule(graph("if", 11))
    yes, no = (by_torch(module, {"x": X, "c": np.array(condition)})[0] for condition in (True, False))
    hidden = np.tanh(X)
    np.testing.assert_allclose(yes, hidden * [1, 2, 3] + X, rtol=1e-5)
    np.testing.assert_allclose(no, hidden - [4, 5, 6] + X, rtol=1e-5)


def test_an_operator_without_a_rule_inside_a_branch_is_refused_by_name():
    made = graph("if", 11)
    made.graph.node[1].attribute[0].g.node[0].op_type = "RandomNormalLike"
    with pytest.raises(BadInput, match=r"RandomNormalLike.*not in the table"):
        OnnxModule(made)


def test_functions_of_the_models_own_are_inlined():
    made = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2,3] x) => (float[2,3] y) <float[3] w = {1.0, 2.0, 3.0}> { y = local.scaled(x, w) }
        <opset_import: ["" : 17], domain: "local"> scaled (a, b) => (c) { d = Mul(a, b) c = Tanh(d) }""")
    module = OnnxModule(made)
    assert [name for name, _ in module.named_parameters()] == ["w"]
    np.testing.assert_allclose(by_torch(module, {"x": X})[0], by_runtime(made, {"x": X})[0], rtol=1e-6)
    np.testing.assert_array_equal(by_runtime(module.to_onnx(), {"x": X})[0], by_runtime(made, {"x": X})[0])


def test_weights_listed_in_attributes_of_constants_are_written_back():
    made = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x) => (float[2,3] y) {
          w = Constant <value_floats = [1.0, 2.0, 3.0]> ()
          y = Mul(x, w)
        }""")
    module = OnnxModule(made)
    assert module.to_onnx().SerializeToString() == made.SerializeToString()
    with torch.no_grad():
        module.get_tensor("w").add_(1)
    np.testing.assert_array_equal(by_runtime(module.to_onnx(), {"x": X})[0], X * np.array([2, 3, 4], np.float32))
