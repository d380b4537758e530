"""The value of a single node from the values of its inputs, by the ONNX reference implementation."""

import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from pipeline.graph.editing import bodies, is_standard, opset
from pipeline.graph.execute import run_unoptimised
from targets.errors import BadInput

Value = NDArray[np.generic]
Kind = tuple[np.dtype[Any], tuple[int, ...]]

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
# These make at most as many elements as the product, or the sum, of their inputs' numbers.
AT_MOST_THE_PRODUCT = {
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "Div", "Equal", "Floor", "Gather", "Greater", "Identity", "Less",
    "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose",
    "Unsqueeze", "Where",
}  # fmt: skip
KEPT_EVALUATORS = 512

# What the reference implementation raises for inputs it does not take.
UNABLE = (
    NotImplementedError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError,
)  # fmt: skip

# Below this one the reference implementation averages over the batch, as if every batch-norm were being trained.
OPSET_OF_TRAINING_MODE = 15


def evaluable(node: onnx.NodeProto) -> bool:
    """Whether the node's value follows from its inputs alone, and may stand in its place."""
    return is_standard(node) and node.op_type not in NEVER_FOLDED and not any(True for _ in bodies(node))


def evaluate(proto: onnx.ModelProto, node: onnx.NodeProto, inputs: Mapping[str, Value]) -> list[Value] | None:
    """The node's named outputs, or None where the reference evaluator cannot make them, or they are too many or too
    dear to make: the node then stays."""
    version = opset(proto)
    if node.op_type == "BatchNormalization" and version < OPSET_OF_TRAINING_MODE:
        node, version = _for_inference(node), OPSET_OF_TRAINING_MODE
    kinds = tuple((inputs[name].dtype, inputs[name].shape) if name else None for name in node.input)
    single = _single(_unnamed(node), kinds, version, proto.ir_version)
    feeds = {f"i{number}": inputs[name] for number, name in enumerate(node.input) if name}
    if not (_surely_small(node, feeds) or _affordable(single.model, feeds)):
        return None
    if node.op_type in RUN_NATIVELY:
        try:
            return [np.asarray(value) for value in run_unoptimised(single.model, feeds).values()]
        except BadInput:  # the runtime lacks this type or mode; it then says so again when the whole graph runs
            return None
    try:
        with np.errstate(all="ignore"):
            results = single.run(feeds)
    except UNABLE:
        return None
    values = [np.asarray(result) for result in results if isinstance(result, (np.ndarray, np.generic))]
    return values if len(values) == len(results) else None  # a sequence is no value an initialiser can hold


class _Single:
    """A model of one node. Its evaluator is made when it is first run, which not every node is."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model

    @cached_property
    def _evaluator(self) -> ReferenceEvaluator:
        return ReferenceEvaluator(self.model)

    def run(self, feeds: Mapping[str, Value]) -> list[Any]:
        return list(self._evaluator.run(None, dict(feeds)))


def _unnamed(node: onnx.NodeProto) -> bytes:
    """The node with its inputs and outputs numbered: in shape arithmetic thousands are the same but for their names."""
    plain = onnx.NodeProto(op_type=node.op_type, attribute=node.attribute)
    plain.input.extend(name and f"i{number}" for number, name in enumerate(node.input))
    plain.output.extend(name and f"o{number}" for number, name in enumerate(node.output))
    return bytes(plain.SerializeToString(deterministic=True))


@lru_cache(maxsize=KEPT_EVALUATORS)
def _single(unnamed: bytes, kinds: tuple[Kind | None, ...], version: int, ir_version: int) -> _Single:
    node = onnx.NodeProto.FromString(unnamed)
    specs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind[0]), kind[1])
        for name, kind in zip(node.input, kinds, strict=True)
        if kind is not None
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "single", specs, outputs)
    return _Single(helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=ir_version))


def _surely_small(node: onnx.NodeProto, inputs: Mapping[str, Value]) -> bool:
    """Whether the operator and the sizes of its inputs alone say that it makes little."""
    sizes = [max(value.size, 1) for value in inputs.values()]
    return node.op_type in AT_MOST_THE_PRODUCT and max(math.prod(sizes), sum(sizes)) <= SEEN_ELEMENTS


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
    largest = max((value.size for value in inputs.values()), default=0)  # their sum would let constants double for ever
    return made <= max(MAX_ELEMENTS, largest) and (node.op_type not in WINDOWED or made * read <= MAX_WINDOWED_WORK)


def _for_inference(node: onnx.NodeProto) -> onnx.NodeProto:
    """The same batch-norm as the newer operator: attributes of the older ones say that it is not being trained."""
    epsilon = [entry for entry in node.attribute if entry.name == "epsilon"]
    newer = onnx.NodeProto(op_type=node.op_type, input=node.input, output=node.output[:1])
    newer.attribute.extend(epsilon)
    return newer
