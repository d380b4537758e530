"""Residual branches that may vanish.

Where all readers of a group lead, through nothing but per-channel operators, into an Add whose other side goes on
without them, width zero is a legal width: what remains of the branch is a constant per output channel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.labels import compact

if TYPE_CHECKING:
    from pipeline.graph.couple import Channels
    from pipeline.graph.model import Model

# These act on each element by itself, so a constant stays a constant per channel.
PER_CHANNEL = {
    "BatchNormalization", "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Elu", "Selu",
    "Identity", "Dropout", "Cast",
}  # fmt: skip


@dataclass(frozen=True)
class Branch:
    """What goes when a group is empty: the Adds where the branch ends, dead nodes, and groups that only live there."""

    joins: tuple[str, ...]
    dead: frozenset[str]
    inner: tuple[str, ...]


def vanishing_branches(model: Model, channels: Channels) -> dict[str, Branch]:
    """For each group that may lose all its channels, by id, what goes with it."""
    graph = _Graph(model)
    branches: dict[str, Branch] = {}
    claimed: set[str] = set()
    for number, group in enumerate(channels.groups):
        joins = _joins(graph, channels, number, group)
        # Two branches that both end in one Add would leave it with constants only: the first one may vanish.
        if joins and not claimed.intersection(joins):
            claimed.update(joins)
            dead = graph.dead_without({read.node for read in group.reads})
            inner = tuple(g.id for g in channels.groups if g is not group and _lives_in(graph, g, dead))
            branches[group.id] = Branch(joins, dead, inner)
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
            for name in node.input:
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


def _joins(graph: _Graph, channels: Channels, number: int, group: ChannelGroup) -> tuple[str, ...]:
    """The Adds at which the readers' results end, or nothing where width zero is not legal."""
    if not group.reads or group.locked_because or _is_output(graph, channels, number):
        return ()
    joins = []
    for read in group.reads:
        if (read.channel < 0).any():  # others' channels are read beside: the reader stays alive
            return ()
        join = _follow_to_add(graph, graph.nodes[read.node].output[0])
        if join is None:
            return ()
        joins.append(join)
    return tuple(joins) if len(set(joins)) == len(joins) else ()


def _follow_to_add(graph: _Graph, tensor: str) -> str | None:
    while len(graph.readers[tensor]) == 1 and tensor not in graph.outputs:
        node = graph.nodes[graph.readers[tensor][0]]
        if node.op_type == "Add":
            return node.name if _joins_another(graph, node, tensor) else None
        if node.op_type not in PER_CHANNEL or node.input[0] != tensor:
            return None
        tensor = node.output[0]
    return None


def _joins_another(graph: _Graph, node: onnx.NodeProto, tensor: str) -> bool:
    other = node.input[1] if node.input[0] == tensor else node.input[0]
    shapes = {graph.shapes.get(name) for name in (other, tensor, node.output[0])}
    return other not in graph.constants and other != tensor and len(shapes) == 1 and None not in shapes


def _is_output(graph: _Graph, channels: Channels, number: int) -> bool:
    owned = (channels.tensors[name] for name in graph.outputs if name in channels.tensors)
    return any(bool((channels.group_of[np.unique(compact(labels))] == number).any()) for labels in owned)


def _lives_in(graph: _Graph, group: ChannelGroup, dead: frozenset[str]) -> bool:
    """Whether every operator that makes or reads the group's channels is dead."""
    tensors = {piece.tensor for piece in group.slices}
    owners = {reader for tensor in tensors for reader in graph.readers[tensor]} | {read.node for read in group.reads}
    return bool(owners) and owners <= dead
