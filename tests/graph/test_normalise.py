"""The plain form: what `normalise` promises, pass by pass."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import free_batch, from_proto
from tests.graph.small import ints, proto

IMAGE = "float[1,3,4,4] x"
FREE = "float[n,3,h,w] x"


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def constants(model: onnx.ModelProto) -> dict[str, list[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}


def test_shared_initialiser_gets_one_reader_each() -> None:
    model = from_proto(proto(IMAGE, "i = Identity(w) a = Conv(x, w) y = Conv(a, i)", w=(3, 3, 1, 1)))
    assert kinds(model.proto) == ["Conv", "Conv"]
    assert len({node.input[1] for node in model.proto.graph.node}) == 2


def test_every_node_gets_a_name_of_its_own() -> None:
    source = proto(IMAGE, "a = Relu(x) b = Relu(a) y = Relu(b)")
    for node, name in zip(source.graph.node, ("same", "same", "same#2"), strict=True):
        node.name = name
    names = [node.name for node in from_proto(source).proto.graph.node]
    assert names[0] == "same"
    assert names[2] == "same#2"
    assert len(set(names)) == 3


def test_initialisers_listed_as_inputs_are_no_inputs() -> None:
    source = proto(IMAGE, "y = Conv(x, w)", w=(2, 3, 1, 1))
    source.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, (2, 3, 1, 1)))
    assert [value.name for value in from_proto(source).proto.graph.input] == ["x"]


def test_bias_of_expanded_zeros_is_dropped_with_all_around_it() -> None:
    body = "c = CastLike(k, x) s = Shape<start = 0, end = 1>(w) e = Expand(c, s) y = Conv(x, w, e)"
    model = from_proto(proto(IMAGE, body, w=(2, 3, 1, 1), k=np.asarray(0, np.int64)))
    assert kinds(model.proto) == ["Conv"]
    assert list(constants(model.proto)) == ["w"]


def test_sequence_taken_apart_by_number_is_a_split() -> None:
    body = "q = SplitToSequence<axis = 1>(x, k) a = SequenceAt(q, i) y = Relu(a)"
    model = from_proto(proto("float[1,4,2,2] x", body, k=np.asarray(3, np.int64), i=np.asarray(1, np.int64)))
    assert kinds(model.proto) == ["Split", "Relu"]
    assert [3, 1] in constants(model.proto).values()


def test_shape_arithmetic_becomes_a_target_that_carries_the_batch() -> None:
    body = "s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, axes) t = Concat<axis = 0>(u, rest) y = Reshape(x, t)"
    source = proto("float[n,3,4,4] x", body, zero=np.asarray(0, np.int64), axes=ints(0), rest=ints(48))
    model = from_proto(source)
    assert kinds(model.proto) == ["Reshape"]
    assert list(constants(model.proto).values()) == [[0, 48]]


def test_size_that_hangs_on_another_computed_size_is_found_too() -> None:
    model = from_proto(proto("float[2,6] x", "s = Shape(x) f = Reshape(x, s) t = Shape(f) y = Reshape(f, t)"))
    assert kinds(model.proto) == ["Reshape", "Reshape"]
    assert model.shapes["y"] == (2, 6)


def test_free_size_stays_computed() -> None:
    source = proto(FREE, "s = Shape(x) y = Expand(k, s)", k=(1, 1, 1, 1))
    assert kinds(from_proto(source, {"x": (1, 3, 4, 4)}).proto) == ["Shape", "Expand"]


def test_baked_batch_of_one_does_not_keep_others_out() -> None:
    model = from_proto(proto(IMAGE, "y = Reshape<allowzero = 1>(x, t)", t=ints(1, 48)))
    (outputs,) = run_unoptimised(free_batch(model), {"x": np.zeros((5, 3, 4, 4), np.float32)}).values()
    assert outputs.shape == (5, 48)


def test_folded_batch_norm_of_an_older_operator_set_uses_its_statistics() -> None:
    parameters: dict[str, Any] = {"s": (3,), "b": (3,), "m": (3,), "v": (3,), "k": (1, 3, 1, 1)}
    source = proto(IMAGE, "c = BatchNormalization<momentum = 0.9>(k, s, b, m, v) y = Add(x, c)", opset=9, **parameters)
    feeds = {"x": np.zeros((1, 3, 4, 4), np.float32)}
    folded = from_proto(source).proto
    assert kinds(folded) == ["Add"]
    assert np.allclose(run_unoptimised(folded, feeds)["y"], run_unoptimised(source, feeds)["y"], atol=1e-6)


def test_folded_scalar_stays_a_scalar() -> None:
    """As a list of one it would give what reads it one axis more."""
    source = proto(IMAGE, "i = Add(k, k) y = Gather<axis = 1>(x, i)", k=np.asarray(1, np.int64))
    model = from_proto(source)
    assert kinds(model.proto) == ["Gather"]
    assert model.shapes["y"] == (1, 4, 4)


def test_names_that_a_body_takes_from_outside_are_kept() -> None:
    body = (
        "c = Greater(m, zero) i = Identity(x) "
        "y = If(c) <then_branch = t () => (float[1,3,4,4] p) { p = Relu(i) },"
        " else_branch = e () => (float[1,3,4,4] q) { q = Neg(i) }>"
    )
    source = proto(f"{IMAGE}, float m", body, zero=np.asarray(0, np.float32))
    assert kinds(from_proto(source).proto) == ["Greater", "Identity", "If"]
