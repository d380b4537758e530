"""Initialisers are constants, not inputs with a default value; and what an input leaves free has no size."""

import onnx

from pipeline.graph.shapes import Shapes

IR_WITHOUT_INITIALISER_INPUTS = 4  # older files must list their initialisers as inputs


def initialisers_are_not_inputs(proto: onnx.ModelProto, bound: Shapes) -> None:
    constant = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in constant]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.ir_version = max(proto.ir_version, IR_WITHOUT_INITIALISER_INPUTS)


def free_sizes_have_names(proto: onnx.ModelProto, bound: Shapes) -> None:
    """Old exporters write -1 for a free batch; runtimes take that for a size."""
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.dim_param = "batch" if axis == 0 else f"{value.name}:{axis}"
