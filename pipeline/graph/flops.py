"""What a graph costs on paper: multiply-adds, parameters, bytes."""

import math
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from pipeline.graph.model import Model


@dataclass(frozen=True)
class PaperCost:
    """`flops` are multiply-adds of convolutions and matrix products, for one input at the bound shapes."""

    flops: int
    params: int


def paper_cost(model: Model) -> PaperCost:
    flops = sum(node_flops(node, model) for node in model.proto.graph.node)
    return PaperCost(flops, parameters(model.proto))


def parameters(proto: onnx.ModelProto) -> int:
    """Elements of floating-point initialisers that nodes read."""
    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    return sum(math.prod(tensor.dims) for tensor in proto.graph.initializer if tensor.data_type in floating)


def node_flops(node: onnx.NodeProto, model: Model) -> int:
    """Multiply-adds of one node; 0 for everything that is neither a convolution nor a matrix product."""
    if node.op_type not in ("Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul"):
        return 0
    left, right, out = (model.shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
    if left is None or right is None or out is None:
        return 0
    if node.op_type in ("Conv", "FusedConv"):
        return math.prod(out) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(out) * (left[0] if transposed else left[-1])


def weight_bytes(proto: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in proto.graph.initializer)
