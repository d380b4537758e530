"""From an ONNX graph to an ordered plan: which nodes run as torch calls, which on the host, which are constants.

Everything that can be refused is refused here, before anything runs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.autograd.arithmetic import ARITHMETIC
from pipeline.autograd.bodies import bodies_of, flat, stored
from pipeline.autograd.dtypes import TORCH_TYPES, to_numpy
from pipeline.autograd.node import Body, Rule, Step, read_node
from pipeline.autograd.ops import DOMAINS
from pipeline.autograd.quantized import carried_outputs
from pipeline.autograd.roles import find_parameters
from pipeline.autograd.sizes import Sizes
from pipeline.autograd.versions import NEWEST_OPSET, version_at, versions_from
from targets.errors import BadInput

OWN_DOMAINS = ("", "ai.onnx")
MAX_HOST_NUMBERS = 4096  # beyond, integers are data and no sizes: torch is faster there than the host
ON_HOST = Rule(lambda node: lambda *given: None, gradient="none")
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """`tensors` become parameters (those in `parameters`) or buffers; `known` are sizes that never change."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    tensors: Mapping[str, Array]
    parameters: frozenset[str]
    known: Mapping[str, Sizes]


@dataclass(eq=False)
class _Draft:
    """What is known so far, while the graphs are read in order."""

    opsets: Mapping[str, int]
    constants: Mapping[str, Array]
    carried: frozenset[str]
    known: dict[str, Sizes] = field(default_factory=dict)
    on_host: set[str] = field(default_factory=set)


def make_plan(model: onnx.ModelProto) -> Plan:
    """The plan of `model`, which has no functions of its own; BadInput names the first node that has no rule."""
    graph = flat(model.graph)
    if len(graph.sparse_initializer):
        raise BadInput(f"Graph {graph.name} has sparse initialisers. Store them densely.")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    opsets.setdefault("", opsets.get("ai.onnx", 1))
    draft = _Draft(opsets, read_constants(model), carried_outputs(graph))
    _check_inputs(graph, draft.constants)
    return _assemble(graph, _read_graph(graph, draft), draft)


def all_steps(steps: Iterable[Step]) -> Iterable[Step]:
    """The steps with those of inner graphs, each before the node that holds it."""
    for step in steps:
        for body in step.node.bodies.values():
            yield from all_steps(body.steps)
        yield step


def read_constants(model: onnx.ModelProto) -> dict[str, Array]:
    """Initialisers and the outputs of Constant nodes, by name; inner graphs' under their unique names."""
    constants = {}
    for name, holder in stored(model.graph):
        if isinstance(holder, onnx.TensorProto):
            constants[name] = np.asarray(onnx.numpy_helper.to_array(holder))
        else:
            constants[name] = constant_array(holder)
    return constants


def constant_array(proto: onnx.NodeProto) -> Array:
    """What a Constant node holds, in whichever attribute."""
    node = read_node(proto, 1, {})
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32)):
        if (value := node.attributes.get(name)) is not None:
            return np.array(value, dtype)
    for name in ("value_int", "value_ints"):
        if (value := node.attributes.get(name)) is not None:
            return np.array(value, np.int64)
    if (value := node.attributes.get("value")) is not None:
        return np.asarray(value)
    raise node.refusal("constants of strings or sparse tensors")


def _check_inputs(graph: onnx.GraphProto, constants: Mapping[str, Array]) -> None:
    for entry in graph.input:
        kind = entry.type.tensor_type.elem_type
        if entry.name in constants or not entry.type.HasField("tensor_type") or kind in TORCH_TYPES:
            continue
        if kind == onnx.TensorProto.UNDEFINED:
            continue
        readers = [node.name or node.op_type for node in graph.node if entry.name in node.input]
        raise BadInput(
            f"Input {entry.name} of node {', '.join(readers[:1]) or 'none'} has element type "
            f"{onnx.TensorProto.DataType.Name(kind)}, which torch does not compute with. Cast it to float32 or int64 "
            f"in the model, or use a criterion that needs no gradient: --criterion l2, l1, bn-gamma or random."
        )


def _read_graph(graph: onnx.GraphProto, draft: _Draft) -> list[Step]:
    steps = []
    for proto in graph.node:
        if proto.op_type == "Constant" and proto.domain in OWN_DOMAINS:
            continue
        if _is_arithmetic(proto, draft):
            step = _arithmetic_step(proto, draft)
            draft.on_host.update(proto.output)
            if not _fold(step, draft):
                steps.append(step)
            continue
        step = _torch_step(proto, draft)
        if step.node.op in ("Shape", "Size", "SequenceLength"):
            draft.on_host.update(proto.output)
            if proto.input[0] in draft.constants:
                draft.known[proto.output[0]] = step.apply(draft.constants[proto.input[0]])
                continue
        steps.append(step)
    return steps


def _is_arithmetic(proto: onnx.NodeProto, draft: _Draft) -> bool:
    """Whether the node works on sizes: all inputs are host values or constants, not all of them lone floats."""
    if proto.op_type not in ARITHMETIC or proto.domain not in OWN_DOMAINS or not proto.input:
        return False
    sure = 0
    for name in filter(None, proto.input):
        constant = draft.constants.get(name)
        whole = constant is not None and constant.dtype.kind in "iub" and constant.size <= MAX_HOST_NUMBERS
        if name in draft.on_host or whole:
            sure += 1
        elif constant is None or constant.size > 1:
            return False
    return sure > 0


def _arithmetic_step(proto: onnx.NodeProto, draft: _Draft) -> Step:
    node = read_node(proto, draft.opsets[""], draft.constants)
    apply = ARITHMETIC[node.op](node)
    return Step(node, apply, replace(ON_HOST, sizes=frozenset(range(len(node.inputs)))))


def _torch_step(proto: onnx.NodeProto, draft: _Draft) -> Step:
    domain = "" if proto.domain in OWN_DOMAINS else proto.domain
    opset = draft.opsets.get(domain, 1)
    carried = any(name in draft.carried for name in proto.output)
    plain = read_node(proto, opset, draft.constants, carried=carried)
    if domain not in DOMAINS:
        raise plain.refusal(f"domain {domain} is not one that has rules")
    rule = DOMAINS[domain].get(plain.op)
    if rule is None:
        raise plain.refusal("this operator is not in the table")
    if domain == "" and version_at(plain.op, opset) not in versions_from(plain.op, rule.since):
        raise plain.refusal(f"its rule reads opset {rule.since} to {NEWEST_OPSET}; convert the model to opset 17, say")
    node = replace(plain, bodies=_read_bodies(proto, rule, draft))
    operation = rule.build(node)
    if node.attributes.unread:
        raise node.refusal(f"attribute {node.attributes.unread[0]} is unknown")
    return Step(node, operation, rule)


def _read_bodies(proto: onnx.NodeProto, rule: Rule, draft: _Draft) -> dict[str, Body]:
    bodies = {}
    for name, graph in bodies_of(proto).items():
        if proto.op_type == "Loop":
            draft.on_host.add(graph.input[0].name)  # the number of the iteration
        steps = _read_graph(graph, draft)
        outputs = tuple(output.name for output in graph.output)
        inputs = tuple(entry.name for entry in graph.input)
        made = {*inputs, *(output for step in steps for output in step.node.outputs)}
        read = {name for step in steps for name in (*step.node.inputs, *_captured(step)) if name} | set(outputs)
        kept = {*outputs, *(read - made)}
        bodies[name] = Body(inputs, outputs, _with_releases(steps, kept), frozenset(read - made))
    return bodies


def _captured(step: Step) -> tuple[str, ...]:
    return tuple(sorted({name for body in step.node.bodies.values() for name in body.captured}))


def _fold(step: Step, draft: _Draft) -> bool:
    """Evaluates the step now where all its inputs are constants."""
    names, known, constants = step.node.inputs, draft.known, draft.constants
    if any(name and name not in known and name not in constants for name in names):
        return False
    given = [(known.get(name) or Sizes.of_array(constants[name], f"Tensor {name}")) if name else None for name in names]
    known.update(zip(step.node.outputs, as_tuple(step.apply(*given)), strict=True))
    return True


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def _assemble(graph: onnx.GraphProto, steps: list[Step], draft: _Draft) -> Plan:
    constants, known = draft.constants, draft.known
    outputs = tuple(output.name for output in graph.output)
    every = list(all_steps(steps))
    wanted = {*outputs, *(name for step in every for body in step.node.bodies.values() for name in body.outputs)}
    for step in every:
        for index, name in enumerate(step.node.inputs):
            if index not in step.rule.sizes:
                wanted.add(name)
            elif name in constants and name not in known:
                known[name] = Sizes.of_array(constants[name], f"Tensor {name} of node {step.node.name}")
    folded = {name: to_numpy(sizes.tensor()) for name, sizes in known.items() if name in wanted}
    tensors = {**folded, **{name: array for name, array in constants.items() if name in wanted}}
    floats = {name: array for name, array in tensors.items() if name in constants and array.dtype.kind not in "iub"}
    return Plan(
        inputs=tuple(entry.name for entry in graph.input if entry.name not in constants),
        outputs=outputs,
        steps=_with_releases(steps, kept={*outputs, *tensors, *known}),
        tensors=tensors,
        parameters=find_parameters([(step.node, step.rule.sizes) for step in every], floats),
        known=known,
    )


def _with_releases(steps: list[Step], kept: set[str]) -> tuple[Step, ...]:
    seen, result = set(kept), []
    for step in reversed(steps):
        read = (*step.node.inputs, *_captured(step), *step.node.outputs)
        names = [name for name in read if name and name not in seen]
        seen.update(names)
        result.append(replace(step, release=tuple(dict.fromkeys(names))))
    return tuple(reversed(result))
