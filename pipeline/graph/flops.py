"""What a graph costs on paper: multiply-adds, parameters, bytes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import numpy_helper

from pipeline.graph.model import Model
from pipeline.graph.quanta import quantised_values

# Operator: what it counts as, and the input that holds its weight.
COUNTED: Mapping[str, tuple[Literal["Conv", "ConvTranspose", "product"], int]] = {
    "Conv": ("Conv", 1),
    "FusedConv": ("Conv", 1),
    "ConvInteger": ("Conv", 1),
    "QLinearConv": ("Conv", 3),
    "ConvTranspose": ("ConvTranspose", 1),
    "Gemm": ("product", 1),
    "MatMul": ("product", 1),
    "MatMulInteger": ("product", 1),
    "QLinearMatMul": ("product", 3),
    "QGemm": ("product", 3),
}


@dataclass(frozen=True)
class PaperCost:
    """`flops` are multiply-adds of convolutions and matrix products, for one input at the bound shapes."""

    flops: int
    params: int


def paper_cost(model: Model) -> PaperCost:
    flops = sum(node_flops(node, model) for node in model.proto.graph.node)
    return PaperCost(flops, parameters(model.proto))


def parameters(proto: onnx.ModelProto) -> int:
    """Elements of floating-point initialisers that nodes read, and of those that hold quantised values."""
    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    integers = quantised_values(proto)
    return sum(
        math.prod(tensor.dims)
        for tensor in proto.graph.initializer
        if tensor.data_type in floating or tensor.name in integers
    )


def node_flops(node: onnx.NodeProto, model: Model) -> int:
    """Multiply-adds of one node; 0 for everything that is neither a convolution nor a matrix product."""
    if node.op_type not in COUNTED:
        return 0
    kind, weight = COUNTED[node.op_type]
    left, right, out = (model.shapes.get(name) for name in (node.input[0], node.input[weight], node.output[0]))
    if left is None or right is None or out is None:
        return 0
    if kind == "Conv":
        return math.prod(out) * math.prod(right[1:])
    if kind == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(out) * (left[0] if transposed else left[-1])


def weight_bytes(proto: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in proto.graph.initializer)
