"""Small networks written the way converters that cannot be run here write them: names, old operator sets, detours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int]


class Writer:
    """Nodes and random weights, named as asked."""

    def __init__(self, opset: int, image: Shape) -> None:
        self.opset, self.image = opset, image
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output.split("_Output")[0], **attributes))
        return output

    def weight(self, name: str, *shape: int, about: float = 0.0) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        gain = 0.2 if about or len([size for size in shape if size > 1]) < 2 else (2 / fan_in) ** 0.5
        return self.value(name, (about + gain * self._random.standard_normal(shape)).astype(np.float32))

    def variance(self, name: str, size: int) -> str:
        return self.value(name, self._random.uniform(0.5, 1.5, size).astype(np.float32))

    def value(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def constant(self, name: str, value: Any) -> str:
        """As a node, not as an initialiser."""
        self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value))))
        return name

    def finish(
        self, source: str, output: str, *, listed: bool = False, constants: bool = False, free: bool = False
    ) -> onnx.ModelProto:
        """`listed`: initialisers stand among the inputs. `constants`: they are Constant nodes. `free`: batch is."""
        image = list(self.image)
        inputs = [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["N", *image[1:]] if free else image)]
        if listed:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.weights]
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in self.weights] if constants else []
        shown = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(nodes + self.nodes, "main", inputs, shown, [] if constants else self.weights)
        version = 3 if listed else 7
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=version)


def cntk() -> onnx.ModelProto:
    """Operator set 8: SAME_UPPER padding, biases as Plus, weights of the dense layer reshaped in the graph."""
    w = Writer(8, (1, 1, 28, 28))
    x = "Input3"
    for number, (source, target, kernel) in enumerate(((1, 8, 5), (8, 16, 3), (16, 16, 3))):
        weight = w.weight(f"Parameter{5 + 82 * number}", target, source, kernel, kernel)
        x = w.node(
            "Conv", [x, weight], f"Convolution{28 + 82 * number}_Output_0", auto_pad="SAME_UPPER", group=1,
            kernel_shape=[kernel, kernel], strides=[1, 1], dilations=[1, 1],
        )  # fmt: skip
        bias = w.weight(f"Parameter{6 + 82 * number}", target, 1, 1)
        x = w.node("Add", [x, bias], f"Plus{30 + 82 * number}_Output_0")
        names = [f"{part}{number}" for part in ("scale", "bias", "mean", "variance")]
        given = [w.weight(names[0], target, about=1), *(w.weight(name, target) for name in names[1:3])]
        given.append(w.variance(names[3], target))
        x = w.node("BatchNormalization", [x, *given], f"BatchNormalization{number}_Output_0", epsilon=1e-5, spatial=1)
        x = w.node("Relu", [x], f"ReLU{32 + 82 * number}_Output_0")
        if number < 2:
            x = w.node(
                "MaxPool", [x], f"Pooling{66 + 94 * number}_Output_0", auto_pad="NOTSET", kernel_shape=[2, 2],
                strides=[2, 2], pads=[0, 0, 0, 0],
            )  # fmt: skip
    x = w.node("Reshape", [x, w.value("Times212_reshape0_shape", np.asarray([1, 784]))], "Times212_reshape0")
    dense = w.weight("Parameter193", 16, 7, 7, 10)
    dense = w.node("Reshape", [dense, w.value("Parameter193_shape", np.asarray([784, 10]))], "Parameter193_reshape1")
    x = w.node("MatMul", [x, dense], "Times212_Output_0")
    x = w.node("Add", [x, w.weight("Parameter194", 1, 10)], "Plus214_Output_0")
    return w.finish("Input3", x, listed=True)


def mxnet() -> onnx.ModelProto:
    """Operator set 8: initialisers listed as inputs, scales of one (fix_gamma), leaky slopes as (C, 1, 1), Flatten."""
    w = Writer(8, (1, 3, 16, 16))

    def norm(x: str, name: str, width: int, fixed: bool) -> str:
        gamma = f"{name}_gamma"
        gamma = w.value(gamma, np.ones(width, np.float32)) if fixed else w.weight(gamma, width, about=1)
        given = [gamma, w.weight(f"{name}_beta", width), w.weight(f"{name}_moving_mean", width)]
        given.append(w.variance(f"{name}_moving_var", width))
        return w.node("BatchNormalization", [x, *given], name, epsilon=2e-5, momentum=0.9)

    def conv(x: str, name: str, source: int, target: int, stride: int = 1, group: int = 1, kernel: int = 3) -> str:
        weight = w.weight(f"{name}_weight", target, source // group, kernel, kernel)
        pads = [kernel // 2] * 4
        return w.node(
            "Conv", [x, weight], name, kernel_shape=[kernel, kernel], strides=[stride, stride], pads=pads, group=group,
            dilations=[1, 1],
        )  # fmt: skip

    x = norm("data", "bn_data", 3, fixed=True)
    x = norm(conv(x, "conv0", 3, 8), "bn0", 8, fixed=False)
    x = w.node("PRelu", [x, w.weight("relu0_gamma", 8, 1, 1)], "relu0")
    y = norm(x, "stage1_unit1_bn1", 8, fixed=False)
    y = conv(y, "stage1_unit1_conv1", 8, 16, kernel=1)
    y = w.node("LeakyRelu", [norm(y, "stage1_unit1_bn2", 16, fixed=False)], "stage1_unit1_relu1", alpha=0.25)
    y = norm(conv(y, "stage1_unit1_conv2", 16, 16, 2, 16), "stage1_unit1_bn3", 16, fixed=True)
    y = conv(y, "stage1_unit1_conv3", 16, 12, kernel=1)
    shortcut = norm(conv(x, "stage1_unit1_conv1sc", 8, 12, 2, kernel=1), "stage1_unit1_sc", 12, fixed=False)
    x = w.node("Add", [y, shortcut], "_plus0")
    x = w.node("AveragePool", [x], "pool1", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    x = w.node("Dropout", [x], "dropout0", ratio=0.4)
    x = w.node("Flatten", [x], "flatten0")
    x = w.node("Gemm", [x, w.weight("fc1_weight", 24, 192), w.weight("fc1_bias", 24)], "pre_fc1", transB=1)
    x = norm(x, "fc1", 24, fixed=True)
    x = w.node("Gemm", [x, w.weight("fc2_weight", 5, 24), w.weight("fc2_bias", 5)], "fc2", transB=1)
    return w.finish("data", x, listed=True)


def paddle() -> onnx.ModelProto:
    """Operator set 11: every weight a Constant node, biases reshaped to (1, C, 1, 1), hard swish in single steps,
    squeeze-and-excite, sizes from Shape, Slice and Concat for Resize, Scale as Mul and Add."""
    w = Writer(11, (1, 3, 16, 16))
    made = [0]

    def name(kind: str) -> str:
        made[0] += 1
        return f"p2o.{kind}.{made[0]}"

    def number(value: Any) -> str:
        return w.constant(name("Constant"), value)

    def conv(x: str, source: int, target: int, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        weight = w.weight(name("conv2d.w"), target, source // group, kernel, kernel)
        pads = [kernel // 2] * 4
        x = w.node(
            "Conv", [x, weight], name("Conv"), kernel_shape=[kernel, kernel], strides=[stride, stride], pads=pads,
            group=group, dilations=[1, 1],
        )  # fmt: skip
        bias = w.weight(name("conv2d.b"), target)
        shaped = w.node("Reshape", [bias, number(np.asarray([1, target, 1, 1]))], name("Reshape"))
        return w.node("Add", [x, shaped], name("Add"))

    def hard_swish(x: str) -> str:
        y = w.node("Add", [x, number(np.asarray([3], np.float32))], name("Add"))
        y = w.node("Clip", [y, number(np.asarray(0, np.float32)), number(np.asarray(6, np.float32))], name("Clip"))
        y = w.node("Mul", [x, y], name("Mul"))
        return w.node("Div", [y, number(np.asarray([6], np.float32))], name("Div"))

    def scaled(x: str, width: int) -> str:
        gain = w.weight(name("scale"), width, about=1)
        for start in (1, 2):
            gain = w.node("Unsqueeze", [gain], name("Unsqueeze"), axes=[start])
        x = w.node("Mul", [x, gain], name("Mul"))
        return w.node("Add", [x, w.weight(name("shift"), 1, width, 1, 1)], name("Add"))

    def gate(x: str, width: int) -> str:
        y = w.node("GlobalAveragePool", [x], name("GlobalAveragePool"))
        y = w.node("Relu", [conv(y, width, 4, 1)], name("Relu"))
        y = w.node("HardSigmoid", [conv(y, 4, width, 1)], name("HardSigmoid"), alpha=0.2, beta=0.5)
        return w.node("Mul", [x, y], name("Mul"))

    fine = hard_swish(conv("x", 3, 8))
    x = w.node("MaxPool", [fine], name("MaxPool"), kernel_shape=[2, 2], strides=[2, 2])
    x = hard_swish(scaled(conv(x, 8, 16, 1), 16))
    x = gate(hard_swish(conv(x, 16, 16, 3, 1, 16)), 16)
    lateral = conv(x, 16, 8, 1)
    sizes = w.node("Shape", [fine], name("Shape"))
    bounds = [number(np.asarray([value])) for value in (2, 4, 0)]
    wide = w.node("Slice", [sizes, *bounds], name("Slice"))
    own = w.node("Shape", [lateral], name("Shape"))
    own = w.node("Slice", [own, number(np.asarray([0])), bounds[0], bounds[2]], name("Slice"))
    wide = w.node("Cast", [wide], name("Cast"), to=TensorProto.INT64)
    target = w.node("Concat", [own, wide], name("Concat"), axis=0)
    empty = number(np.zeros(0, np.float32))
    x = w.node(
        "Resize", [lateral, empty, empty, target], name("Resize"), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    x = w.node("Concat", [fine, x], name("Concat"), axis=1)
    x = w.node("Relu", [conv(x, 16, 12)], name("Relu"))
    x = w.node("GlobalAveragePool", [x], name("GlobalAveragePool"))
    batch = w.node("Shape", [x], name("Shape"))
    batch = w.node("Slice", [batch, bounds[2], number(np.asarray([1])), bounds[2]], name("Slice"))
    flat = w.node("Concat", [batch, number(np.asarray([-1]))], name("Concat"), axis=0)
    x = w.node("Reshape", [x, flat], name("Reshape"))
    x = w.node("MatMul", [x, w.weight("linear.w", 12, 5)], name("MatMul"))
    x = w.node("Add", [x, w.weight("linear.b", 5)], name("Add"))
    return w.finish("x", x, constants=True, free=True)


def coreml() -> onnx.ModelProto:
    """Operator set 9: an image scaled and shifted per channel, cropping by negative Pad and by Slice, Upsample,
    batch-norm without a convolution before it, axes swapped and swapped back."""
    w = Writer(9, (1, 3, 16, 16))

    def conv(x: str, name: str, source: int, target: int, kernel: int = 3, stride: int = 1) -> str:
        given = [w.weight(f"{name}_W", target, source, kernel, kernel), w.weight(f"{name}_B", target)]
        return w.node(
            "Conv", [x, *given], name, kernel_shape=[kernel, kernel], strides=[stride, stride], auto_pad="SAME_UPPER"
        )

    x = w.node("Mul", ["image", w.value("scale", np.full(1, 0.5, np.float32))], "image_scaled")
    x = w.node("Add", [x, w.weight("image_bias", 3, 1, 1)], "image_shifted")
    skip = x = w.node("Relu", [conv(x, "conv1", 3, 8)], "relu1")
    x = w.node("Pad", [x], "padded", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.0)
    x = w.node("MaxPool", [x], "pool1", kernel_shape=[2, 2], strides=[2, 2])
    x = w.node("LeakyRelu", [conv(x, "conv2", 8, 12)], "leaky2", alpha=0.1)
    given = [w.weight("bn_gamma", 12, about=1), w.weight("bn_beta", 12), w.weight("bn_mean", 12)]
    given.append(w.variance("bn_var", 12))
    x = w.node("BatchNormalization", [x, *given], "bn", epsilon=1e-3, momentum=0.0)
    x = w.node("Upsample", [x, w.value("scales", np.asarray([1, 1, 2, 2], np.float32))], "upsampled", mode="nearest")
    x = w.node("Slice", [x], "cropped", axes=[2, 3], starts=[1, 1], ends=[17, 17])
    x = w.node("Concat", [x, skip], "joined", axis=1)
    x = w.node("Elu", [conv(x, "conv3", 20, 12)], "elu3", alpha=1.0)
    x = w.node("Transpose", [x], "swapped", perm=[0, 2, 3, 1])
    x = w.node("Transpose", [x], "back", perm=[0, 3, 1, 2])
    x = w.node("ReduceMean", [x], "mean", axes=[2, 3], keepdims=1)
    x = w.node("Flatten", [x], "flat", axis=1)
    x = w.node("Gemm", [x, w.weight("dense_W", 5, 12), w.weight("dense_B", 5)], "classLabelProbs", transB=1)
    return w.finish("image", x)


def keras() -> onnx.ModelProto:
    """Operator set 10, as keras2onnx: channels last at the ends and around what has no other form, batch-norm behind
    its convolution, dense layers as MatMul and Add, global pooling as ReduceMean, separable convolutions."""
    w = Writer(10, (1, 16, 16, 3))

    def conv(x: str, name: str, source: int, target: int, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        weight = w.weight(f"{name}/kernel", target, source // group, kernel, kernel)
        x = w.node(
            "Conv", [x, weight], f"{name}/convolution", kernel_shape=[kernel, kernel], strides=[stride, stride],
            auto_pad="SAME_UPPER", group=group,
        )  # fmt: skip
        given = [w.weight(f"{name}/gamma", target, about=1), w.weight(f"{name}/beta", target)]
        given += [w.weight(f"{name}/mean", target), w.variance(f"{name}/variance", target)]
        return w.node("BatchNormalization", [x, *given], f"{name}/bn", epsilon=1e-3, momentum=0.99)

    x = w.node("Transpose", ["input_1"], "adjusted_input1", perm=[0, 3, 1, 2])
    x = w.node("Relu", [conv(x, "conv2d", 3, 8, stride=2)], "re_lu")
    y = w.node("Relu", [conv(x, "expand", 8, 24, 1)], "re_lu_1")
    y = w.node("Clip", [conv(y, "depthwise", 24, 24, group=24)], "re_lu6", min=0.0, max=6.0)
    pooled = w.node("Transpose", [y], "to_nhwc", perm=[0, 2, 3, 1])
    pooled = w.node("ReduceMean", [pooled], "squeeze", axes=[1, 2], keepdims=0)
    gate = w.node("MatMul", [pooled, w.weight("se/kernel", 24, 6)], "se/dense")
    gate = w.node("Relu", [w.node("Add", [gate, w.weight("se/bias", 6)], "se/add")], "se/relu")
    gate = w.node("MatMul", [gate, w.weight("se/kernel2", 6, 24)], "se/dense2")
    gate = w.node("Sigmoid", [w.node("Add", [gate, w.weight("se/bias2", 24)], "se/add2")], "se/sigmoid")
    gate = w.node("Reshape", [gate, w.value("se/shape", np.asarray([-1, 1, 1, 24]))], "se/reshape")
    gate = w.node("Transpose", [gate], "se/nchw", perm=[0, 3, 1, 2])
    y = conv(w.node("Mul", [y, gate], "multiply"), "project", 24, 8, 1)
    x = w.node("Add", [x, y], "add")
    x = w.node("Relu", [conv(x, "last", 8, 16)], "re_lu_2")
    x = w.node("Transpose", [x], "last_nhwc", perm=[0, 2, 3, 1])
    x = w.node("Reshape", [x, w.value("flatten/shape", np.asarray([-1, 1024]))], "flatten")
    x = w.node("MatMul", [x, w.weight("dense/kernel", 1024, 12)], "dense/matmul")
    x = w.node("Relu", [w.node("Add", [x, w.weight("dense/bias", 12)], "dense/add")], "dense/relu")
    x = w.node("MatMul", [x, w.weight("dense_1/kernel", 12, 5)], "dense_1/matmul")
    x = w.node("Add", [x, w.weight("dense_1/bias", 5)], "dense_1")
    return w.finish("input_1", x, free=True)
