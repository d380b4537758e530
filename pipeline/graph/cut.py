"""Take the removed channels out of the graph, for real.

A cut is mechanical: the kept indices on every axis that carries channels, and a new count in every constant that counts
them. `masked` builds what the cut must be equal to: the uncut graph in which every removed channel is zeroed where it
is read.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from pipeline.graph.channels import Kept, Read
from pipeline.graph.couple import Channels
from pipeline.graph.editing import set_nodes
from pipeline.graph.labels import IndexEdit, SizeEdit, labelled_axes
from pipeline.graph.leave_out import leave_out
from pipeline.graph.model import Model
from pipeline.graph.normalise import constants_are_folded, dead_nodes_are_gone, opset
from pipeline.graph.quanta import origins, zero_points
from pipeline.graph.shapes import infer_shapes, infer_types
from pipeline.graph.vanish import vanishing_branches
from targets.errors import BadInput

Plan = dict[str, dict[int, list[int]]]  # initialiser -> axis -> kept indices


def whole(channels: Channels, kept: Kept) -> dict[str, tuple[int, ...]]:
    """`kept` for every group: unnamed ones keep all, and what lies inside a branch that vanished keeps nothing."""
    full = {group.id: tuple(kept.get(group.id, range(group.channels))) for group in channels.groups}
    gone = {group.id for group in channels.groups if group.vanishes and not full[group.id]}
    for group in channels.groups:
        if group.vanishes_with in gone:
            full[group.id] = ()
        elif not full[group.id] and group.vanishes_with not in (None, group.id):
            raise BadInput(f"Group {group.id!r} can only vanish together with {group.vanishes_with!r}.")
    channels.kept_labels({**kept, **full})  # refuses what is not legal
    return full


def plan(channels: Channels, kept: Kept) -> Plan:
    """Which indices of which axis of which initialiser stay, for all that change."""
    full = whole(channels, kept)
    found: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for group in channels.groups:
        if len(full[group.id]) < group.channels:
            stays = np.zeros(group.channels, bool)
            stays[list(full[group.id])] = True
            for piece in group.slices:
                mask = found.setdefault(piece.tensor, {}).setdefault(piece.axis, np.ones(len(piece.channel), bool))
                mask[piece.channel >= 0] &= stays[piece.channel[piece.channel >= 0]]
    return {
        tensor: {axis: [int(i) for i in np.flatnonzero(mask)] for axis, mask in axes.items()}
        for tensor, axes in found.items()
    }


def cut(model: Model, channels: Channels, kept: Kept) -> Model:
    """The smaller graph. Tensors keep their names; sizes of initialisers and the constants that count them change."""
    full = whole(channels, kept)
    stays = channels.kept_labels(full)
    graph = gs.import_onnx(model.proto)
    tensors, nodes = graph.tensors(), {node.name: node for node in graph.nodes}
    weights = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    for name, axes in plan(channels, kept).items():
        values = numpy_helper.to_array(weights[name])
        for axis, indices in axes.items():
            values = np.take(values, indices, axis=axis)
        # As a tensor: the graph library writes arrays of four-bit integers and bfloat16 wrongly.
        tensors[name].values = LazyValues(numpy_helper.from_array(np.ascontiguousarray(values), name))
    _count_again(nodes, channels.sizes, stays, opset(model.proto))
    for edit in channels.indices:
        _renumber(nodes[edit.node], edit, stays)
    gone = [group.id for group in channels.groups if group.vanishes and not full[group.id]]
    branches = vanishing_branches(model, channels) if gone else {}
    for end in {end for name in gone for end in branches[name].ends}:
        _leave_constant(nodes[end], model)
    proto = gs.export_onnx(graph.cleanup().toposort(), ir_version=model.proto.ir_version)
    for step in (constants_are_folded, dead_nodes_are_gone):
        step(proto, model.bound)
    return Model(proto, model.bound, infer_shapes(proto, model.bound))


def masked(model: Model, channels: Channels, kept: Kept) -> Model:
    """The uncut graph with each removed channel zeroed where it is read.

    That is in the consumers' weights; before a reader without weights a Mul by zeros and ones does it. An operator that
    takes statistics of the channels leaves the removed ones out.
    """
    full = whole(channels, kept)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = {node.name: node for node in proto.graph.node}
    zeros, behind = zero_points(proto), origins(proto)
    unweighted: dict[tuple[str, int], tuple[Read, NDArray[np.bool_]]] = {}
    averaged: dict[tuple[str, int], tuple[Read, NDArray[np.bool_]]] = {}
    for group in channels.groups:
        stays = np.zeros(group.channels, bool)
        stays[list(full[group.id])] = True
        if stays.all():
            continue
        weights = {piece.tensor for piece in group.slices if piece.role == "reads"}
        for piece in group.slices:
            if piece.role == "reads":
                gone = (piece.channel >= 0) & ~stays[piece.channel]
                values = numpy_helper.to_array(tensors[piece.tensor]).copy()
                zero = np.broadcast_to(zeros.get(piece.tensor, np.zeros((), values.dtype)), values.shape)
                np.moveaxis(values, piece.axis, 0)[gone] = np.moveaxis(zero, piece.axis, 0)[gone]
                tensors[piece.tensor].CopyFrom(numpy_helper.from_array(values, piece.tensor))
        for read in group.reads:
            if read.statistics:
                _, line = averaged.setdefault((read.node, read.input), (read, np.ones(len(read.channel), bool)))
                line &= (read.channel < 0) | stays[read.channel]
            elif not weights.intersection(behind.get(name, "") for name in nodes[read.node].input):
                _, line = unweighted.setdefault((read.node, read.input), (read, np.ones(len(read.channel), bool)))
                line &= (read.channel < 0) | stays[read.channel]
    _mask_activations(proto, model, unweighted)
    lines = {place: (read.axis, line) for place, (read, line) in averaged.items() if line.any()}
    if lines:
        carried = {name: frozenset(labelled_axes(labels)) for name, labels in channels.tensors.items()}
        ranks = {name: len(shape) for name, shape in model.shapes.items()}
        proto = leave_out(proto, lines, plan(channels, kept), carried, ranks)
    return Model(proto, model.bound, model.shapes)


def _mask_activations(
    proto: onnx.ModelProto, model: Model, masks: dict[tuple[str, int], tuple[Read, NDArray[np.bool_]]]
) -> None:
    kept = []
    types = infer_types(proto, model.bound) if masks else {}
    for node in proto.graph.node:
        for number, name in enumerate(node.input):
            if (node.name, number) in masks:
                read, line = masks[node.name, number]
                rank = len(model.shapes[name])
                dtype = onnx.helper.tensor_dtype_to_np_dtype(types.get(name, onnx.TensorProto.FLOAT))
                values = line.reshape([-1 if axis == read.axis else 1 for axis in range(rank)]).astype(dtype)
                mask, product = f"{node.name}:{number}:mask", f"{node.name}:{number}:masked"
                proto.graph.initializer.append(numpy_helper.from_array(values, mask))
                kind = "And" if dtype == np.bool_ else "Mul"
                kept.append(onnx.helper.make_node(kind, [name, mask], [product], f"{node.name}:{number}:mul"))
                node.input[number] = product
        kept.append(node)
    set_nodes(proto.graph, kept)


def _count_again(
    nodes: dict[str, gs.Node], edits: tuple[SizeEdit, ...], stays: NDArray[np.bool_], version: int
) -> None:
    """Every edit counts the kept channels among its own."""
    for edit in edits:
        count = int(stays[edit.labels].any(axis=1).sum()) if len(edit.labels) else 0
        node, (kind, key) = nodes[edit.node], edit.where
        if edit.position is None:
            node.attrs[key] = count
        elif kind == "attribute":
            entries = list(node.attrs[key])
            entries[edit.position] = count
            node.attrs[key] = entries
        elif len(node.inputs) > int(key) and isinstance(node.inputs[int(key)], gs.Constant):
            constant = node.inputs[int(key)]
            values = np.array(constant.values)
            values.reshape(-1)[edit.position] = count
            constant.values = values
        else:
            _write_split(node, edit.position, count, version)


def _write_split(node: gs.Node, position: int, count: int, version: int) -> None:
    """A Split into equal parts has no sizes to change: write them down."""
    if version >= 13:
        node.attrs.pop("num_outputs", None)
        sizes = gs.Constant(f"{node.name}:split", np.zeros(len(node.outputs), np.int64))
        node.inputs = [node.inputs[0], sizes]
        sizes.values[position] = count
    else:
        sizes = node.attrs.setdefault("split", [0] * len(node.outputs))
        sizes[position] = count


def _renumber(node: gs.Node, edit: IndexEdit, stays: NDArray[np.bool_]) -> None:
    kept = stays[edit.source]
    position = np.cumsum(kept) - 1
    indices = np.asarray(node.inputs[edit.input].values)
    wrapped = np.where(indices < 0, indices + len(kept), indices)
    node.inputs[edit.input].values = position[wrapped[kept[wrapped]]].astype(indices.dtype)


def _leave_constant(node: gs.Node, model: Model) -> None:
    """A reader of nothing gives its bias, the same at every position."""
    output = node.outputs[0]
    rank = len(model.shapes[output.name])
    channel_axis = rank - 1 if node.op == "MatMul" else 1
    out_axis = {"Conv": 0, "ConvTranspose": 1}.get(node.op, 0 if node.attrs.get("transB") else 1)
    weight = node.inputs[1].values
    size = weight.shape[out_axis] * (node.attrs.get("group", 1) if node.op == "ConvTranspose" else 1)
    has_bias = node.op != "MatMul" and len(node.inputs) > 2 and isinstance(node.inputs[2], gs.Constant)
    scale = float(node.attrs.get("beta", 1.0)) if node.op == "Gemm" else 1.0
    bias = np.asarray(node.inputs[2].values).reshape(-1) * scale if has_bias else np.zeros(1)
    shape = [size if axis == channel_axis else 1 for axis in range(rank)]
    constant = gs.Constant(f"{output.name}:constant", np.broadcast_to(bias, size).reshape(shape).astype(weight.dtype))
    node.outputs = []
    for reader in list(output.outputs):
        reader.inputs = [constant if tensor is output else tensor for tensor in reader.inputs]
