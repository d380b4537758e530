"""The smallest models that show what the tests claim, built node by node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Dims],
    outputs: dict[str, Dims],
    weights: dict[str, "np.ndarray[Any, Any]"],
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def residual(channels: int = 20, size: int = 8) -> onnx.ModelProto:
    """conv, bn, relu, conv, add, relu, conv, pool; widths off every vector block, names with slashes, dots, colons."""
    rng = np.random.default_rng(0)
    c = channels

    def normal(*shape: int) -> "np.ndarray[Any, Any]":
        return (rng.standard_normal(shape) / 10).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x/in:0", "w1"], ["a/conv:0"], "a/conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a/conv:0", "s", "b", "m", "v"], ["a/bn:0"], "a/bn"),
        helper.make_node("Relu", ["a/bn:0"], ["a.relu"], "a/relu"),
        helper.make_node("Conv", ["a.relu", "w2"], ["b/conv:0"], "b/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b/conv:0", "a.relu"], ["b/sum"], "b/add"),
        helper.make_node("Relu", ["b/sum"], ["b.relu"], "b/relu"),
        helper.make_node("Conv", ["b.relu", "w3"], ["c/conv:0"], "c/conv"),
        helper.make_node("GlobalAveragePool", ["c/conv:0"], ["y"], "c/pool"),
    ]
    weights = {
        "w1": normal(c, 3, 3, 3),
        "w2": normal(c, c, 3, 3),
        "w3": normal(6, c, 1, 1),
        "s": normal(c),
        "b": normal(c),
        "m": normal(c),
        "v": np.abs(normal(c)) + 1,
    }
    return model_of(nodes, {"x/in:0": ["N", 3, size, size]}, {"y": ["N", 6, 1, 1]}, weights)


def elementwise(shape: Dims = (1, 3, "height", 4)) -> onnx.ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": shape}, {"y": shape}, {})


def slow() -> onnx.ModelProto:
    """Tens of milliseconds a run, so that a session lasts long enough to be disturbed."""
    weights = {"w": np.ones((256, 64, 7, 7), np.float32)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    return model_of([node], {"x": [1, 64, 96, 96]}, {"y": [1, 256, 90, 90]}, weights)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path
