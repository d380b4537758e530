"""Graphs in sixteen bits."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from calibration.casting import cast
from targets.errors import BadInput
from tests.targets.models import model_of, residual

X = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def run(model: onnx.ModelProto, **feeds: "np.ndarray") -> list["np.ndarray"]:
    found = ReferenceEvaluator(model).run(None, feeds)
    assert isinstance(found, list)
    return found


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(("precision", "bits"), [("fp16", 11), ("bf16", 8)])
def test_a_network_computes_the_same_to_the_bits_that_are_left(precision: str, bits: int) -> None:
    model = residual()
    model.opset_import[0].version = 22  # from which on convolutions take bf16
    small = cast(model, precision)
    onnx.checker.check_model(small, full_check=True)
    assert {tensor.data_type for tensor in small.graph.initializer} == {
        TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    }
    (expected,), (got,) = run(model, **{"x/in:0": X}), run(small, **{"x/in:0": X})
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 8 * 2.0**-bits * np.abs(expected).max()
    assert kinds(small)[0] == kinds(small)[-1] == "Cast"
    assert kinds(small).count("Cast") == 2


def test_names_of_nodes_and_tensors_stay() -> None:
    before, after = residual(), cast(residual(), "fp16")
    assert {node.name for node in before.graph.node} <= {node.name for node in after.graph.node}
    assert {name for node in before.graph.node for name in node.output} <= {
        name for node in after.graph.node for name in node.output
    }


def test_an_operator_older_than_the_type_stays_in_fp32_with_casts_around_it() -> None:
    """At opset 17 additions take bf16 and convolutions do not."""
    small = cast(residual(), "bf16")
    onnx.checker.check_model(small, full_check=True)
    weights = {tensor.name: tensor.data_type for tensor in small.graph.initializer}
    assert weights["w1"] == weights["w2"] == TensorProto.FLOAT
    (got,) = run(small, **{"x/in:0": X})
    (expected,) = run(residual(), **{"x/in:0": X})
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


def test_inputs_that_must_be_fp32_stay_so() -> None:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], "up", mode="nearest")
    model = model_of([node], {"x": [1, 3, 8, 8]}, {"y": [1, 3, 16, 16]}, {"scales": np.array([1, 1, 2, 2], np.float32)})
    small = cast(model, "fp16")
    onnx.checker.check_model(small, full_check=True)
    assert {t.name: t.data_type for t in small.graph.initializer} == {"scales": TensorProto.FLOAT}


def test_a_weight_of_two_readers_is_converted_once() -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["a"], "a"), helper.make_node("Mul", ["a", "w"], ["y"], "b")]
    small = cast(model_of(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"w": np.ones(4, np.float32)}), "fp16")
    assert [tensor.name for tensor in small.graph.initializer] == ["w/fp16"]


def test_a_weight_beyond_fp16_is_refused_by_name() -> None:
    node = helper.make_node("Mul", ["x", "big"], ["y"], "scale")
    model = model_of([node], {"x": [1, 4]}, {"y": [1, 4]}, {"big": np.full(4, 1e6, np.float32)})
    with pytest.raises(BadInput, match=r"'big' reaches 1e\+06.*bf16"):
        cast(model, "fp16")
    (tensor,) = cast(model, "bf16").graph.initializer
    assert numpy_helper.to_array(tensor).astype(np.float32)[0] == pytest.approx(1e6, rel=2**-8)
