"""Residual branches that may vanish.

Where all readers of a group lead, through nothing but per-channel operators, into an Add whose other side goes on
without them, width zero is a legal width: what remains of the branch is a constant per output channel.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.editing import captured_names, is_standard
from pipeline.graph.labels import compact

if TYPE_CHECKING:
    from pipeline.graph.couple import Channels
    from pipeline.graph.model import Model

# These act on each element by itself, so a constant stays a constant per channel.
PER_CHANNEL = {
    "BatchNormalization", "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Elu", "Selu",
    "Identity", "Dropout", "Cast",
}  # fmt: skip
# The same, where the other operand is a constant.
BY_A_CONSTANT = {"Add", "Sub", "Mul", "Div"}
# Readers of nothing give their bias.
READERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Branch:
    """What goes when a group is empty.

    `ends` are the readers of the group that leave a constant in their place, `joins` the Adds where the branch then
    ends. `dead` nodes go, the ends among them, and with them the `inner` groups, which live nowhere else.
    """

    ends: tuple[str, ...]
    joins: tuple[str, ...]
    dead: frozenset[str]
    inner: tuple[str, ...]


def vanishing_branches(model: Model, channels: Channels) -> dict[str, Branch]:
    """For each group that may lose all its channels, by id, what goes with it.

    Branches never lie inside each other: where they would, the smaller ones may vanish, which leaves more choices. Nor
    do two end in one Add, which would be left with constants only.
    """
    graph = _Graph(model)
    shown = _shown(graph, channels)
    free = [g for number, g in enumerate(channels.groups) if not g.locked_because and number not in shown]
    found = {group.id: ends for group in free if (ends := _ends(graph, group))}
    dead = {name: graph.dead_without(set(ends)) for name, ends in found.items()}
    owned = _Owned(graph, channels)
    read_by: dict[str, set[str]] = defaultdict(set)
    for group in channels.groups:
        for read in group.reads:
            read_by[read.node].add(group.id)
    branches: dict[str, Branch] = {}
    claimed: set[str] = set()
    for group in sorted((group for group in free if group.id in found), key=lambda group: len(dead[group.id])):
        ends, gone = found[group.id], dead[group.id]
        inner = [name for name in owned.within(gone) if name != group.id]
        whole = all(read.node in gone for read in group.reads)
        emptied = set().union(*(read_by[end] for end in ends)) <= {group.id, *inner}
        if whole and emptied and claimed.isdisjoint((*ends.values(), *gone)):
            claimed.update(ends.values())
            branches[group.id] = Branch(tuple(ends), tuple(ends.values()), gone, tuple(inner))
    return branches


class _Graph:
    """The nodes, and who reads and makes what."""

    def __init__(self, model: Model) -> None:
        self.shapes = model.shapes
        self.nodes: Mapping[str, onnx.NodeProto] = {node.name: node for node in model.proto.graph.node}
        self.maker: dict[str, str] = {}
        self.readers: dict[str, list[str]] = defaultdict(list)
        for node in model.proto.graph.node:
            self.maker.update((name, node.name) for name in node.output if name)
            for name in (*node.input, *(name for entry in node.attribute for name in captured_names(entry))):
                self.readers[name].append(node.name)
        self.outputs = {value.name for value in model.proto.graph.output}
        self.constants = {tensor.name for tensor in model.proto.graph.initializer}

    def dead_without(self, gone: set[str]) -> frozenset[str]:
        """`gone`, and every node whose results only nodes that are gone read."""
        dead = set(gone)
        waiting = [self.maker[name] for node in gone for name in self.nodes[node].input if name in self.maker]
        while waiting:
            name = waiting.pop()
            node = self.nodes[name]
            if name in dead or self.outputs.intersection(node.output):
                continue
            if all(reader in dead for output in node.output for reader in self.readers[output]):
                dead.add(name)
                waiting.extend(self.maker[source] for source in node.input if source in self.maker)
        return frozenset(dead)


def _ends(graph: _Graph, group: ChannelGroup) -> dict[str, str]:
    """Readers whose results end, through per-channel operators, in an Add of something else: reader -> Add.

    Empty where two of them end in the same one.
    """
    ends: dict[str, str] = {}
    for read in group.reads:
        node = graph.nodes[read.node]
        if is_standard(node, *READERS) and all(name in graph.constants for name in node.input[1:] if name):
            join = _follow_to_add(graph, node.output[0])
            if join is not None:
                ends[read.node] = join
    return ends if len(set(ends.values())) == len(ends) else {}


def _follow_to_add(graph: _Graph, tensor: str) -> str | None:
    while len(graph.readers[tensor]) == 1 and tensor not in graph.outputs:
        node = graph.nodes[graph.readers[tensor][0]]
        if _joins_another(graph, node, tensor):
            return node.name
        others = [name for name in node.input if name != tensor]
        by_a_constant = node.op_type in BY_A_CONSTANT and len(others) == 1 and others[0] in graph.constants
        if not is_standard(node) or not (by_a_constant or (node.op_type in PER_CHANNEL and node.input[0] == tensor)):
            return None
        tensor = node.output[0]
    return None


def _joins_another(graph: _Graph, node: onnx.NodeProto, tensor: str) -> bool:
    if not is_standard(node, "Add", "Sum") or len(node.input) != 2:
        return False
    other = node.input[1] if node.input[0] == tensor else node.input[0]
    shapes = {graph.shapes.get(name) for name in (other, tensor, node.output[0])}
    return other not in graph.constants and other != tensor and len(shapes) == 1 and None not in shapes


def _shown(graph: _Graph, channels: Channels) -> set[int]:
    """The groups that a graph output shows."""
    labels = [channels.tensors[name] for name in graph.outputs if name in channels.tensors]
    return {number for shown in labels for number in np.unique(channels.group_of[compact(shown)]).tolist()}


class _Owned:
    """Which groups every node makes or reads."""

    def __init__(self, graph: _Graph, channels: Channels) -> None:
        self._ids = [group.id for group in channels.groups]
        self._nodes: list[int] = []  # how many nodes every group has
        self._groups: dict[str, list[int]] = defaultdict(list)
        for number, group in enumerate(channels.groups):
            tensors = {piece.tensor for piece in group.slices}
            nodes = {reader for tensor in tensors for reader in graph.readers[tensor]}
            nodes.update(read.node for read in group.reads)
            self._nodes.append(len(nodes))
            for node in nodes:
                self._groups[node].append(number)

    def within(self, nodes: frozenset[str]) -> list[str]:
        """The groups that live in `nodes` and nowhere else, in their order."""
        found = Counter(number for node in nodes for number in self._groups.get(node, ()))
        return [self._ids[number] for number in sorted(found) if found[number] == self._nodes[number]]
