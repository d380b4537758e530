"""Products of two activations, as in attention: queries by keys, weights by values.

A is (..., M, K), B is (..., K, N), the axes in front are blocks (batch, windows, heads). Channels that are contracted
meet index by index. Heads are blocks of channels: either every head loses the same inner channels, or whole heads go.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.graph.labels import ChannelRead, Labelling, Labels, compact
from pipeline.graph.rules.node import Node, Outputs, refuse
from pipeline.graph.rules.parameter import parameter, use


def product(node: Node, run: Labelling) -> Outputs:
    """MatMul of any two tensors of rank two or more."""
    whole, shapes = node.output_shape(), [node.input_shape(number) for number in (0, 1)]
    if all(node.labels(run, number) is None for number in (0, 1)):
        return (None,)
    if whole is None or any(shape is None or len(shape) < 2 for shape in shapes):
        return refuse(node, run, "cannot be followed: a shape is not known, or it multiplies by a vector")
    rank = len(whole)
    sides = [_aligned(node, run, number, rank) for number in (0, 1)]
    sizes = [(1,) * (rank - len(shape)) + shape for shape in shapes if shape is not None]
    axis = _axis_of_blocks(run, sides, sizes)
    if axis is not None:
        return _by_blocks(node, run, sides, sizes, axis, whole)
    return _inside_blocks(node, run, sides, whole)


def _axis_of_blocks(run: Labelling, sides: Sequence[Labels | None], sizes: Sequence[tuple[int, ...]]) -> int | None:
    """The axis in front along which whole blocks may go; None where all of them stay.

    It is the choice of the policy where both sides have channels in every block, and the only way where the blocks
    themselves are the channels of one side, or where both bring channels into a table (cross-covariance attention).
    """
    rank = len(sizes[0])
    first, second = sides
    table = first is not None and second is not None and first.shape[-2] > 1 and second.shape[-1] > 1
    for axis in range(rank - 2):
        changing = [side for side in sides if side is not None and side.shape[axis] > 1]
        if any(side.size == side.shape[axis] for side in changing):
            return axis
        if len(changing) == 2 and (table or run.whole_blocks(sizes[0][axis], sizes[0][rank - 1])):
            return axis
    return None


def _by_blocks(
    node: Node, run: Labelling, sides: Sequence[Labels | None], sizes: Sequence[tuple[int, ...]], axis: int,
    whole: tuple[int, ...],
) -> Outputs:  # fmt: skip
    """Each block multiplies by itself, as an elementwise operator would: all channels of a block are one."""
    lines = []
    for number, side in enumerate(sides):
        if side is not None and side.shape[axis] > 1:
            rows = np.moveaxis(side, axis, 0).reshape(side.shape[axis], -1)
            run.classes.unite(rows[:, :1], rows)
            lines.append(rows[:, 0])
        elif side is not None:
            run.lock(side, f"{node.op} ({node.name}) reads all of {node.inputs[number]!r} in every block")
    fixed = [n for n, side in enumerate(sides) if (side is None or side.shape[axis] == 1) and sizes[n][axis] > 1]
    for line in lines:
        run.classes.unite(lines[0], line)
        for number in fixed:
            if parameter(node, run, number) is not None:
                use(node, run, number, axis - len(whole) + len(node.input_shape(number) or ()), line, "rides")
                continue
            why = run.pinned.get(node.inputs[number], "its blocks stay")
            run.lock(line, f"{node.op} ({node.name}) multiplies them by {node.inputs[number]!r}, which is fixed: {why}")
    line = lines[0].reshape([-1 if a == axis else 1 for a in range(len(whole))])
    return (np.broadcast_to(line, whole),)


def _inside_blocks(node: Node, run: Labelling, sides: Sequence[Labels | None], whole: tuple[int, ...]) -> Outputs:
    """Every block loses the same inner channels: contracted ones together on both sides, the others as they are."""
    first, second = (None if side is None else compact(run.merged(side, range(side.ndim - 2))) for side in sides)
    contracted = [first is not None and first.shape[-1] > 1, second is not None and second.shape[-2] > 1]
    if any(side is not None and min(side.shape[-2:]) > 1 for side in (first, second)):
        return refuse(node, run, "reads channels that lie on several axes: not followed yet")
    if all(contracted):
        assert first is not None
        assert second is not None
        line = first.reshape(-1)
        run.classes.unite(line, second.reshape(-1))
        run.reads.append(ChannelRead(node.name, 0, node.inputs[0], len(node.input_shape(0) or ()) - 1, line))
    for number, (side, met) in enumerate(zip((first, second), contracted, strict=True)):
        if met and not all(contracted):
            assert side is not None
            _meet_fixed(node, run, number, side)
    rows = first if first is not None and first.shape[-2] > 1 else None
    columns = second if second is not None and second.shape[-1] > 1 else None
    if rows is not None and columns is not None:
        return refuse(node, run, "makes a table of channels by channels: not followed yet")
    made = rows if rows is not None else columns
    if made is None:
        run.pinned[node.outputs[0]] = f"{node.op} ({node.name}) leaves no channels"
        return (None,)
    return (np.broadcast_to(made, whole),)


def _meet_fixed(node: Node, run: Labelling, number: int, side: Labels) -> None:
    """Contracted channels of input `number` meet an operand without channels: a table loses its entries, too."""
    other, axes = node.inputs[1 - number], (len(node.input_shape(0) or ()) - 1, len(node.input_shape(1) or ()) - 2)
    line = side.reshape(-1)
    if parameter(node, run, 1 - number) is not None:
        use(node, run, 1 - number, axes[1 - number], line, "rides")
        run.reads.append(ChannelRead(node.name, number, node.inputs[number], axes[number], line))
    else:
        why = run.pinned.get(other, "they are no channels there")
        run.lock(line, f"{node.op} ({node.name}) sums over them with {other!r}, which is fixed: {why}")


def _aligned(node: Node, run: Labelling, number: int, rank: int) -> Labels | None:
    """Compact labels with axes of length one in front, as broadcasting puts them. A single channel has to stay."""
    labels = node.labels(run, number)
    small = None if labels is None else compact(run.settled(labels))
    if small is None or small.size == 1:
        run.lock(small, f"{node.op} ({node.name}) multiplies by this single channel")
        return None
    return small.reshape((1,) * (rank - small.ndim) + small.shape)
