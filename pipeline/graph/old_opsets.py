"""Files from before opset 7, the first one whose operators have the meaning they have today, are brought up to it.

The converter of the onnx package is not used: it places an old `axis` of Add wrongly, and leaves what it does not know.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from onnx import helper, shape_inference

from pipeline.graph.editing import (
    STANDARD_DOMAINS,
    Names,
    add_initialiser,
    attribute,
    copied,
    is_standard,
    opset,
    set_nodes,
)
from targets.errors import BadInput

LOWEST_OPSET = 7  # the first that ONNX Runtime runs, so the first on which a cut can be proven
FAILURES = (ValueError, EncodeError, RuntimeError, shape_inference.InferenceError, onnx.checker.ValidationError)


@dataclass(frozen=True)
class Around:
    """What an edit may ask and add: the rank of every tensor where it is known, and nodes that go before this one."""

    graph: onnx.GraphProto
    names: Names
    ranks: Mapping[str, int]
    before: list[onnx.NodeProto]


Edit = Callable[[onnx.NodeProto, Around], None]


def at_least_lowest(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 7 where it was older, else itself. Raises BadInput where that is not known to be the same."""
    version = opset(proto)
    if version >= LOWEST_OPSET:
        return proto
    newer = copied(proto)
    try:
        around = Around(newer.graph, Names(newer.graph), _ranks(proto), [])
        nodes = []
        for node in newer.graph.node:
            _edit(node, around)
            nodes += [*around.before, node]
            around.before.clear()
        set_nodes(newer.graph, nodes)
        for entry in newer.opset_import:
            if entry.domain in STANDARD_DOMAINS:
                entry.version = LOWEST_OPSET
        onnx.checker.check_model(newer)
    except (
        ValueError,
        EncodeError,
        RuntimeError,
        shape_inference.InferenceError,
        onnx.checker.ValidationError,
    ) as error:
        raise BadInput(
            f"The model speaks opset {version} and cannot be brought to {LOWEST_OPSET} with its meaning kept: "
            f"{' '.join(str(error).split())[:300]}. Export it again with a newer opset."
        ) from error
    return newer


def _ranks(proto: onnx.ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(proto).graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            ranks[value.name] = len(value.type.tensor_type.shape.dim)
    for node in graph.node:  # of several first versions, inference knows nothing
        if is_standard(node, *KEEP_RANK) and node.input and node.input[0] in ranks:
            ranks.setdefault(node.output[0], ranks[node.input[0]])
    return ranks


def _edit(node: onnx.NodeProto, around: Around) -> None:
    if not is_standard(node, *SAME, *EDITS):
        raise ValueError(f"it is not known how to write {node.op_type} ({node.name or node.output[0]})")
    _drop(node, "consumed_inputs")  # said which inputs may be overwritten
    if node.op_type in EDITS:
        EDITS[node.op_type](node, around)


def broadcast(node: onnx.NodeProto, around: Around) -> None:
    """The second input began at `axis` of the first one, or ended where it ends; today it always ends there."""
    axis = attribute(node, "axis")
    if axis is not None and _drop(node, "broadcast"):
        a, b = (around.ranks.get(name) for name in node.input)
        if a is None or b is None:
            raise ValueError(f"the ranks that {node.op_type} ({node.name or node.output[0]}) adds are not known")
        trailing = a - b - (axis.i + a if axis.i < 0 else axis.i)
        if trailing > 0:
            node.input[1] = _unsqueezed(node.input[1], range(b, b + trailing), around)
    _drop(node, "broadcast", "axis")


def slope_by_channel(node: onnx.NodeProto, around: Around) -> None:
    """A slope was one number a channel, whatever its rank; today it broadcasts along the last axis."""
    rank, slope = around.ranks.get(node.input[0]), around.ranks.get(node.input[1])
    if rank is None or slope is None:
        raise ValueError(f"the ranks of PRelu ({node.name or node.output[0]}) are not known")
    if slope == 1 and rank > 2:
        node.input[1] = _unsqueezed(node.input[1], range(1, rank - 1), around)


def inference_only(node: onnx.NodeProto, around: Around) -> None:
    _drop(node, "is_test")


def broadcast_addend(node: onnx.NodeProto, around: Around) -> None:
    _drop(node, "broadcast")


def shape_as_input(node: onnx.NodeProto, around: Around) -> None:
    shape = attribute(node, "shape")
    if shape is not None:
        values = np.asarray(shape.ints, np.int64)
        node.input.append(_constant(values, f"{node.output[0]}:shape", around))
        _drop(node, "shape")


def stated_axis(node: onnx.NodeProto, around: Around) -> None:
    if attribute(node, "axis") is None:
        node.attribute.append(helper.make_attribute("axis", 1))


def pads_by_their_name(node: onnx.NodeProto, around: Around) -> None:
    paddings = attribute(node, "paddings")
    if paddings is not None:
        paddings.name = "pads"


def scales_in_one(node: onnx.NodeProto, around: Around) -> None:
    height, width = attribute(node, "height_scale"), attribute(node, "width_scale")
    if height is not None and width is not None:
        scales = [1.0, 1.0, height.f, width.f]
        _drop(node, "height_scale", "width_scale")
        node.attribute.append(helper.make_attribute("scales", scales))


# What was written otherwise before opset 7.
EDITS: Mapping[str, Edit] = {
    "Add": broadcast, "Sub": broadcast, "Mul": broadcast, "Div": broadcast, "Pow": broadcast,
    "PRelu": slope_by_channel, "BatchNormalization": inference_only, "Dropout": inference_only,
    "Gemm": broadcast_addend, "Reshape": shape_as_input, "Concat": stated_axis, "Pad": pads_by_their_name,
    "Upsample": scales_in_one,
}  # fmt: skip
KEEP_RANK = {
    "Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "ConvTranspose", "Div", "Dropout", "Elu", "Exp",
    "GlobalAveragePool", "GlobalMaxPool", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "MaxPool", "Mul",
    "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softmax", "Sub", "Tanh", "Transpose", "Upsample",
}  # fmt: skip
# What means the same in every opset from 1 to 7.
SAME = {
    "Abs", "AveragePool", "Ceil", "Clip", "Constant", "Conv", "ConvTranspose", "Elu", "Exp", "Flatten", "Floor",
    "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Log",
    "LogSoftmax", "MatMul", "Max", "MaxPool", "Mean", "Min", "Neg", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceSum", "Relu", "Selu", "Sigmoid", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth",
    "DepthToSpace", "Sqrt", "Squeeze", "Sum", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip


def _unsqueezed(name: str, axes: range, around: Around) -> str:
    made = around.names.fresh(f"{name}:aligned")
    around.before.append(helper.make_node("Unsqueeze", [name], [made], axes=list(axes)))
    return made


def _constant(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]], name: str, around: Around) -> str:
    """An initialiser; before IR version 4 it has to be listed as an input too."""
    made = add_initialiser(around.graph, around.names, name, values)
    around.graph.input.append(helper.make_tensor_value_info(made, onnx.TensorProto.INT64, values.shape))
    return made


def _drop(node: onnx.NodeProto, *names: str) -> bool:
    """Whether any of the attributes was there; none is any more."""
    kept = [entry for entry in node.attribute if entry.name not in names]
    dropped = len(kept) < len(node.attribute)
    del node.attribute[:]
    node.attribute.extend(kept)
    return dropped
