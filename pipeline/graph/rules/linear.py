"""Operators with weights: they read the channels of their input and make new ones."""

import numpy as np

from pipeline.graph.labels import ChannelRead, Labelling, Labels, SizeEdit, compact, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, refuse
from pipeline.graph.rules.parameter import parameter, use
from pipeline.graph.rules.products import product


def conv(node: Node, run: Labelling) -> Outputs:
    """Conv of any rank: weight (out, in / groups, kernel...), bias (out)."""
    return _convolve(node, run, transposed=False)


def conv_transpose(node: Node, run: Labelling) -> Outputs:
    """ConvTranspose: weight (in, out / groups, kernel...)."""
    return _convolve(node, run, transposed=True)


def fused_conv(node: Node, run: Labelling) -> Outputs:
    """ONNX Runtime's Conv with an activation, and with an addend of the output's shape as optional fourth input."""
    (made,) = _convolve(node, run, transposed=False)
    if made is not None and node.has(3):
        addend = node.labels(run, 3)
        if addend is None:
            run.lock(made, f"{node.name} adds {node.inputs[3]!r}, which is fixed: {run.pinned.get(node.inputs[3])}")
        else:
            run.classes.unite(compact(made), compact(addend))
    return (made,)


def gemm(node: Node, run: Labelling) -> Outputs:
    """Gemm: B is (in, out), or (out, in) with transB; C broadcasts against (batch, out)."""
    weight, shape, labels = node.input_shape(1), node.output_shape(), node.labels(run)
    if parameter(node, run, 1) is None or weight is None or shape is None or node.attributes.get("transA", 0):
        return refuse(node, run, "has a weight that is computed, or transposes its input: not followed yet")
    if labels is not None and 0 in labelled_axes(labels):
        return refuse(node, run, "has channels where the batch should be: not followed yet")
    in_axis = 1 if node.attributes.get("transB", 0) else 0
    if labels is not None and labels.shape[1] != weight[in_axis]:
        return refuse(node, run, f"has a weight for {weight[in_axis]} channels and reads {labels.shape[1]}")
    _read(node, run, axis=1, weight_axis=in_axis)
    made = run.fresh_axis(shape, 1)
    line = run.along(made, 1)
    use(node, run, 1, 1 - in_axis, line, "makes")
    bias, fixed = node.input_shape(2), parameter(node, run, 2) is not None
    if fixed and bias and bias[-1] > 1:
        use(node, run, 2, len(bias) - 1, line, "makes")
    elif node.has(2) and not fixed:
        run.lock(made, f"the bias of {node.name} is computed in the graph")
        run.lock(node.labels(run, 2), f"used as the bias of {node.name}")
    return (made,)


def matmul(node: Node, run: Labelling) -> Outputs:
    """MatMul by a constant matrix on the right: (..., in) x (in, out); anything else is a product of activations."""
    weight, shape, labels = node.input_shape(1), node.output_shape(), node.labels(run)
    if parameter(node, run, 1) is None or weight is None or len(weight) != 2 or shape is None:
        return product(node, run)
    last = len(shape) - 1
    elsewhere = [] if labels is None else [axis for axis in labelled_axes(labels) if axis != last]
    if labels is not None and elsewhere:  # mixes along an axis without channels, such as space
        if last in labelled_axes(labels):
            return refuse(node, run, "reads channels that lie on several axes: not followed yet")
        return (np.broadcast_to(compact(labels), shape),)
    _read(node, run, axis=last, weight_axis=0)
    made = run.fresh_axis(shape, last)
    use(node, run, 1, 1, run.along(made, last), "makes")
    return (made,)


def _convolve(node: Node, run: Labelling, *, transposed: bool) -> Outputs:
    shape, weight = node.output_shape(), node.input_shape(1)
    if parameter(node, run, 1) is None or shape is None or weight is None:
        return refuse(node, run, "has a weight or shape that is computed: not followed yet")
    groups = int(node.attributes.get("group", 1))
    source = node.input_shape(0)
    if len(weight) != len(shape) or len(shape) < 3 or (source is not None and len(source) != len(shape)):
        return refuse(node, run, "has a weight of another rank than its input")
    if groups < 1 or shape[1] % groups or (source is not None and source[1] % groups):
        return refuse(node, run, f"has {groups} groups, into which its channels do not divide")
    wanted = weight[0] if transposed else weight[1] * groups
    if source is not None and wanted != source[1]:
        return refuse(node, run, f"has a weight for {wanted} channels and reads {source[1]}")
    labels = node.labels(run)
    elsewhere = set() if labels is None else set(labelled_axes(labels)) - {1}
    if labels is not None and elsewhere and 1 not in labelled_axes(labels):
        if any(shape[axis] != labels.shape[axis] or not _is_point(node, weight, axis) for axis in elsewhere):
            return refuse(node, run, "has a window over an axis that carries channels")
        return (np.broadcast_to(compact(labels), shape),)  # mixes tokens, of every channel by itself
    made = run.fresh_axis(shape, 1)
    line = run.along(made, 1)
    in_axis, out_axis = (0, 1) if transposed else (1, 0)
    if groups > 1:
        _group(node, run, line, groups, transposed=transposed)
    else:
        _read(node, run, axis=1, weight_axis=in_axis)
        use(node, run, 1, out_axis, line, "makes")
    if parameter(node, run, 2) is not None:
        use(node, run, 2, 0, line, "makes")
    elif node.has(2):
        run.lock(made, f"the bias of {node.name} is computed in the graph")
        run.lock(node.labels(run, 2), f"used as the bias of {node.name}")
    return (made,)


def _is_point(node: Node, weight: tuple[int, ...], axis: int) -> bool:
    """Whether each index of the axis is computed from the same one of the input."""
    space = len(weight) - 2
    strides, pads = (node.attributes.get(name) or [] for name in ("strides", "pads"))
    own = axis - 2
    return (
        weight[axis] == 1
        and (not strides or strides[own] == 1)
        and (not pads or (pads[own], pads[own + space]) == (0, 0))
    )


def _group(node: Node, run: Labelling, made: Labels, groups: int, *, transposed: bool) -> None:
    """Grouped convolution: drop whole groups, or the same inner channels in every group; whichever leaves more.

    Whole groups couple a block of inputs with a block of outputs (depthwise: each input with its outputs) and lower
    the group count. Inner channels keep the count; all groups read the same places, and make equally many channels.
    """
    labels = node.labels(run)
    if labels is None and not transposed and len(made) > groups:
        run.balanced.append(made.reshape(groups, -1))
        use(node, run, 1, 0, made, "makes")
        return
    if labels is None:
        reason = run.pinned.get(node.inputs[0], "nobody may cut its input")
        run.lock(made, f"{node.name} is grouped over a fixed input: {reason}")
        if not transposed:
            use(node, run, 1, 0, made, "makes")
        return
    source = run.along(labels, 1)
    inner_in, inner_out = len(source) // groups, len(made) // groups
    blocks_in, blocks_out = source.reshape(groups, inner_in), made.reshape(groups, inner_out)
    if run.whole_blocks(groups, inner_in + inner_out - 1):
        run.classes.unite(blocks_in[:, :1], blocks_in)
        run.classes.unite(blocks_in[:, :1], blocks_out)
        run.sizes.append(SizeEdit(node.name, ("attribute", "group"), None, blocks_in[:, :1]))
        use(node, run, 1, 0, source if transposed else made, "makes")
        return
    run.classes.unite(blocks_in[:1], blocks_in)
    if transposed:
        run.classes.unite(blocks_out[:1], blocks_out)
        use(node, run, 1, 0, source, "reads")
        use(node, run, 1, 1, np.ascontiguousarray(blocks_out[0]), "makes")
    else:
        run.balanced.append(blocks_out)
        use(node, run, 1, 0, made, "makes")
        use(node, run, 1, 1, np.ascontiguousarray(blocks_in[0]), "reads")
    run.reads.append(ChannelRead(node.name, 0, node.inputs[0], 1, source))


def _read(node: Node, run: Labelling, axis: int, weight_axis: int) -> None:
    labels = node.labels(run)
    if labels is not None:
        source = run.along(labels, axis)
        use(node, run, 1, weight_axis, source, "reads")
        run.reads.append(ChannelRead(node.name, 0, node.inputs[0], axis, source))


RULES = {"Conv": conv, "ConvTranspose": conv_transpose, "Gemm": gemm, "MatMul": matmul}
