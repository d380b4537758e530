"""The value of a single node from the values of its inputs, by the ONNX reference implementation."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from pipeline.graph.editing import bodies, is_standard

Value = NDArray[np.generic]

# Quantised weights stay visible as such: folding them away would lose the scales. Random numbers are drawn per run.
NEVER_FOLDED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RandomNormal", "RandomUniform", "RandomNormalLike",
    "RandomUniformLike", "Multinomial", "Bernoulli",
}  # fmt: skip


def evaluable(node: onnx.NodeProto) -> bool:
    """Whether the node's value follows from its inputs alone, and may stand in its place."""
    return is_standard(node) and node.op_type not in NEVER_FOLDED and not any(True for _ in bodies(node))


def evaluate(proto: onnx.ModelProto, node: onnx.NodeProto, inputs: Mapping[str, Value]) -> list[Value] | None:
    """The node's named outputs, or None where the reference evaluator cannot make them: the node then stays."""
    specs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "single", specs, outputs)
    single = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(single).run(None, dict(inputs))
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError):
        return None
    plain = [np.asarray(result) if isinstance(result, np.generic) else result for result in results]
    return plain if all(isinstance(result, np.ndarray) for result in plain) else None
