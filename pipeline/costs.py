"""What a plan costs on paper, as tables over widths: parameters, multiply-adds, activations, bytes moved, memory."""

import math
from collections.abc import Callable, Mapping, Sequence

import onnx

from pipeline.allocation.problem import Budget, CostTable, Width
from pipeline.goal import Bound
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.flops import node_flops, parameters
from pipeline.graph.model import Model
from pipeline.latency.sites import width_of
from pipeline.memory import BYTES_PER_ELEMENT, memory_rows, peak_memory
from targets.errors import BadInput

FLOATING = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
Tables = tuple[CostTable, ...]


def parameter_tables(model: Model, channels: Channels) -> Tables:
    """One table for each floating-point initialiser that a cut makes smaller; exact."""
    found = []
    for name, (dims, widths) in _sliced(model, channels).items():
        rest = math.prod(dims) / math.prod(dims[axis] for axis in widths)
        found.append(CostTable(name, tuple(widths.values()), _Product(rest)))
    return tuple(found)


def flops_tables(model: Model, channels: Channels) -> Tables:
    """One table for each convolution or matrix product: its weight's elements times the positions it is applied to."""
    sliced = _sliced(model, channels)
    found = []
    for node in model.proto.graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        if weight in sliced and (flops := node_flops(node, model)):
            dims, widths = sliced[weight]
            found.append(
                CostTable(node.name, tuple(widths.values()), _Product(flops / math.prod(dims[axis] for axis in widths)))
            )
    return tuple(found)


def activation_tables(model: Model, channels: Channels) -> Tables:
    """Bytes of every activation: what the sum of all is regularised by. The peak is another matter, see memory_rows."""
    return tuple(
        CostTable(name, (width,), _Product(size / width.at(_full(channels))))
        for name, (width, size) in _activations(model, channels).items()
    )


def bytes_tables(model: Model, channels: Channels) -> Tables:
    """Bytes that every node reads and writes, weights included."""
    activations = _activations(model, channels)
    moved = [name for node in model.proto.graph.node for name in (*node.input, *node.output) if name in activations]
    weights = tuple(
        CostTable(table.name, table.widths, _Product(table.cost.rest * BYTES_PER_ELEMENT))
        for table in parameter_tables(model, channels)
        if isinstance(table.cost, _Product)
    )
    full = _full(channels)
    return weights + tuple(
        CostTable(name, (activations[name][0],), _Product(activations[name][1] / activations[name][0].at(full)))
        for name in moved
    )


PAPER_COSTS: Mapping[str, Callable[[Model, Channels], Tables]] = {
    "flops": flops_tables,
    "params": parameter_tables,
    "memory": activation_tables,
    "bytes": bytes_tables,
}


def budgets_of(bound: Bound, model: Model, channels: Channels) -> tuple[Budget, ...]:
    """The budgets that a bound on anything but latency sets: several for peak memory, else one."""
    if bound.quantity != "memory":
        return (budget_of(bound, model, channels),)
    limit = bound.against(peak_memory(model))
    rows = memory_rows(model, channels)
    return tuple(Budget("memory", limit, row.tables, row.constant, where=row.node) for row in rows)


def budget_of(bound: Bound, model: Model, channels: Channels) -> Budget:
    """The budget that a bound on flops or params sets."""
    tables = PAPER_COSTS[bound.quantity](model, channels)
    uncut = (
        parameters(model.proto)
        if bound.quantity == "params"
        else sum(node_flops(node, model) for node in model.proto.graph.node)
    )
    full = _full(channels)
    return Budget(bound.quantity, bound.against(uncut), tables, uncut - sum(table.at(full) for table in tables))


def channel_costs(tables: Sequence[CostTable], groups: Sequence[ChannelGroup], channels: Channels) -> dict[str, float]:
    """What one channel of each group costs, scaled to a mean of one over all channels: the saving of halving the
    group, divided by the channels it takes."""
    full = _full(channels)
    touching: dict[str, list[CostTable]] = {group.id: [] for group in groups}
    for table in tables:
        for name in {group for width in table.widths for group, _ in width.terms}.intersection(touching):
            touching[name].append(table)
    costs = {}
    for group in groups:
        half = {**full, group.id: max(1, group.channels // 2)}
        saved = sum(table.at(full) - table.at(half) for table in touching[group.id])
        costs[group.id] = saved / max(1, group.channels - half[group.id])
    total = sum(costs[group.id] * group.channels for group in groups)
    count = sum(group.channels for group in groups)
    if total <= 0:
        raise BadInput("No group that may be cut costs anything: nothing to regularise by. Use --regularise none.")
    return {name: cost * count / total for name, cost in costs.items()}


class _Product:
    """`rest` times the product of the widths."""

    def __init__(self, rest: float) -> None:
        self.rest = rest

    def __call__(self, widths: tuple[int, ...]) -> float:
        return self.rest * math.prod(widths)


def _sliced(model: Model, channels: Channels) -> dict[str, tuple[tuple[int, ...], dict[int, Width]]]:
    """Floating-point initialisers with an axis that some free group may cut: dimensions, and the widths by axis, those
    that are read before those that are made."""
    dims = {t.name: tuple(t.dims) for t in model.proto.graph.initializer if t.data_type in FLOATING}
    terms: dict[str, dict[int, dict[str, int]]] = {}
    read: set[tuple[str, int]] = set()
    for group in channels.free:
        for piece in group.slices:
            if piece.tensor in dims:
                by_group = terms.setdefault(piece.tensor, {}).setdefault(piece.axis, {})
                by_group[group.id] = int((piece.channel >= 0).sum()) // group.channels
                if piece.role == "reads":
                    read.add((piece.tensor, piece.axis))
    full = _full(channels)
    return {
        name: (
            dims[name],
            {
                axis: Width(
                    tuple(sorted(by.items())),
                    dims[name][axis] - sum(step * full[group] for group, step in by.items()),
                )
                for axis, by in sorted(axes.items(), key=lambda entry: ((name, entry[0]) not in read, entry[0]))
            },
        )
        for name, axes in terms.items()
    }


def _activations(model: Model, channels: Channels) -> dict[str, tuple[Width, float]]:
    """Width and bytes of every activation that a free group runs through."""
    found = {}
    for name in channels.tensors:
        width = width_of(model, channels, name)
        if width.terms and name in model.shapes:
            found[name] = (width, float(math.prod(model.shapes[name]) * BYTES_PER_ELEMENT))
    return found


def _full(channels: Channels) -> dict[str, int]:
    return {group.id: group.channels for group in channels.groups}
