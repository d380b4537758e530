"""Operators that shape inference cannot see into: bodies, and domains it does not know.

What they make has the shape that the file declares, or that a run shows. Nobody cuts what they read or make, so a cut
changes neither.
"""

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.graph.editing import bodies, copied, is_standard
from pipeline.graph.execute import Runner
from pipeline.graph.feeds import draw
from pipeline.graph.normalise import dead_nodes_are_gone
from pipeline.graph.shapes import Shapes, infer_shapes, is_opaque
from targets.errors import BadInput

RUNS = 2  # a shape that differs from one random input to the next is none to rely on
# Files from strangers are opened too: what a run may take is known before it is made.
MAX_ELEMENTS = 2**28
MAX_TRIPS = 1000
# What can make a tensor of any size from a few numbers.
GROWING = {
    "Expand", "ConstantOfShape", "Range", "Tile", "Pad", "Resize", "Upsample", "OneHot", "RandomNormal",
    "RandomUniform", "Reshape", "ConcatFromSequence", "SequenceInsert",
}  # fmt: skip


def declare_opaque(proto: onnx.ModelProto, source: onnx.GraphProto, bound: Shapes) -> None:
    """Write into `proto` the shapes of what opaque operators make, so that inference goes on behind them.

    They are taken from `source`, what the file as it came says of its inputs and tensors; those of bodies that cannot
    run away from runs on random inputs at the bound shapes, one after the other.
    """
    shown = {value.name for value in proto.graph.output}
    made = {name for node in proto.graph.node if is_opaque(node) for name in node.output if name} - shown
    if not made:
        return
    said = _declared(source, bound)
    proto.graph.value_info.extend(said[name] for name in sorted(made & set(said)))
    while names := _next(proto, made, bound):
        proto.graph.value_info.extend(_observed(proto, names, bound))
        made -= set(names)


def _next(proto: onnx.ModelProto, made: set[str], bound: Shapes) -> list[str]:
    """Of the first body whose results are not known, though all that it reads is, the results."""
    shapes = infer_shapes(proto, bound)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    if sum(math.prod(shape) for shape in shapes.values()) > MAX_ELEMENTS:
        return []
    for node in proto.graph.node:
        unknown = [name for name in node.output if name in made and name not in shapes]
        if (
            unknown
            and is_standard(node)
            and _ends(node, constants)
            and all(name in shapes for name in node.input if name)
        ):
            return unknown
    return []


def _ends(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether the node, and all in its bodies, runs a bounded number of times on tensors of a bounded size."""
    if node.op_type == "Loop":
        trips = constants.get(node.input[0])
        if trips is None or not 0 <= int(numpy_helper.to_array(trips).reshape(-1)[0]) <= MAX_TRIPS:
            return False
    inner = [other for body in bodies(node) for other in body.node]
    return all(is_standard(other) and other.op_type not in GROWING and _ends(other, constants) for other in inner)


def _declared(source: onnx.GraphProto, bound: Shapes) -> dict[str, onnx.ValueInfoProto]:
    """What the file says of its tensors, where all sizes are known at the bound shapes."""
    sizes = {
        dim.dim_param: size
        for value in source.input
        for dim, size in zip(value.type.tensor_type.shape.dim, bound.get(value.name, ()), strict=False)
        if dim.dim_param
    }
    found = {}
    for value in source.value_info:
        kind = value.type.tensor_type
        shape = [dim.dim_value or sizes.get(dim.dim_param, 0) for dim in kind.shape.dim]
        if kind.elem_type and kind.HasField("shape") and all(size > 0 for size in shape):
            found[value.name] = helper.make_tensor_value_info(value.name, kind.elem_type, shape)
    return found


def _observed(proto: onnx.ModelProto, names: list[str], bound: Shapes) -> list[onnx.ValueInfoProto]:
    """The shapes that the tensors have in every run; none where the runtime cannot make them."""
    if not names:
        return []
    shown = copied(proto)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    dead_nodes_are_gone(shown, bound)
    try:
        run = Runner(shown)
        results = [run(draw(proto, bound, seed)) for seed in range(RUNS)]
    except BadInput:
        return []
    found = []
    for name in names:
        values = [np.asarray(result[name]) for result in results]
        if all(value.shape == values[0].shape and value.dtype != object for value in values):
            elem_type = helper.np_dtype_to_tensor_dtype(values[0].dtype)
            found.append(helper.make_tensor_value_info(name, elem_type, values[0].shape))
    return found
