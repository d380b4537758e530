"""Every tensor's shape, and every size that follows from shapes."""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from pipeline.graph.editing import Names, add_initialiser, bodies, is_standard, set_nodes
from pipeline.graph.evaluate import Value, evaluable, evaluate
from pipeline.graph.one_by_one import OneByOne
from targets.errors import BadInput

Shapes = Mapping[str, tuple[int, ...]]

# Inputs that speak of sizes, by operator: shape inference goes on once these are constants.
SIZE_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Pad": (1, 3), "Slice": (1, 2, 3, 4), "Split": (1,),
    "Squeeze": (1,), "Unsqueeze": (1,), "Resize": (2, 3), "Upsample": (1,), "ConstantOfShape": (0,), "Gather": (1,),
    "TopK": (1,), "Range": (0, 1, 2), "ReduceSum": (1,), "ReduceMean": (1,), "ReduceMax": (1,), "ReduceMin": (1,),
}  # fmt: skip
# Sizes are lists of a few integers; anything longer is a weight, or a table that costs more to follow than it tells.
SIZE_LIMIT_ELEMENTS = 4096
INTEGERS = {onnx.TensorProto.INT64, onnx.TensorProto.INT32}
MAX_RANGE = 2**33
LONGEST_LIST = 2**20
# What makes integers of what is none, or many of few.
LISTING = ("Cast", "Range", "ConstantOfShape", "NonZero", "ArgMax", "ArgMin", "TopK", "OneHot", "EyeLike", "Unique")
MAX_ROUNDS = 20  # each settles one more size that hangs on another; real graphs need two or three
# Operators that shape inference does not know, by (domain, operator), and a standard one that makes the same shape of
# some of its inputs. The quantised ones have a scale and a zero point after every tensor.
SHAPED_LIKE: Mapping[tuple[str, str], tuple[str, slice]] = {
    ("com.microsoft", "FusedConv"): ("Conv", slice(3)),
    ("com.microsoft", "FusedGemm"): ("Gemm", slice(3)),
    ("com.microsoft", "FusedMatMul"): ("MatMul", slice(2)),
    ("com.microsoft", "BiasGelu"): ("Identity", slice(1)),
    ("com.microsoft", "FastGelu"): ("Identity", slice(1)),
    ("com.microsoft", "Gelu"): ("Identity", slice(1)),
    ("com.microsoft", "QuickGelu"): ("Identity", slice(1)),
    ("com.microsoft", "QuantizeLinear"): ("QuantizeLinear", slice(3)),
    ("com.microsoft", "DequantizeLinear"): ("DequantizeLinear", slice(3)),
    ("com.microsoft", "QGemm"): ("Gemm", slice(0, 7, 3)),
    ("com.microsoft", "QLinearAdd"): ("Add", slice(0, 4, 3)),
    ("com.microsoft", "QLinearMul"): ("Mul", slice(0, 4, 3)),
    ("com.microsoft", "QLinearLeakyRelu"): ("LeakyRelu", slice(1)),
    ("com.microsoft", "QLinearSigmoid"): ("Sigmoid", slice(1)),
    ("com.microsoft", "QLinearSoftmax"): ("Softmax", slice(1)),
    ("com.microsoft", "QLinearConcat"): ("Concat", slice(2, None, 3)),
    ("com.microsoft", "QLinearAveragePool"): ("AveragePool", slice(1)),
    ("com.microsoft", "QLinearGlobalAveragePool"): ("GlobalAveragePool", slice(1)),
    ("", "GroupNormalization"): ("Identity", slice(1)),
}
# What happens to the elements after that changes no shape.
SHAPELESS_ATTRIBUTES = {"activation", "activation_params", "alpha", "epsilon", "num_groups", "stash_type"}


class Contradiction(ValueError):
    """Two shapes of the graph do not agree; the text says which."""


def infer_shapes(proto: onnx.ModelProto, bound: Shapes, *, strict: bool = False) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors when the inputs have the shapes `bound`; a tensor whose shape stays open is left out.

    `strict` raises Contradiction where two shapes do not agree, which else leaves tensors open.
    """
    skeleton = _skeleton(proto, bound)
    known: dict[str, tuple[int, ...]] = {}
    for attempt in range(MAX_ROUNDS):
        _give_long_ranges(skeleton)
        inferred = _infer_strictly(skeleton) if strict and attempt == 0 else _infer(skeleton)
        known = _known(inferred)
        made = (name for node in skeleton.graph.node for name in node.output if name)
        if all(name in known for name in made) or not _settle_sizes(skeleton, known, _types(inferred)):
            break
    known.update((tensor.name, tuple(tensor.dims)) for tensor in proto.graph.initializer)
    return known


def is_opaque(node: onnx.NodeProto) -> bool:
    """Whether inference cannot say what the node makes, but for what `value_info` declares."""
    return any(True for _ in bodies(node)) or not (is_standard(node) or (node.domain, node.op_type) in SHAPED_LIKE)


def infer_types(proto: onnx.ModelProto, bound: Shapes) -> dict[str, int]:
    """The element type of every tensor that has one."""
    skeleton = _skeleton(proto, bound)
    _give_long_ranges(skeleton)
    return _types(_infer(skeleton)) | {tensor.name: tensor.data_type for tensor in proto.graph.initializer}


def contradicts(proto: onnx.ModelProto, bound: Shapes) -> bool:
    """Whether shapes contradict each other when the inputs have the shapes `bound`."""
    skeleton = _skeleton(proto, bound)
    _give_long_ranges(skeleton)
    try:
        _infer_strictly(skeleton)
    except Contradiction:
        return True
    return False


def size_values(
    proto: onnx.ModelProto, shapes: Shapes, meet: Callable[[onnx.NodeProto, Mapping[str, Value]], None] | None = None
) -> dict[str, Value]:
    """Every small tensor that is computed from constants and shapes alone.

    `meet` is shown every node, and the values so far, before the node is looked at; it may add to `shapes`.
    """
    small = {tensor.name: tensor for tensor in proto.graph.initializer if math.prod(tensor.dims) <= SIZE_LIMIT_ELEMENTS}
    found: dict[str, Value] = {}
    for node in proto.graph.node:
        if meet is not None:
            meet(node, found)
        if is_standard(node, "Shape", "Size") and node.input[0] in shapes:
            found[node.output[0]] = _shape_value(node, shapes[node.input[0]])
        elif any(name in found for name in node.input) and evaluable(node):
            names = [name for name in node.input if name]
            if not all(name in found or name in small for name in names):
                continue
            inputs = {name: found[name] if name in found else numpy_helper.to_array(small[name]) for name in names}
            results = evaluate(proto, node, inputs)
            if results is not None and sum(result.size for result in results) <= SIZE_LIMIT_ELEMENTS:
                found.update(zip((name for name in node.output if name), results, strict=True))
    return found


def _shape_value(node: onnx.NodeProto, shape: tuple[int, ...]) -> Value:
    if node.op_type == "Size":
        return np.asarray(math.prod(shape), np.int64)
    span = {entry.name: entry.i for entry in node.attribute}
    return np.asarray(shape[span.get("start", 0) : span.get("end", len(shape))], np.int64)


def _settle_sizes(proto: onnx.ModelProto, shapes: Shapes, types: Mapping[str, int]) -> bool:
    """Put the values of sizes that are known now in place of their computation; whether there were any.

    A size may hang on a shape that hangs on another size, and so on through the graph: on the way, each node's shape is
    inferred from what is known when its turn comes, so that one walk settles them all.
    """
    walk = OneByOne(proto, shapes, types)
    values = size_values(proto, walk.shapes, walk.meet)
    names = Names(proto.graph)
    before = len(proto.graph.initializer)
    for node in proto.graph.node:
        for position in SIZE_INPUTS.get(node.op_type, ()) if is_standard(node) else ():
            if position < len(node.input) and node.input[position] in values:
                value = values[node.input[position]]
                node.input[position] = add_initialiser(proto.graph, names, f"{node.input[position]}:size", value)
    return len(proto.graph.initializer) > before


def _give_long_ranges(skeleton: onnx.ModelProto) -> None:
    """Long ranges become inputs of the same length: inference would write out every number, of which a file may claim
    any count."""
    graph = skeleton.graph
    if not any(is_standard(node, "Range") for node in graph.node):
        return
    values = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        ends = [values[name] for name in node.input if name in values] if is_standard(node, "Range") else []
        numbers = [
            float(numpy_helper.to_array(tensor).reshape(-1)[0]) for tensor in ends if math.prod(tensor.dims) == 1
        ]
        count = (numbers[1] - numbers[0]) / numbers[2] if len(numbers) == 3 and numbers[2] else 0.0
        if not count <= MAX_RANGE:
            raise BadInput(f"Range ({node.name or node.output[0]}) would make {count:g} numbers: the model is broken.")
        if count > SIZE_LIMIT_ELEMENTS:
            made = onnx.helper.make_tensor_value_info(node.output[0], ends[0].data_type, (math.ceil(count),))
            graph.input.append(made)
        else:
            kept.append(node)
    set_nodes(graph, kept)


def _skeleton(proto: onnx.ModelProto, bound: Shapes) -> onnx.ModelProto:
    """The graph with input shapes as bound and without its weights: inference then costs the same for any width."""
    skeleton = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph = skeleton.graph
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, bound.get(value.name, ()), strict=False):
            dim.dim_value = size
    for value in proto.graph.output:  # declared sizes are often stale; inference finds the real ones
        declared = graph.output.add()
        declared.CopyFrom(value)
        declared.type.tensor_type.ClearField("shape")
    graph.value_info.extend(proto.graph.value_info)
    listed = {value.name for value in graph.input}
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= SIZE_LIMIT_ELEMENTS:
            graph.initializer.append(tensor)
        elif tensor.data_type not in INTEGERS:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        elif tensor.name not in listed:  # inference would look for the elements
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for node in graph.node:
        like = SHAPED_LIKE.get((node.domain, node.op_type))
        if like is not None:
            _as_standard(node, *like)
    return skeleton


def _as_standard(node: onnx.NodeProto, operator: str, inputs: slice) -> None:
    turned = ("channels_last", "transA", "transB", "transBatchA", "transBatchB")
    if operator != "Gemm" and any(entry.name in turned and entry.i for entry in node.attribute):
        return
    kept = [entry for entry in node.attribute if entry.name not in SHAPELESS_ATTRIBUTES]
    read = list(node.input)[inputs]
    node.op_type, node.domain = operator, ""
    del node.attribute[:], node.input[:]
    node.attribute.extend(kept)
    node.input.extend(read)


def _known(inferred: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    known = {}
    for value in _values(inferred):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            sizes = tuple([dim.dim_value for dim in kind.shape.dim])
            if 0 not in sizes or all(dim.HasField("dim_value") for dim in kind.shape.dim):
                known[value.name] = sizes
    return known


def _types(inferred: onnx.ModelProto) -> dict[str, int]:
    return {
        value.name: value.type.tensor_type.elem_type
        for value in _values(inferred)
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type
    }


def _values(inferred: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    yield from inferred.graph.input
    yield from inferred.graph.value_info
    yield from inferred.graph.output


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return shape_inference.infer_shapes(proto, data_prop=_lists_are_short(proto))
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise BadInput(f"The graph's shapes do not fit together: {_one_line(error)}") from error


def _infer_strictly(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return shape_inference.infer_shapes(proto, strict_mode=True, data_prop=_lists_are_short(proto))
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise Contradiction(_one_line(error)) from error


def _lists_are_short(proto: onnx.ModelProto) -> bool:
    """Whether inference may follow values: it writes out every entry of a list of integers, known or not, and a file
    may claim lists that fill the memory."""
    listed = (value.type.tensor_type for value in proto.graph.input if len(value.type.tensor_type.shape.dim) == 1)
    if any(kind.shape.dim[0].dim_value > LONGEST_LIST for kind in listed):
        return False
    if not any(is_standard(node, *LISTING) for node in proto.graph.node):
        return True
    known = _known(shape_inference.infer_shapes(proto))
    return all(len(shape) != 1 or shape[0] <= LONGEST_LIST for shape in known.values())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
