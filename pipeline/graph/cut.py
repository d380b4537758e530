"""Take the removed channels out of the graph, for real.

A cut is mechanical: the kept indices on every axis that carries channels, and a new count in every constant that counts
them. `masked` builds what the cut must be equal to: the uncut graph in which every removed channel is zeroed where it
is read.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.graph.channels import Kept, Read
from pipeline.graph.couple import Channels
from pipeline.graph.editing import set_nodes
from pipeline.graph.external import without_initialisers
from pipeline.graph.labels import labelled_axes
from pipeline.graph.leave_out import leave_out
from pipeline.graph.model import Model
from pipeline.graph.normalise import constants_are_folded, dead_nodes_are_gone, opset
from pipeline.graph.quanta import origins, zero_points
from pipeline.graph.shapes import infer_shapes, infer_types
from pipeline.graph.surgery import Editor, Plan
from pipeline.graph.vanish import vanishing_branches
from targets.errors import BadInput


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
    return _plan(channels, whole(channels, kept))


def _plan(channels: Channels, full: Kept) -> Plan:
    """The same for a cut that names every group. Slices that share their channels share the work, and the lists."""
    found: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for group in channels.groups:
        if len(full[group.id]) < group.channels:
            stays = np.zeros(group.channels + 1, bool)
            stays[list(full[group.id])] = True
            stays[-1] = True  # index -1 of the axis belongs to another group
            lines = {id(piece.channel): piece.channel for piece in group.slices}
            masks = {key: stays[channel] for key, channel in lines.items()}
            for piece in group.slices:
                axes = found.setdefault(piece.tensor, {})
                mask = masks[id(piece.channel)]
                axes[piece.axis] = axes[piece.axis] & mask if piece.axis in axes else mask
    indices = {id(mask): mask for axes in found.values() for mask in axes.values()}
    lists: dict[int, list[int]] = {key: np.flatnonzero(mask).tolist() for key, mask in indices.items()}
    return {tensor: {axis: lists[id(mask)] for axis, mask in axes.items()} for tensor, axes in found.items()}


def cut(model: Model, channels: Channels, kept: Kept) -> Model:
    """The smaller graph. Tensors keep their names; sizes of initialisers and the constants that count them change."""
    full = whole(channels, kept)
    stays = channels.kept_labels(full)
    taken = _plan(channels, full)
    proto = without_initialisers(model.proto)
    editor = Editor(proto, {tensor.name: tensor for tensor in model.proto.graph.initializer}, taken)
    for edit in channels.sizes:
        count = int(stays[edit.labels].any(axis=1).sum()) if len(edit.labels) else 0
        editor.count_again(edit, count, opset(model.proto))
    for index in channels.indices:
        editor.renumber(index, stays)
    gone = [group.id for group in channels.groups if group.vanishes and not full[group.id]]
    branches = vanishing_branches(model, channels) if gone else {}
    editor.leave_constants({end for name in gone for end in branches[name].ends}, model.shapes)
    editor.write_initialisers()
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
            if read.statistics or not weights.intersection(behind.get(name, "") for name in nodes[read.node].input):
                places = averaged if read.statistics else unweighted
                _, line = places.setdefault((read.node, read.input), (read, np.ones(len(read.channel), bool)))
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
