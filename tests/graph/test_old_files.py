"""Files of exporters from before opset 9: what they wrote is understood, and means what it meant then."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.execute import run_unoptimised
from pipeline.graph.model import from_proto, load, save
from targets.errors import BadInput
from tests.graph.random_cuts import proven, random_half

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((1, 4, 6, 6)).astype(np.float32)
V = RANDOM.uniform(0.2, 1, 4).astype(np.float32)


def old(nodes: list[onnx.NodeProto], opset: int, **weights: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """IR version 3, initialisers listed as inputs: as files were before 2019."""
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        "old",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape),
            *(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)


def computed(model: onnx.ModelProto) -> np.ndarray[Any, Any]:
    plain = from_proto(model)
    (outputs, *_) = run_unoptimised(plain.proto, {"x": X}).values()
    return np.asarray(outputs)


def by_channel(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.reshape(1, -1, 1, 1)


def node(kind: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, ["x", *inputs], ["y"], **attributes)


BATCH_NORM = (X - by_channel(V)) / np.sqrt(by_channel(V) + 1e-5) * by_channel(V) + by_channel(V)
SLOPED = np.where(X < 0, X * by_channel(V), X)
PADDED = np.pad(X, ((0, 0), (0, 0), (1, 2), (0, 1)))
DOUBLED = X.repeat(2, axis=2).repeat(2, axis=3)

OPERATORS: dict[str, tuple[int, onnx.NodeProto, dict[str, Any], np.ndarray[Any, Any]]] = {
    "Add, aligned by axis": (6, node("Add", "v", broadcast=1, axis=1), {"v": V}, X + by_channel(V)),
    "Mul, aligned by a negative axis": (6, node("Mul", "v", broadcast=1, axis=-3), {"v": V}, X * by_channel(V)),
    "Sub, aligned at the end": (6, node("Sub", "v", broadcast=1), {"v": V[:1]}, X - V[0]),
    "Div, of equal shapes": (1, node("Div", "v", consumed_inputs=[0, 0]), {"v": X + 9}, X / (X + 9)),
    "PRelu": (6, node("PRelu", "v"), {"v": V}, SLOPED),
    "BatchNormalization 6": (6, node("BatchNormalization", *"vvvv", is_test=1, spatial=1), {"v": V}, BATCH_NORM),
    "BatchNormalization 1": (
        1, node("BatchNormalization", *"vvvv", is_test=1, consumed_inputs=[0, 0, 0, 1, 1]), {"v": V}, BATCH_NORM
    ),
    "BatchNormalization 7": (7, node("BatchNormalization", *"vvvv", spatial=1), {"v": V}, BATCH_NORM),
    "Dropout": (6, node("Dropout", is_test=1, ratio=0.5), {}, X),
    "Dropout 7": (7, node("Dropout", ratio=0.5), {}, X),
    "Reshape": (1, node("Reshape", shape=[0, 2, -1], consumed_inputs=[0]), {}, X.reshape(1, 2, 72)),
    "Reshape 5": (5, node("Reshape", "s"), {"s": np.asarray([0, 2, -1])}, X.reshape(1, 2, 72)),
    "Concat": (1, helper.make_node("Concat", ["x", "x"], ["y"]), {}, np.concatenate([X, X], 1)),
    "Pad": (1, node("Pad", paddings=[0, 0, 1, 0, 0, 0, 2, 1]), {}, PADDED),
    "Pad 2": (6, node("Pad", pads=[0, 0, 1, 0, 0, 0, 2, 1]), {}, PADDED),
    "Upsample": (6, node("Upsample", width_scale=2.0, height_scale=2.0), {}, DOUBLED),
    "Upsample 7": (7, node("Upsample", mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]), {}, DOUBLED),
    "Upsample 9": (9, node("Upsample", "s"), {"s": np.asarray([1, 1, 2, 2], np.float32)}, DOUBLED),
    "Relu": (1, node("Relu", consumed_inputs=[0]), {}, np.maximum(X, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_old_operator_computes_what_it_computed_then(name) -> None:
    opset, operator, weights, wanted = OPERATORS[name]
    assert np.allclose(computed(old([operator], opset, **weights)), wanted, atol=1e-5)


def test_old_gemm_has_its_bias_broadcast() -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "v"], ["y"], transB=1, broadcast=1),
    ]
    weight = RANDOM.standard_normal((4, 144)).astype(np.float32)
    assert np.allclose(computed(old(nodes, 6, w=weight, v=V)), X.reshape(1, -1) @ weight.T + V, atol=1e-4)


@pytest.mark.parametrize("operator", [node("RNN", "v", "v"), node("Affine"), node("Cast", to="FLOAT")])
def test_old_operator_that_nobody_knows_to_write_anew_is_refused(operator) -> None:
    with pytest.raises(BadInput, match=r"speaks opset 1 and cannot be brought to 7.*Export it again"):
        from_proto(old([operator], 1, v=V))


def test_old_operator_of_unknown_rank_is_refused_not_guessed() -> None:
    model = old([node("Add", "z", broadcast=1, axis=1)], 6)
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    with pytest.raises(BadInput, match="are not known"):
        from_proto(model)


@pytest.mark.parametrize("opset", [1, 6, 7, 8])
def test_old_network_is_cut_exactly_and_saved(opset, tmp_path) -> None:
    """Everything at once: IR 3, listed initialisers, Constant nodes, a mask nobody reads, attributes of their time."""
    era: dict[str, Any] = {"is_test": 1} if opset < 7 else {}
    norm = era | ({"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {})
    consumed: dict[str, Any] = {"consumed_inputs": [0]} if opset < 6 else {}
    aligned: dict[str, Any] = {"broadcast": 1, "axis": 1} if opset < 7 else {}
    shape = (8,) if opset < 7 else (8, 1, 1)
    weights = {
        "w": RANDOM.standard_normal((8, 4, 3, 3)), "u": RANDOM.standard_normal((4, 8, 1, 1)),
        **{name: RANDOM.uniform(0.5, 1, 8) for name in ("s", "b", "m", "v")}, "p": RANDOM.uniform(0, 1, shape),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], **norm),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.full(shape, 0.5, np.float32))),
        helper.make_node("Add", ["n", "k"], ["a"], **aligned),
        helper.make_node("PRelu", ["a", "p"], ["r"]),
        helper.make_node("Dropout", ["r"], ["d", "mask"], ratio=0.3, **era),
        helper.make_node("Relu", ["d"], ["e"], **consumed),
        helper.make_node("Conv", ["e", "u"], ["y"], kernel_shape=[1, 1]),
    ]
    source = old(nodes, opset, **{name: value.astype(np.float32) for name, value in weights.items()})
    (tmp_path / "old.onnx").write_bytes(source.SerializeToString())
    model = load(tmp_path / "old.onnx")
    channels = couple(model)
    (group,) = channels.free
    assert (group.channels, group.exact) == (8, True)
    kept = random_half(channels)
    assert proven(model, channels, kept).relative_error < 1e-5
    save(cut(model, channels, kept), tmp_path / "small.onnx")
    assert load(tmp_path / "small.onnx").shapes["c"] == (1, 4, 6, 6)
    if opset >= 7:
        theirs = run_unoptimised(source, {"x": X})["y"]
        assert np.allclose(run_unoptimised(model.proto, {"x": X})["y"], theirs, atol=1e-5)
