"""Shape inference node by node, in the graph's order: where a shape hangs on a size that is computed from another."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from pipeline.graph.editing import bodies, is_standard, opset

# Integers longer than this are no sizes.
SIZE_LIMIT_ELEMENTS = 4096
# The last one where an input has a type that the operator does not take.
FAILURES = (
    onnx.defs.SchemaError, shape_inference.InferenceError, ValueError, RuntimeError, onnx.checker.ValidationError,
)  # fmt: skip


class OneByOne:
    """Shapes known so far; `meet` every node in order to know more. What cannot be told stays out.

    `types` are the element types of tensors, as far as inference over the whole graph finds them.
    """

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, int]) -> None:
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._imports, self._version, self._ir_version = list(proto.opset_import), opset(proto), proto.ir_version
        self._types = {**types, **{name: tensor.data_type for name, tensor in self._constants.items()}}
        self.shapes = {**{name: tuple(tensor.dims) for name, tensor in self._constants.items()}, **shapes}

    def meet(self, node: onnx.NodeProto, values: Mapping[str, NDArray[np.generic]]) -> None:
        """Add the shapes of what the node makes, from those of what it reads and the `values` of sizes."""
        if all(name in self.shapes for name in node.output if name):
            return
        read = [name for name in node.input if name]
        if not is_standard(node) or any(True for _ in bodies(node)):
            return
        if not all(name in self.shapes and name in self._types for name in read):
            return
        kinds = {name: helper.make_tensor_type_proto(self._types[name], self.shapes[name]) for name in read}
        try:
            schema = onnx.defs.get_schema(node.op_type, self._version)
            made = shape_inference.infer_node_outputs(
                schema, node, kinds, self._data(read, values), opset_imports=self._imports, ir_version=self._ir_version
            )
        except FAILURES:
            return  # whole-graph inference, which comes next, says what is wrong
        for name, kind in made.items():
            self._add(name, kind.tensor_type)

    def _data(self, read: list[str], values: Mapping[str, NDArray[np.generic]]) -> dict[str, TensorProto]:
        """What inference may look into: values of sizes, and constants that are small."""
        found = {name: numpy_helper.from_array(values[name], name) for name in read if name in values}
        for name in read:
            tensor = self._constants.get(name)
            if tensor is not None and np.prod(tensor.dims, dtype=float) <= SIZE_LIMIT_ELEMENTS:
                found[name] = tensor
        return found

    def _add(self, name: str, kind: onnx.TypeProto.Tensor) -> None:
        if kind.elem_type:
            self._types.setdefault(name, kind.elem_type)
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            self.shapes.setdefault(name, tuple(dim.dim_value for dim in kind.shape.dim))
