"""Operators that shape inference cannot see into: bodies, and domains it does not know.

What they make has the shape that the file declares, or that a run shows. Nobody cuts what they read or make, so a cut
changes neither.
"""

import numpy as np
import onnx
from onnx import helper

from pipeline.graph.editing import copied
from pipeline.graph.execute import Runner
from pipeline.graph.feeds import draw
from pipeline.graph.shapes import Shapes, infer_shapes, is_opaque
from targets.errors import BadInput

RUNS = 2  # a shape that differs from one random input to the next is none to rely on


def declare_opaque(proto: onnx.ModelProto, source: onnx.GraphProto, bound: Shapes) -> None:
    """Write into `proto` the shapes of what opaque operators make, so that inference goes on behind them.

    They are taken from `source`, what the file as it came says of its inputs and tensors, or else from runs on random
    inputs at the bound shapes.
    """
    shown = {value.name for value in proto.graph.output}
    made = {name for node in proto.graph.node if is_opaque(node) for name in node.output if name} - shown
    if not made:
        return
    said = _declared(source, bound)
    proto.graph.value_info.extend(said[name] for name in sorted(made & set(said)))
    unknown = sorted(made - set(infer_shapes(proto, bound)))
    if unknown:
        proto.graph.value_info.extend(_observed(proto, unknown, bound))


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
    """The shapes that the tensors have in every run; none where the runtime does not know an operator either."""
    shown = copied(proto)
    outputs = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
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
