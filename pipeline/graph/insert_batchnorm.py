"""Batch-norm put back behind convolutions that an exporter folded it into.

With the mean and variance of what the convolution gives, and a scale and shift that undo them, a batch-norm changes
nothing at inference; in training it normalises again, as it did when the network was first trained.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipeline.graph.editing import Names, add_initialiser, all_captured_names, copied, is_standard, opset, set_nodes
from pipeline.graph.model import Model, infer_shapes
from pipeline.graph.normalise import dead_nodes_are_gone
from targets.errors import BadInput

CONVOLUTIONS = ("Conv", "ConvTranspose")
LINEAR = (*CONVOLUTIONS, "Gemm", "MatMul")
# What is read like this carried no batch-norm: it is normalised in another way, or taken apart into tokens or pixels.
NOT_AFTER_BATCHNORM = {
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "Transpose", "Reshape",
    "Flatten", "DepthToSpace",
}  # fmt: skip
# That of the training frameworks. A dead channel has variance 0, and its scale is then sqrt(EPSILON): finite, and the
# quotient is 1 all the same.
EPSILON = 1e-5
FIRST_PLAIN_OPSET = 7  # before, BatchNormalization says in an attribute whether it trains


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance, float64, of each channel (axis 1) of a tensor over samples and positions."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


def folded_convolutions(model: Model) -> tuple[str, ...]:
    """The tensors made by convolutions that plausibly had a batch-norm behind them, in graph order.

    Folding leaves a bias, so there is one, and weights are constant floats. Another linear operator comes later: a
    network's last layer has no batch-norm. There is more than one position: squeeze-and-excite has none either. Nobody
    outside of the graph sees the tensor, and no reader is among NOT_AFTER_BATCHNORM.
    """
    graph = model.proto.graph
    if opset(model.proto) < FIRST_PLAIN_OPSET:
        return ()
    constants = {tensor.name: tensor for tensor in graph.initializer}
    seen_outside = {value.name for value in graph.output} | all_captured_names(graph)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    before_linear = _read_by_linear_later(graph)
    return tuple(
        node.output[0]
        for node in graph.node
        if is_standard(node, *CONVOLUTIONS)
        and len(node.input) == 3
        and all(name in constants and len(readers[name]) == 1 for name in node.input[1:])
        and constants[node.input[1]].data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
        and node.output[0] not in seen_outside
        and node.output[0] in before_linear
        and math.prod(model.shapes.get(node.output[0], ())[2:]) > 1
        and not any(reader.op_type in NOT_AFTER_BATCHNORM for reader in readers[node.output[0]])
    )


def normalised_convolutions(model: Model) -> int:
    """How many convolutions have a batch-norm behind them."""
    made = {node.output[0] for node in model.proto.graph.node if is_standard(node, *CONVOLUTIONS)}
    norms = (node for node in model.proto.graph.node if is_standard(node, "BatchNormalization"))
    return sum(node.input[0] in made for node in norms)


def batchnorm_name(tensor: str) -> str:
    """The name of the node that `insert_batchnorm` puts behind `tensor`."""
    return f"{tensor}:batchnorm"


def insert_batchnorm(model: Model, statistics: Mapping[str, Moments]) -> Model:
    """The same function, with a batch-norm behind each tensor of `statistics`, all of them `folded_convolutions`.

    Tensors, nodes and weights keep their names; all readers of the tensor read the batch-norm. The convolution loses
    its bias: the batch-norm's shift, which carries the bias's name, makes up for it. BadInput where statistics do not
    fit the tensor or are not finite.
    """
    possible = set(folded_convolutions(model))
    strangers = sorted(set(statistics) - possible)
    if strangers:
        raise BadInput(f"No batch-norm can be put behind {strangers[0]!r}: it is made by no convolution that had one.")
    proto = copied(model.proto)
    names = Names(proto.graph)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    instead = {tensor: names.fresh(batchnorm_name(tensor)) for tensor in statistics}
    nodes = []
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            if name in instead:
                node.input[position] = instead[name]
        nodes.append(node)
        if node.output[0] in instead:
            tensor = node.output[0]
            bias = constants[node.input[2]]
            values = _parameters(tensor, numpy_helper.to_array(bias), statistics[tensor])
            scale, mean, variance = (
                add_initialiser(proto.graph, names, f"{tensor}:{what}", values[what])
                for what in ("scale", "mean", "variance")
            )
            bias.CopyFrom(numpy_helper.from_array(values["shift"], bias.name))
            inputs = [tensor, scale, bias.name, mean, variance]
            nodes.append(
                helper.make_node(
                    "BatchNormalization", inputs, [instead[tensor]], batchnorm_name(tensor), epsilon=EPSILON
                )
            )
            del node.input[2]
    set_nodes(proto.graph, nodes)
    dead_nodes_are_gone(proto, model.bound)
    return Model(proto, model.bound, infer_shapes(proto, model.bound))


def _parameters(tensor: str, bias: NDArray[np.generic], moments: Moments) -> dict[str, NDArray[np.generic]]:
    """What undoes the normalisation; in the bias's own type. The mean is that of the output without the bias."""
    for values in (moments.mean, moments.variance):
        if values.shape != bias.shape or not np.isfinite(values).all() or (moments.variance < 0).any():
            raise BadInput(
                f"The statistics of {tensor!r} are not finite, or not one number for each of {bias.size} channels. "
                "Check the data's scale and the weights."
            )
    found = {
        "scale": np.sqrt(moments.variance + EPSILON),
        "shift": moments.mean,
        "mean": moments.mean - bias.astype(np.float64),
        "variance": moments.variance,
    }
    return {name: values.astype(bias.dtype) for name, values in found.items()}


def _read_by_linear_later(graph: onnx.GraphProto) -> set[str]:
    """Tensors from which a way leads to a linear operator."""
    found: set[str] = set()
    for node in reversed(graph.node):
        if is_standard(node, *LINEAR) or found.intersection(node.output):
            found.update(node.input)
    return found
