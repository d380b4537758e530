"""Operators with weights: they read the channels of their input and make new ones."""

import numpy as np

from pipeline.graph.labels import ChannelRead, Labelling, Labels, SizeEdit, Use
from pipeline.graph.rules.node import Node


def conv(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """Conv of any rank: weight (out, in / groups, kernel...), bias (out)."""
    return _convolve(node, run, out_axis=0, in_axis=1)


def conv_transpose(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """ConvTranspose: weight (in, out / groups, kernel...)."""
    if int(node.attributes.get("group", 1)) != 1:
        return _pin(node, run, "a grouped transposed convolution")
    return _convolve(node, run, out_axis=1, in_axis=0)


def gemm(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """Gemm: B is (in, out), or (out, in) with transB; C broadcasts against (batch, out)."""
    weight, shape = node.input_shape(1), node.output_shape()
    if not node.is_constant(1) or weight is None or shape is None or node.attributes.get("transA", 0):
        return _pin(node, run, "a Gemm whose weight is computed, or whose input is transposed")
    in_axis = 1 if node.attributes.get("transB", 0) else 0
    _read(node, run, axis=1, weight_axis=in_axis)
    made = run.fresh_axis(shape, 1)
    line = run.along(made, 1)
    run.uses.append(Use(node.inputs[1], 1 - in_axis, line, "makes"))
    bias = node.input_shape(2)
    if node.is_constant(2) and bias and bias[-1] > 1:
        run.uses.append(Use(node.inputs[2], len(bias) - 1, line, "makes"))
    elif node.has(2) and not node.is_constant(2):
        run.lock(made, f"the bias of {node.name} is computed in the graph")
        run.lock(node.labels(run, 2), f"used as the bias of {node.name}")
    return (made,)


def matmul(node: Node, run: Labelling) -> tuple[Labels | None, ...]:
    """MatMul by a constant matrix on the right: (..., in) x (in, out)."""
    weight, shape = node.input_shape(1), node.output_shape()
    if not node.is_constant(1) or weight is None or len(weight) != 2 or shape is None:
        return _pin(node, run, "a product of two activations, or by a stack of matrices")
    source = node.input_shape(0)
    assert source is not None
    _read(node, run, axis=len(source) - 1, weight_axis=0)
    made = run.fresh_axis(shape, len(shape) - 1)
    run.uses.append(Use(node.inputs[1], 1, run.along(made, len(shape) - 1), "makes"))
    return (made,)


def _convolve(node: Node, run: Labelling, out_axis: int, in_axis: int) -> tuple[Labels | None, ...]:
    shape, weight = node.output_shape(), node.input_shape(1)
    if not node.is_constant(1) or shape is None or weight is None:
        return _pin(node, run, "a convolution whose weight or shape is computed")
    groups = int(node.attributes.get("group", 1))
    made = run.fresh_axis(shape, 1)
    line = run.along(made, 1)
    if groups > 1:
        _group(node, run, line, groups)
    else:
        _read(node, run, axis=1, weight_axis=in_axis)
    run.uses.append(Use(node.inputs[1], out_axis, line, "makes"))
    if node.is_constant(2):
        run.uses.append(Use(node.inputs[2], 0, line, "makes"))
    elif node.has(2):
        run.lock(made, f"the bias of {node.name} is computed in the graph")
    if node.has(3):  # FusedConv's addend
        run.lock(made, f"{node.name} adds a fused operand")
    return (made,)


def _group(node: Node, run: Labelling, made: Labels, groups: int) -> None:
    """Grouped convolution: drop whole groups, or the same inner channels in every group; whichever leaves more.

    Whole groups couple a block of inputs with a block of outputs (depthwise: each input with its outputs) and lower
    the group count. Inner channels keep the count; all groups lose the same places.
    """
    labels = node.labels(run)
    if labels is None:
        reason = run.pinned.get(node.inputs[0], "nobody may cut its input")
        run.lock(made, f"{node.name} is grouped over a fixed input: {reason}")
        return
    source = run.along(labels, 1)
    inner_in, inner_out = len(source) // groups, len(made) // groups
    blocks_in, blocks_out = source.reshape(groups, inner_in), made.reshape(groups, inner_out)
    if groups >= inner_in + inner_out:
        run.classes.unite(blocks_in[:, :1], blocks_in)
        run.classes.unite(blocks_in[:, :1], blocks_out)
        run.sizes.append(SizeEdit(node.name, ("attribute", "group"), None, blocks_in[:, :1]))
    else:
        run.classes.unite(blocks_in[:1], blocks_in)
        run.classes.unite(blocks_out[:1], blocks_out)
        run.uses.append(Use(node.inputs[1], 1, np.ascontiguousarray(blocks_in[0]), "reads"))
        run.reads.append(ChannelRead(node.name, 0, node.inputs[0], 1, source))


def _read(node: Node, run: Labelling, axis: int, weight_axis: int) -> None:
    labels = node.labels(run)
    if labels is not None:
        source = run.along(labels, axis)
        run.uses.append(Use(node.inputs[1], weight_axis, source, "reads"))
        run.reads.append(ChannelRead(node.name, 0, node.inputs[0], axis, source))


def _pin(node: Node, run: Labelling, what: str) -> tuple[Labels | None, ...]:
    reason = f"{node.op} ({node.name}) is {what}: not followed yet"
    for name in node.inputs:
        run.lock(run.tensors.get(name), reason)
    run.pinned[node.outputs[0]] = reason
    return (None,)


RULES = {"Conv": conv, "ConvTranspose": conv_transpose, "Gemm": gemm, "MatMul": matmul}
