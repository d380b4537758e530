"""From an ONNX graph to an ordered plan: which nodes run as torch calls, which on the host, which are constants.

Everything that can be refused is refused here, before anything runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.autograd.arithmetic import ARITHMETIC
from pipeline.autograd.dtypes import to_numpy
from pipeline.autograd.node import Node, Operation, read_node
from pipeline.autograd.ops import RULES
from pipeline.autograd.roles import find_parameters
from pipeline.autograd.sizes import Sizes
from targets.errors import BadInput

DOMAINS = ("", "ai.onnx")
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Step:
    """One node, ready to run. `sizes`: inputs handed over as Sizes. `release`: values nobody reads afterwards."""

    node: Node
    apply: Operation
    sizes: frozenset[int]
    trains: bool
    release: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """`tensors` become parameters (those in `parameters`) or buffers; `known` are sizes that never change."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    tensors: Mapping[str, Array]
    parameters: frozenset[str]
    known: Mapping[str, Sizes]


def make_plan(model: onnx.ModelProto) -> Plan:
    """The plan of `model`; BadInput names the first node that has no rule."""
    if len(model.graph.sparse_initializer):
        raise BadInput(f"Graph {model.graph.name} has sparse initialisers. Store them densely.")
    opset = next(entry.version for entry in model.opset_import if entry.domain in DOMAINS)
    constants = read_constants(model, opset)
    known: dict[str, Sizes] = {}
    on_host: set[str] = set()
    steps = []
    for proto in model.graph.node:
        if proto.op_type == "Constant" and proto.domain in DOMAINS:
            continue
        node = read_node(proto, opset, constants)
        if _is_arithmetic(proto, node, constants, on_host):
            on_host.update(node.outputs)
            step = _arithmetic_step(node)
            if not _fold(step, constants, known):
                steps.append(step)
            continue
        step = _torch_step(proto, node)
        if node.op in ("Shape", "Size"):
            on_host.update(node.outputs)
            if node.inputs[0] in constants:
                known[node.outputs[0]] = step.apply(constants[node.inputs[0]])
                continue
        steps.append(step)
    return _assemble(model, steps, constants, known)


def read_constants(model: onnx.ModelProto, opset: int) -> dict[str, Array]:
    """Initialisers and the outputs of Constant nodes, by name."""
    constants = {tensor.name: np.asarray(onnx.numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    for proto in model.graph.node:
        if proto.op_type == "Constant" and proto.domain in DOMAINS:
            constants[proto.output[0]] = _constant(read_node(proto, opset, {}))
    return constants


def _constant(node: Node) -> Array:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32)):
        if (value := node.attributes.get(name)) is not None:
            return np.array(value, dtype)
    for name in ("value_int", "value_ints"):
        if (value := node.attributes.get(name)) is not None:
            return np.array(value, np.int64)
    if (value := node.attributes.get("value")) is not None:
        return np.asarray(value)
    raise node.refusal("constants of strings or sparse tensors")


def _is_arithmetic(proto: onnx.NodeProto, node: Node, constants: Mapping[str, Array], on_host: set[str]) -> bool:
    """Whether the node works on sizes: all inputs are host values or constants, not all of them lone floats."""
    if node.op not in ARITHMETIC or proto.domain not in DOMAINS or not node.inputs:
        return False
    sure = 0
    for name in filter(None, node.inputs):
        constant = constants.get(name)
        if name in on_host or (constant is not None and constant.dtype.kind in "iub"):
            sure += 1
        elif constant is None or constant.size > 1:
            return False
    return sure > 0


def _arithmetic_step(node: Node) -> Step:
    return Step(node, ARITHMETIC[node.op](node), frozenset(range(len(node.inputs))), False)


def _torch_step(proto: onnx.NodeProto, node: Node) -> Step:
    if proto.domain not in DOMAINS:
        raise node.refusal(f"domain {proto.domain} is not ONNX's own")
    rule = RULES.get(node.op)
    if rule is None:
        raise node.refusal("this operator is not in the table")
    operation = rule.build(node)
    if node.attributes.unread:
        raise node.refusal(f"attribute {node.attributes.unread[0]} is unknown")
    return Step(node, operation, rule.sizes, rule.trains)


def _fold(step: Step, constants: Mapping[str, Array], known: dict[str, Sizes]) -> bool:
    """Evaluates the step now where all its inputs are constants."""
    names = step.node.inputs
    if any(name and name not in known and name not in constants for name in names):
        return False
    given = [(known.get(name) or Sizes.of_array(constants[name], f"Tensor {name}")) if name else None for name in names]
    known.update(zip(step.node.outputs, as_tuple(step.apply(*given)), strict=True))
    return True


def as_tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _assemble(
    model: onnx.ModelProto, steps: list[Step], constants: Mapping[str, Array], known: dict[str, Sizes]
) -> Plan:
    outputs = tuple(output.name for output in model.graph.output)
    wanted = set(outputs)
    for step in steps:
        for index, name in enumerate(step.node.inputs):
            if index not in step.sizes:
                wanted.add(name)
            elif name in constants and name not in known:
                known[name] = Sizes.of_array(constants[name], f"Tensor {name}")
    folded = {name: to_numpy(sizes.tensor()) for name, sizes in known.items() if name in wanted}
    tensors = {**folded, **{name: array for name, array in constants.items() if name in wanted}}
    floats = {name: array for name, array in tensors.items() if name in constants and array.dtype.kind not in "iub"}
    return Plan(
        inputs=tuple(entry.name for entry in model.graph.input if entry.name not in constants),
        outputs=outputs,
        steps=_with_releases(steps, kept={*outputs, *tensors, *known}),
        tensors=tensors,
        parameters=find_parameters([(step.node, step.sizes) for step in steps], floats),
        known=known,
    )


def _with_releases(steps: list[Step], kept: set[str]) -> tuple[Step, ...]:
    seen, result = set(kept), []
    for step in reversed(steps):
        names = [name for name in (*step.node.inputs, *step.node.outputs) if name and name not in seen]
        seen.update(names)
        result.append(Step(step.node, step.apply, step.sizes, step.trains, tuple(dict.fromkeys(names))))
    return tuple(reversed(result))
