"""Graphs of any size, built node by node: what analysis is timed on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

OPSET = 17
WIDTH = 16
SIDE = 32


class Sketch:
    """A graph in the making. Every method returns the name of the tensor that it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._generator = np.random.default_rng(seed)

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], f"{operator}{len(self.nodes)}", **attributes)
        )
        return name

    def constant(self, value: ArrayLike, dtype: type = np.float32) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 3) -> str:
        weight = self._generator.standard_normal((outputs, inputs, kernel, kernel), dtype=np.float32)
        return self.op("Conv", x, self.constant(weight / np.sqrt(weight[0].size)), pads=[kernel // 2] * 4)

    def layer(self, x: str, inputs: int, outputs: int, kernel: int = 3) -> str:
        """Convolution, batch-norm, ReLU."""
        parameters = [self.constant(self._generator.uniform(0.5, 1.5, outputs)) for _ in range(4)]
        return self.op("Relu", self.op("BatchNormalization", self.conv(x, inputs, outputs, kernel), *parameters))

    def model(self, output: str, shape: Sequence[int | str]) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
        made = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "sketch", [image], [made], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def residual_and_concat(nodes: int) -> onnx.ModelProto:
    """Residual blocks and inception-like ones in turn: every other block couples channels, every other joins them."""
    sketch = Sketch()
    x = sketch.layer("image", 3, WIDTH)
    while len(sketch.nodes) < nodes - 3:
        x = sketch.op("Add", x, sketch.layer(sketch.layer(x, WIDTH, WIDTH), WIDTH, WIDTH))
        joined = sketch.op("Concat", x, sketch.layer(x, WIDTH, WIDTH, 1), sketch.layer(x, WIDTH, WIDTH), axis=1)
        x = sketch.layer(joined, 3 * WIDTH, WIDTH, 1)
    return _classified(sketch, x)


def shape_arithmetic(nodes: int) -> onnx.ModelProto:
    """Channel shuffles as exporters write them for free sizes: two nodes in three compute the shape of a Reshape."""
    sketch = Sketch()
    x = sketch.layer("image", 3, WIDTH)
    axes = sketch.constant([0], np.int64)
    while len(sketch.nodes) < nodes - 3:
        y = sketch.layer(x, WIDTH, WIDTH)
        shape = sketch.op("Shape", y)
        sizes = [sketch.op("Gather", shape, sketch.constant(axis, np.int64), axis=0) for axis in range(4)]
        half = sketch.op("Div", sizes[1], sketch.constant(2, np.int64))
        lines = [sketch.op("Unsqueeze", size, axes) for size in (*sizes, half)]
        two = sketch.constant([2], np.int64)
        split = sketch.op("Concat", lines[0], two, lines[4], lines[2], lines[3], axis=0)
        turned = sketch.op("Transpose", sketch.op("Reshape", y, split), perm=[0, 2, 1, 3, 4])
        x = sketch.op("Reshape", turned, sketch.op("Concat", *lines[:4], axis=0))
    return _classified(sketch, x)


def wide(weight_bytes: int) -> onnx.ModelProto:
    """A stack of 3x3 convolutions of 1024 channels, with at least `weight_bytes` of weights."""
    channels, sketch = 1024, Sketch()
    x = sketch.layer("image", 3, channels)
    for _ in range(-(-weight_bytes // (channels * channels * 9 * 4))):
        x = sketch.layer(x, channels, channels)
    pooled = sketch.op("GlobalAveragePool", x)
    return sketch.model(pooled, ["batch", channels, 1, 1])


def _classified(sketch: Sketch, x: str) -> onnx.ModelProto:
    flat = sketch.op("Flatten", sketch.op("GlobalAveragePool", x))
    weight, bias = sketch.constant(np.ones((10, WIDTH))), sketch.constant(np.zeros(10))
    return sketch.model(sketch.op("Gemm", flat, weight, bias, transB=1), ["batch", 10])


FAMILIES: dict[str, Callable[[int], onnx.ModelProto]] = {
    "residual and concat": residual_and_concat,
    "shape arithmetic": shape_arithmetic,
}
