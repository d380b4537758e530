"""The ONNX node tests, each put between layers with channels: layer -> layer -> operator -> layer."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from pipeline.graph.shapes import infer_shapes, infer_types

FLOAT = TensorProto.FLOAT
NEWEST_IR_OF_THE_RUNTIME = 13
NEWEST_OPSET_OF_THE_RUNTIME = 26
OLDEST_OPSET = 7  # that is supported at all
INNER = 3  # channels between the two layers before the operator: free, whatever comes after
WIDTH = 2  # of the layers that read the operator's outputs


@functools.cache
def cases() -> dict[str, Any]:
    """Every node test by name; their models carry the operator, their data sets inputs that suit it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators divide by zero on purpose
        collected = collect_testcases(None)
    return {case.name: case for case in collected if case.model is not None}


def embedded(case: Any, *, computed: int | None = None) -> onnx.ModelProto:
    """The case's model with layers around it.

    The first `computed` inputs (all of them: None) that have an axis 1 and name no positions come out of two layers,
    the second with as many channels; the rest are constants. Every output with an axis 1 goes into a layer; the others
    stay outputs of the graph.
    """
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = min(model.ir_version, NEWEST_IR_OF_THE_RUNTIME)
    for entry in model.opset_import:
        within = max(min(entry.version, NEWEST_OPSET_OF_THE_RUNTIME), OLDEST_OPSET)
        if not entry.domain and all(_since(node, within) == _since(node, entry.version) for node in model.graph.node):
            entry.version = within
    graph = model.graph
    inputs = list(graph.input)
    random = np.random.default_rng(0)
    before: list[onnx.NodeProto] = []
    del graph.input[:]
    for number, (value, data) in enumerate(zip(inputs, _data(case, len(inputs)), strict=True)):
        kind = value.type.tensor_type.elem_type
        if not isinstance(data, np.ndarray) or not kind:
            graph.input.append(value)
        elif data.ndim < 2 or 0 in data.shape or number >= (computed or number + 1) or _stays(value, data, number):
            graph.initializer.append(_tensor(value, data))
        else:
            source = f"source_{value.name}"
            graph.input.append(helper.make_tensor_value_info(source, FLOAT, data.shape))
            made, cast = f"layer_{value.name}", kind != FLOAT
            positive, inner, width = f"positive_{value.name}", f"inner_{value.name}", data.shape[1]
            before.append(helper.make_node("Abs", [source], [positive]))  # roots and logarithms stay numbers
            before += _layer(graph, positive, inner, data.ndim, width, INNER, random)
            before += _layer(graph, inner, made if cast else value.name, data.ndim, INNER, width, random)
            if cast:
                before.append(helper.make_node("Cast", [made], [value.name], f"cast_{value.name}", to=kind))
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    _read_outputs(model, random)
    return model


def _stays(value: onnx.ValueInfoProto, data: np.ndarray, number: int) -> bool:
    """Text; and positions, since computed ones would lie outside."""
    text = value.type.tensor_type.elem_type == TensorProto.STRING
    return text or (number > 0 and np.issubdtype(data.dtype, np.integer))


def _since(node: onnx.NodeProto, version: int) -> int | None:
    """The version of the operator that an operator set of that version means."""
    known = onnx.defs.has(node.op_type, version, node.domain)
    return int(onnx.defs.get_schema(node.op_type, version, node.domain).since_version) if known else None


def _data(case: Any, count: int) -> Sequence[Any]:
    given = case.data_sets[0][0] if case.data_sets else ()
    values = [numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for v in given]
    values = [np.asarray(v) if isinstance(v, (np.generic, int, float)) else v for v in values]
    return [*values, *[None] * (count - len(values))]


def _tensor(value: onnx.ValueInfoProto, data: np.ndarray) -> TensorProto:
    if value.type.tensor_type.elem_type == TensorProto.STRING:
        text = TensorProto(name=value.name, dims=data.shape, data_type=TensorProto.STRING)
        text.string_data.extend(str(entry).encode() for entry in data.reshape(-1))
        return text
    return numpy_helper.from_array(np.asarray(data, order="C"), value.name)


def _read_outputs(model: onnx.ModelProto, random: np.random.Generator) -> None:
    graph = model.graph
    outputs = list(graph.output)
    bound = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in graph.input}
    shapes, types = infer_shapes(model, bound), infer_types(model, bound)
    del graph.output[:]
    for value in outputs:
        if value.type.WhichOneof("value") is None:  # an output that says nothing of itself
            value.type.tensor_type.elem_type = types.get(value.name, FLOAT)
        kind, shape = value.type.tensor_type.elem_type, shapes.get(value.name, ())
        if len(shape) < 2 or kind in (0, TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            graph.output.append(value)
            continue
        read = f"read_{value.name}"
        graph.node.append(helper.make_node("Cast", [value.name], [f"float_{value.name}"], f"to_{read}", to=FLOAT))
        graph.node.extend(_layer(graph, f"float_{value.name}", read, len(shape), shape[1], WIDTH, random))
        graph.output.append(helper.make_tensor_value_info(read, FLOAT, None))


def _layer(
    graph: onnx.GraphProto, source: str, made: str, rank: int, width: int, out: int, random: np.random.Generator
) -> list[onnx.NodeProto]:
    """A convolution over one point, or a dense layer where there is no space."""
    weight = random.uniform(0.2, 1, (out, width) + (1,) * (rank - 2)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weight, f"weight_{made}"))
    graph.initializer.append(numpy_helper.from_array(random.uniform(0.2, 1, out).astype(np.float32), f"bias_{made}"))
    inputs = [source, f"weight_{made}", f"bias_{made}"]
    node = helper.make_node("Conv" if rank > 2 else "Gemm", inputs, [made], f"layer:{made}")
    if rank == 2:
        node.attribute.append(helper.make_attribute("transB", 1))
    return [node]
