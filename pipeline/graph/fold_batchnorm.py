"""Batch-norm folded into the linear operator before it: one multiplication and one addition a channel less."""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.editing import Names, add_initialiser, all_captured_names, attribute, copied, is_standard, set_nodes
from pipeline.graph.model import Model, infer_shapes
from pipeline.graph.normalise import dead_nodes_are_gone

FOLDS_INTO = ("Conv", "ConvTranspose", "Gemm")
EPSILON_DEFAULT = 1e-5  # ONNX's own
Constants = Mapping[str, onnx.TensorProto]
Values = NDArray[np.float64]


def fold_batchnorm(model: Model, only: Collection[str] | None = None) -> Model:
    """The same function up to rounding, without the batch-norms that directly follow a Conv, ConvTranspose or Gemm.

    Weights must be constant and the batch-norm the one reader; others stay. `only`: the names of the nodes to fold.
    The operator's tensor and its weights keep their names; a bias it did not have takes the name of the batch-norm's
    shift. The same object where nothing is folded.
    """
    proto = copied(model.proto)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    makers = {node.output[0]: node for node in proto.graph.node if is_standard(node, *FOLDS_INTO)}
    readers = Counter(name for node in proto.graph.node for name in node.input)
    fixed = {value.name for value in proto.graph.output} | all_captured_names(proto.graph)
    names = Names(proto.graph)
    instead: dict[str, str] = {}
    nodes = []
    for node in proto.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = instead.get(name, name)
        wanted = _is_constant(node, constants) and (only is None or node.name in only)
        maker = makers.get(node.input[0]) if wanted else None
        alone = wanted and readers[node.input[0]] == 1 and node.input[0] not in fixed
        if maker is None or not alone or not _folds(maker, constants, readers):
            nodes.append(node)
            continue
        _fold(maker, node, constants, proto.graph, names)
        if node.output[0] in fixed:  # what is seen outside keeps its name
            maker.output[0] = node.output[0]
        else:
            instead[node.output[0]] = node.input[0]
            readers[node.input[0]] = readers[node.output[0]]
    if len(nodes) == len(proto.graph.node):
        return model
    set_nodes(proto.graph, nodes)
    dead_nodes_are_gone(proto, model.bound)
    return Model(proto, model.bound, infer_shapes(proto, model.bound))


def _is_constant(norm: onnx.NodeProto, constants: Constants) -> bool:
    """Whether this is a batch-norm that runs as at inference, its scale, shift and statistics constants."""
    if not is_standard(norm, "BatchNormalization"):
        return False
    trains, spatial = attribute(norm, "training_mode"), attribute(norm, "spatial")
    plain = (trains is None or trains.i == 0) and (spatial is None or spatial.i == 1)
    return plain and sum(map(bool, norm.output)) == 1 and all(name in constants for name in norm.input[1:5])


def _folds(maker: onnx.NodeProto, constants: Constants, readers: Counter[str]) -> bool:
    """Whether weight and bias are constants that nobody else reads, the bias the same for every row of a batch."""
    own = [name for name in maker.input[1:3] if name]
    if len(own) < len(maker.input) - 1 or any(name not in constants or readers[name] != 1 for name in own):
        return False
    return all(size == 1 for name in own[1:] for size in constants[name].dims[:-1])


def _factor(norm: onnx.NodeProto, constants: Constants) -> Values:
    """What each channel is multiplied by."""
    given = attribute(norm, "epsilon")
    epsilon = EPSILON_DEFAULT if given is None else given.f
    return _value(norm.input[1], constants) / np.sqrt(_value(norm.input[4], constants) + epsilon)


def _fold(
    maker: onnx.NodeProto, norm: onnx.NodeProto, constants: Constants, graph: onnx.GraphProto, names: Names
) -> None:
    factor = _factor(norm, constants)
    weight = constants[maker.input[1]]
    dtype = numpy_helper.to_array(weight).dtype
    scaled = _scaled(maker, numpy_helper.to_array(weight).astype(np.float64), factor)
    _write(weight, scaled.astype(dtype))
    before = _value(maker.input[2], constants).reshape(-1) if len(maker.input) > 2 else np.zeros(1)
    beta = attribute(maker, "beta")
    if beta is not None:
        before, beta.f = before * beta.f, 1.0
    shift, mean = (_value(norm.input[position], constants) for position in (2, 3))
    bias = ((before - mean) * factor + shift).astype(dtype)
    if len(maker.input) > 2:
        _write(constants[maker.input[2]], bias)
    elif numpy_helper.to_array(constants[norm.input[2]]).dtype == dtype:
        _write(constants[norm.input[2]], bias)
        maker.input.append(norm.input[2])
    else:
        maker.input.append(add_initialiser(graph, names, f"{maker.name}:bias", bias))


def _scaled(maker: onnx.NodeProto, weight: Values, factor: Values) -> Values:
    """The weight with each output channel multiplied by its factor."""
    if maker.op_type == "ConvTranspose":  # (inputs, outputs of a group, ...): a group's inputs are neighbours
        given = attribute(maker, "group")
        groups = 1 if given is None else given.i
        by_group = weight.reshape(groups, -1, *weight.shape[1:])
        ones = (1,) * (weight.ndim - 2)
        return (by_group * factor.reshape(groups, 1, -1, *ones)).reshape(weight.shape)
    transposed = attribute(maker, "transB")
    axis = 0 if maker.op_type == "Conv" or (transposed is not None and transposed.i) else 1
    return weight * factor.reshape([-1 if position == axis else 1 for position in range(weight.ndim)])


def _value(name: str, constants: Constants) -> Values:
    return numpy_helper.to_array(constants[name]).astype(np.float64)


def _write(tensor: onnx.TensorProto, values: NDArray[np.generic]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
