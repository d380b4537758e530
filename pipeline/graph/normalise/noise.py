"""What exporters write around a layer that says nothing: casts to a type that is known, biases of zeros."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.graph.editing import is_standard
from pipeline.graph.shapes import Shapes, infer_types


def casts_name_their_type(proto: onnx.ModelProto, bound: Shapes) -> None:
    """CastLike reads a whole activation only to learn its type; Cast says it, and folds where its input is constant."""
    if not any(is_standard(node, "CastLike") for node in proto.graph.node):
        return
    types = infer_types(proto, bound)
    for node in proto.graph.node:
        if is_standard(node, "CastLike") and node.input[1] in types:
            target = types[node.input[1]]
            node.op_type = "Cast"
            del node.input[1:]
            node.attribute.append(helper.make_attribute("to", target))


def zero_biases_are_gone(proto: onnx.ModelProto, bound: Shapes) -> None:
    """A convolution's bias that is an expanded zero was never a parameter of the network."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if is_standard(node, "Conv", "ConvTranspose") and len(node.input) == 3:
            source = makers.get(node.input[2])
            while source is not None and is_standard(source, "Expand", "Cast"):
                name = source.input[0]
                if name in constants and not np.any(numpy_helper.to_array(constants[name])):
                    del node.input[2:]
                    break
                source = makers.get(name)
