"""Networks that draw random numbers are compared on the same draws."""

import zlib
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from pipeline.graph.editing import Names, add_initialiser, copied, is_standard, set_nodes
from pipeline.graph.model import Model
from pipeline.graph.shapes import infer_types

DRAWING = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def drawn(model: Model) -> Model:
    """The model with what its operators would draw drawn beforehand, from the node's name: alike in two networks that
    share the node. Runtimes go on drawing from one run to the next, whatever their seed."""
    if not any(is_standard(node, *DRAWING, "Bernoulli") for node in model.proto.graph.node):
        return model
    proto = copied(model.proto)
    names, types = Names(proto.graph), infer_types(proto, model.bound)
    nodes = []
    for node in proto.graph.node:
        name, shape = node.output[0], model.shapes.get(node.output[0])
        if not is_standard(node, *DRAWING, "Bernoulli") or shape is None or name not in types:
            nodes.append(node)
            continue
        generator = np.random.default_rng(zlib.crc32(node.name.encode()))
        if node.op_type == "Bernoulli":
            chances = generator.random(shape).astype(helper.tensor_dtype_to_np_dtype(types[node.input[0]]))
            table, less = add_initialiser(proto.graph, names, f"{name}:chances", chances), names.fresh(f"{name}:less")
            nodes += [
                helper.make_node("Less", [table, node.input[0]], [less]),
                helper.make_node("Cast", [less], [name], to=types[name]),
            ]
            continue
        given = {entry.name: entry.f for entry in node.attribute if entry.type == onnx.AttributeProto.FLOAT}
        if "Normal" in node.op_type:
            values = generator.normal(given.get("mean", 0.0), given.get("scale", 1.0), shape)
        else:
            values = generator.uniform(given.get("low", 0.0), given.get("high", 1.0), shape)
        dtype = helper.tensor_dtype_to_np_dtype(types[name])
        table = add_initialiser(proto.graph, names, f"{name}:drawn", np.asarray(values).astype(dtype))
        nodes.append(helper.make_node("Identity", [table], [name]))
    set_nodes(proto.graph, nodes)
    return replace(model, proto=proto)
