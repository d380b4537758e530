"""fp16 and bf16: the graph computes in sixteen bits wherever ONNX lets its operators, and takes and gives fp32.

Which operators may is read from ONNX's own schemas, input by input: what has to stay in fp32 (the scales of a Resize,
operators older than the type) stays, with casts around it. Tensors and nodes keep their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from targets.errors import BadInput

FLOAT = TensorProto.FLOAT
ELEMENTS: Mapping[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
NAMES: Mapping[int, str] = {TensorProto.FLOAT16: "tensor(float16)", TensorProto.BFLOAT16: "tensor(bfloat16)"}
STORED = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def cast(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """`model` in "fp16" or "bf16". BadInput names a weight that is too large for fp16."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    elements = {value.name: value.type.tensor_type.elem_type for value in values}
    elements |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    casting = Casting(model, precision, elements)
    for node in model.graph.node:
        casting.add(node)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
    made.graph.node.extend(casting.nodes)
    read = {name for node in casting.nodes for name in node.input} | {value.name for value in model.graph.output}
    made.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    made.graph.initializer.extend(casting.weights)
    return made


@dataclass(eq=False)
class Casting:
    """The nodes so far. `narrow`: the tensors that are made in sixteen bits; `elements`: what each was before."""

    model: onnx.ModelProto
    precision: str
    elements: Mapping[str, int]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    narrow: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._element = ELEMENTS[self.precision]
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._outputs = {value.name for value in self.model.graph.output}
        self._opsets = {entry.domain: entry.version for entry in self.model.opset_import}
        self._there: set[str] = set()  # names of casts and converted weights

    def add(self, node: onnx.NodeProto) -> None:
        """`node` in sixteen bits where it may be, else as it is, its inputs cast either way."""
        goes = self._may(node)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for position, name in enumerate(node.input):
            if self.elements.get(name) == FLOAT:
                copy.input[position] = self._in_sixteen(name) if goes else self._in_full(name)
        self.nodes.append(copy)
        if not goes:
            return
        for position, name in enumerate(node.output):
            if self.elements.get(name) != FLOAT:
                continue
            if name in self._outputs:  # what is seen outside stays fp32 and keeps its name
                inner = copy.output[position] = self._name(name)
                self._there.add(inner)
                self.nodes.append(helper.make_node("Cast", [inner], [name], f"{inner}/back", to=FLOAT))
            else:
                self.narrow.add(name)

    def _may(self, node: onnx.NodeProto) -> bool:
        """Whether every fp32 tensor of the node may be of sixteen bits by its schema, and there is one."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in self._opsets or any(attribute.HasField("g") for attribute in node.attribute):
            return False
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets[domain], domain)
        except onnx.defs.SchemaError:
            return False
        allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
        sides = [*_typed(node.input, schema.inputs), *_typed(node.output, schema.outputs)]
        floats = [kind for name, kind in sides if self.elements.get(name) == FLOAT]
        made = [name for name in node.output if self.elements.get(name) == FLOAT]
        read = [name for name in node.input if self.elements.get(name) == FLOAT]
        return bool(made) and bool(read) and all(NAMES[self._element] in allowed.get(kind, ()) for kind in floats)

    def _in_sixteen(self, name: str) -> str:
        if name in self.narrow:
            return name
        other = self._name(name)
        if other not in self._there:
            self._there.add(other)
            if name in self._constants:
                self.weights.append(self._converted(name, other))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [other], f"{other}/cast", to=self._element))
        return other

    def _in_full(self, name: str) -> str:
        if name not in self.narrow:
            return name
        other = f"{name}/fp32"
        if other not in self._there:
            self._there.add(other)
            self.nodes.append(helper.make_node("Cast", [name], [other], f"{other}/cast", to=FLOAT))
        return other

    def _name(self, name: str) -> str:
        return f"{name}/{self.precision}"

    def _converted(self, name: str, other: str) -> onnx.TensorProto:
        values: NDArray[np.float32] = numpy_helper.to_array(self._constants[name])
        with np.errstate(over="ignore"):
            narrow = values.astype(STORED[self.precision])
        if np.any(np.isfinite(values) & ~np.isfinite(narrow.astype(np.float32))):
            raise BadInput(
                f"Weight {name!r} reaches {np.abs(values).max():.3g}, which {self.precision} cannot hold. Use bf16, or "
                "leave this network in fp32."
            )
        return numpy_helper.from_array(narrow, other)


def _typed(names: Sequence[str], formal: Sequence[onnx.defs.OpSchema.FormalParameter]) -> list[tuple[str, str]]:
    """Each tensor with the type that the schema gives its place; the last place may stand for many."""
    return [(name, formal[min(place, len(formal) - 1)].type_str) for place, name in enumerate(names) if name and formal]
