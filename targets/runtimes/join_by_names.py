"""Join kernels to the graph they were made from by the names that they carry (host side).

Runtimes that fuse keep, for each kernel, the names of the layers it came from: nodes' or tensors', in ONNX's words as
far as their front end left them. What nobody names was folded into a neighbour: a convolution whose kernel is called
after its batch-norm belongs to what reads it, everything else to what feeds it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from targets.kernels import Kernel
from targets.runtimes.onnx_graph import Graph, attributes_of, infer_shapes

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FOLDED = ("BatchNormalization", "Identity", "Dropout")  # gone at run time: into weights, or nothing at all


@dataclass(frozen=True)
class Ran:
    """One kernel as its runtime tells it.

    `claims`: names of original nodes or tensors. `hints`: the same, where no kernel claims them; a layout change
    stands in front of or behind the node that it hints at. `feeds_from`: the kernels that it reads, by their names,
    where told; a layout change then stands for the tensor of the first of them.
    """

    name: str
    op: str
    samples_ns: tuple[int, ...]
    claims: tuple[str, ...]
    hints: tuple[str, ...] = ()
    feeds_from: tuple[str, ...] = ()
    layout: str = "plain"
    attributes: Mapping[str, Any] = field(default_factory=dict)


def join_by_names(ran: Sequence[Ran], source: Path, shapes: Mapping[str, Sequence[int]]) -> tuple[Kernel, ...]:
    """Kernels in the same order; a tensor that the runtime made up keeps the name of its kernel."""
    given = onnx.load(source, load_external_data=False)
    graph = Graph(given)
    outputs = {value.name for value in given.graph.output}
    true_shapes = infer_shapes(given, shapes)
    owners = owners_of(ran, graph)
    members: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        if key_of(node) in owners:
            members.setdefault(owners[key_of(node)], []).append(node)
    made = {name: name for name in graph.inputs}  # a kernel's name -> the tensor that it ends in
    kernels = []
    for index, each in enumerate(ran):
        nodes = members.get(index, [])
        reads, makes = edges_of(nodes, graph, outputs) if nodes else ([], [])
        if not nodes:
            passed = next((made[name] for name in each.feeds_from if name in made), None)
            reads = makes = [passed or beside(each, index, graph, owners) or each.name]
        made[each.name] = makes[-1] if makes else each.name
        fused = [node.op_type for number, node in enumerate(nodes) if number == 0 or node.op_type not in FOLDED]
        kernels.append(
            Kernel(
                name=each.name,
                op=each.op,
                inputs=tuple(reads),
                outputs=tuple(makes),
                input_shapes=tuple(true_shapes.get(name, ()) for name in reads),
                output_shapes=tuple(true_shapes.get(name, ()) for name in makes),
                samples_ns=each.samples_ns,
                fused=tuple(fused) or (each.op,),
                nodes=tuple(node.name for node in nodes),
                attributes={**attributes_in(nodes), **each.attributes},
                weight_shapes=tuple(
                    graph.constants[name] for node in nodes for name in node.input if name in graph.constants
                ),
                layout=each.layout,
            )
        )
    return tuple(kernels)


def owners_of(ran: Sequence[Ran], graph: Graph) -> dict[str, int]:
    """Node (its first output) -> the number of the kernel that computes it."""
    owners: dict[str, int] = {}
    for told in ([each.claims for each in ran], [each.hints for each in ran]):
        for index, names in enumerate(told):
            for name in names:
                node = named(name, graph)
                if node is not None:
                    owners.setdefault(key_of(node), index)
    varying = varying_nodes(graph)
    linear = [node for node in varying if node.op_type in LINEAR]
    others = [node for node in varying if node.op_type not in LINEAR]
    while adopted(linear, readers_of, graph, owners) + adopted(others, feeders_of, graph, owners):
        pass
    while adopted(varying, readers_of, graph, owners):  # what begins a network
        pass
    return owners


def adopted(
    nodes: Sequence[onnx.NodeProto],
    neighbours: Callable[[onnx.NodeProto, Graph], list[onnx.NodeProto]],
    graph: Graph,
    owners: dict[str, int],
) -> int:
    """Gives each node without an owner the owner that all its neighbours have; how many were given one."""
    before = len(owners)
    for node in nodes:
        if key_of(node) not in owners:
            found = {owners.get(key_of(each)) for each in neighbours(node, graph)}
            owner = found.pop() if len(found) == 1 else None
            if owner is not None:
                owners[key_of(node)] = owner
    return len(owners) - before


def readers_of(node: onnx.NodeProto, graph: Graph) -> list[onnx.NodeProto]:
    return [reader for output in node.output for reader in graph.readers.get(output, ())]


def feeders_of(node: onnx.NodeProto, graph: Graph) -> list[onnx.NodeProto]:
    return [graph.producer[name] for name in node.input if name in graph.varying]


def named(name: str, graph: Graph) -> onnx.NodeProto | None:
    return graph.by_name.get(name) or graph.producer.get(name)


def beside(ran: Ran, index: int, graph: Graph, owners: Mapping[str, int]) -> str | None:
    """The tensor whose layout is changed in front of or behind the node that is hinted at."""
    node = next((found for name in ran.hints if (found := named(name, graph)) is not None), None)
    if node is None:
        return None
    if index > owners.get(key_of(node), -1):
        return key_of(node)
    return next((name for name in node.input if name and name not in graph.constants), None)


def varying_nodes(graph: Graph) -> list[onnx.NodeProto]:
    """Those that hang on an input; the others are folded before the first run."""
    return [node for node in graph.nodes if key_of(node) in graph.varying]


def key_of(node: onnx.NodeProto) -> str:
    return str(next(output for output in node.output if output))


def edges_of(nodes: Sequence[onnx.NodeProto], graph: Graph, outputs: set[str]) -> tuple[list[str], list[str]]:
    """The tensors that a kernel of these nodes reads, and those it leaves to others."""
    inside = {output for node in nodes for output in node.output if output}
    own = {key_of(node) for node in nodes}
    reads = [name for node in nodes for name in node.input if name and name not in inside]
    left = [
        name
        for node in nodes
        for name in node.output
        if name and (name in outputs or any(key_of(reader) not in own for reader in graph.readers.get(name, ())))
    ]
    return list(dict.fromkeys(name for name in reads if name not in graph.constants)), left


def attributes_in(nodes: Sequence[onnx.NodeProto]) -> dict[str, Any]:
    return {f"{node.op_type}.{key}": value for node in nodes for key, value in attributes_of(node).items()}
