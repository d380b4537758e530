"""The value of a single node from the values of its inputs, by the ONNX reference implementation."""

import math
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from pipeline.graph.editing import bodies, is_standard, opset
from pipeline.graph.execute import run_unoptimised
from targets.errors import BadInput

Value = NDArray[np.generic]

# Quantised weights stay visible as such: folding them away would lose the scales. Random numbers are drawn per run.
NEVER_FOLDED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RandomNormal", "RandomUniform", "RandomNormalLike",
    "RandomUniformLike", "Multinomial", "Bernoulli",
    "Einsum",  # costs what its equation says, which its inputs do not tell
}  # fmt: skip

# A constant larger than this, and than all that it is computed from, would bloat the file more than folding it gains,
# and may not fit into memory at all.
MAX_ELEMENTS = 4_000_000
# Their outputs' lengths follow from values, and are never longer than a few times the input.
SHORTER_THAN_INPUT = {"NonZero", "Compress", "Unique"}
# What the reference implementation takes per element made grows with the input: windows, filters, products.
WINDOWED = {
    "Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool",
    "MaxUnpool", "LRN", "GridSample", "AffineGrid", "RoiAlign", "MaxRoiPool", "NonMaxSuppression", "DFT",
    "STFT", "LSTM", "GRU", "RNN", "Col2Im", "Det", "TfIdfVectorizer", "Attention",
}  # fmt: skip
MAX_WINDOWED_WORK = 2**26  # elements made times elements read
# The reference implementation makes these number by number in Python: minutes for a table of positions.
RUN_NATIVELY = {"Resize", "Upsample"}
# Sizes and axes, which shape inference must see; longer inputs are weights, of which the shape is enough.
SEEN_ELEMENTS = 4096

# Below this one the reference implementation averages over the batch, as if every batch-norm were being trained.
OPSET_OF_TRAINING_MODE = 15


def evaluable(node: onnx.NodeProto) -> bool:
    """Whether the node's value follows from its inputs alone, and may stand in its place."""
    return is_standard(node) and node.op_type not in NEVER_FOLDED and not any(True for _ in bodies(node))


def evaluate(proto: onnx.ModelProto, node: onnx.NodeProto, inputs: Mapping[str, Value]) -> list[Value] | None:
    """The node's named outputs, or None where the reference evaluator cannot make them, or they are too many or too
    dear to make: the node then stays."""
    specs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    imports = proto.opset_import
    if node.op_type == "BatchNormalization" and opset(proto) < OPSET_OF_TRAINING_MODE:
        node, imports = _for_inference(node), [helper.make_opsetid("", OPSET_OF_TRAINING_MODE)]
    graph = helper.make_graph([node], "single", specs, outputs)
    single = helper.make_model(graph, opset_imports=imports, ir_version=proto.ir_version)
    if not _affordable(single, inputs):
        return None
    if node.op_type in RUN_NATIVELY:
        try:
            return [np.asarray(value) for value in run_unoptimised(single, inputs).values()]
        except BadInput:  # the runtime lacks this type or mode; it then says so again when the whole graph runs
            return None
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(single).run(None, dict(inputs))
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError):
        return None
    values = [np.asarray(result) for result in results if isinstance(result, (np.ndarray, np.generic))]
    return values if len(values) == len(results) else None  # a sequence is no value an initialiser can hold


def _affordable(single: onnx.ModelProto, inputs: Mapping[str, Value]) -> bool:
    """Whether what the only node makes is known beforehand to be small, without making it."""
    (node,) = single.graph.node
    read = sum(value.size for value in inputs.values())
    if node.op_type in SHORTER_THAN_INPUT:
        return read <= MAX_ELEMENTS
    seen = onnx.ModelProto()
    seen.CopyFrom(single)
    seen.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in inputs.items() if value.size <= SEEN_ELEMENTS
    )
    try:
        inferred = shape_inference.infer_shapes(seen)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return False
    made = 0
    for value in inferred.graph.output:
        shape = value.type.tensor_type.shape
        if not value.type.tensor_type.HasField("shape") or not all(dim.HasField("dim_value") for dim in shape.dim):
            return False
        made += math.prod(dim.dim_value for dim in shape.dim)
    return made <= max(MAX_ELEMENTS, read) and (node.op_type not in WINDOWED or made * read <= MAX_WINDOWED_WORK)


def _for_inference(node: onnx.NodeProto) -> onnx.NodeProto:
    """The same batch-norm as the newer operator: attributes of the older ones say that it is not being trained."""
    epsilon = [entry for entry in node.attribute if entry.name == "epsilon"]
    newer = onnx.NodeProto(op_type=node.op_type, input=node.input, output=node.output[:1])
    newer.attribute.extend(epsilon)
    return newer
