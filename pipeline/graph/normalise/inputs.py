"""Initialisers are constants, not inputs with a default value."""

import onnx

from pipeline.graph.shapes import Shapes

IR_WITHOUT_INITIALISER_INPUTS = 4  # older files must list their initialisers as inputs


def initialisers_are_not_inputs(proto: onnx.ModelProto, bound: Shapes) -> None:
    constant = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in constant]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.ir_version = max(proto.ir_version, IR_WITHOUT_INITIALISER_INPUTS)
