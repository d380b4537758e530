"""Peak memory of activations, as rows of tables: one sum for every node, and the largest of them is the peak.

The definition, for one input at the bound shapes. Nodes run in the order of the file. While a node runs, alive are its
inputs and outputs, what an earlier node made (or the graph was given) and a later one reads, and the graph's outputs
once made. The peak is the largest sum of bytes alive while one node runs. Every node's output is a buffer of its own:
no fusing of element-wise nodes, no writing in place, no views. Elements count as float32, four bytes. Weights, what a
runtime needs for itself, and the insides of subgraphs do not count.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from pipeline.allocation.problem import CostTable, Width
from pipeline.graph.couple import Channels
from pipeline.graph.editing import captured_names
from pipeline.graph.model import Model
from pipeline.graph.vanish import vanishing_branches
from pipeline.latency.sites import width_of

BYTES_PER_ELEMENT = 4


@dataclass(frozen=True)
class Row:
    """What is alive while `node` runs: `constant` bytes that no cut moves, and the tables of the rest."""

    node: str
    tables: tuple[CostTable, ...]
    constant: float


def peak_memory(model: Model) -> int:
    """Bytes, by the definition above."""
    return max((sum(_bytes(model, name) for name in names) for _, names in _alive(model.proto)), default=0)


def memory_rows(model: Model, channels: Channels) -> tuple[Row, ...]:
    """The rows whose largest is the peak under every plan; those that another one is never below are left out.

    Exact for plans in which nothing vanishes. Where a branch has vanished, what shortens other tensors' lives is not
    counted, and its constants may be folded further: never too little is promised.
    """
    names = {name for _, alive in _alive(model.proto) for name in alive}
    parts = {name: _parts(model, channels, name) for name in names}
    switches = _switches(model, channels)
    rows = {}
    for node, alive in _alive(model.proto):
        row: dict[tuple[Width, ...], float] = {}
        for name in sorted(alive):
            switch = switches.get(name)
            for width, factor in parts[name]:
                # A tensor as wide as a group that vanishes is gone by its own width then.
                key = (switch, width) if switch is not None and width.terms != switch.terms else (width,)
                row[key] = row.get(key, 0.0) + factor
        rows[node] = row
    return tuple(
        Row(
            node,
            tuple(
                CostTable(f"{node}: {_label(key)}", key, _Line(factor)) for key, factor in row.items() if key[-1].terms
            ),
            sum(factor for key, factor in row.items() if not key[-1].terms),
        )
        for node, row in _undominated(rows).items()
    )


def _alive(proto: onnx.ModelProto) -> Iterator[tuple[str, frozenset[str]]]:
    """Node by node, the activations that are alive while it runs."""
    nodes = proto.graph.node
    last: dict[str, int] = {}
    for number, node in enumerate(nodes):
        read = (*node.input, *(name for entry in node.attribute for name in captured_names(entry)), *node.output)
        last.update((name, number) for name in read)
    last.update((value.name, len(nodes)) for value in proto.graph.output)
    constants = {tensor.name for tensor in proto.graph.initializer} | {""}
    alive = {value.name for value in proto.graph.input if value.name in last} - constants
    for number, node in enumerate(nodes):
        alive |= set(node.output) - constants
        yield node.name, frozenset(alive)
        alive = {name for name in alive if last[name] > number}


def _bytes(model: Model, name: str) -> int:
    return math.prod(model.shapes[name]) * BYTES_PER_ELEMENT if name in model.shapes else 0


def _parts(model: Model, channels: Channels, name: str) -> list[tuple[Width, float]]:
    """The bytes of a tensor as factors of the channels of each group alone, and of one."""
    size, width = _bytes(model, name), width_of(model, channels, name)
    full = width.at({group.id: group.channels for group in channels.groups})
    if not width.terms or not full:
        return [(Width((), 1), float(size))]
    each = size / full
    alone = [(Width(((group, 1),)), step * each) for group, step in width.terms]
    return [*alone, (Width((), 1), width.constant * each)] if width.constant else alone


def _switches(model: Model, channels: Channels) -> dict[str, Width]:
    """Activations that are a constant, or gone, once a group has vanished: tensor -> that group's width."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    nodes = {node.name: node for node in model.proto.graph.node}
    for node in nodes.values():
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, Width] = {}
    for group, branch in vanishing_branches(model, channels).items():
        gone = set(branch.dead)
        for end, join in zip(branch.ends, branch.joins, strict=True):
            node = nodes[end]
            while node.name != join:  # per-channel nodes alone, each read by the next
                gone.add(node.name)
                node = readers[node.output[0]][0]
        found.update((name, Width(((group, 1),))) for member in gone for name in nodes[member].output)
    return found


def _undominated(rows: Mapping[str, Mapping[tuple[Width, ...], float]]) -> dict[str, Mapping[tuple[Width, ...], float]]:
    """Rows of which no other one has as much of everything; of equal ones the first."""
    kept: dict[str, Mapping[tuple[Width, ...], float]] = {}
    for node, row in rows.items():
        if any(_covers(other, row) for other in kept.values()):
            continue
        kept = {name: other for name, other in kept.items() if not _covers(row, other)}
        kept[node] = row
    return kept


def _covers(row: Mapping[tuple[Width, ...], float], other: Mapping[tuple[Width, ...], float]) -> bool:
    return all(row.get(key, 0.0) >= factor for key, factor in other.items())


def _label(key: Sequence[Width]) -> str:
    return " with ".join(group for width in key for group, _ in width.terms)


@dataclass(frozen=True)
class _Line:
    """`factor` bytes for each channel, the last width; none where the branch, a width before it, has vanished."""

    factor: float

    def __call__(self, widths: tuple[int, ...]) -> float:
        return 0.0 if 0 in widths[:-1] else self.factor * widths[-1]
