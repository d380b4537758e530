"""Absorption: what a removed channel gave on average goes into its readers' biases.

A channel that is the constant b contributes b * (sum of the reader's weights over the kernel) everywhere but at
zero-padded borders (Ye et al. 2018, section 3). Removed channels are not constant; their mean is the part that a bias
can stand in for. This changes outputs on purpose: it comes after the proof.
"""

from collections import defaultdict

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from calibration.batches import Samples, take
from pipeline.graph.channels import Kept
from pipeline.graph.couple import Channels
from pipeline.graph.cut import whole
from pipeline.graph.execute import session
from pipeline.graph.model import Model, free_batch
from targets.errors import BadInput

SAMPLES = 512
BATCH = 32


def absorb_means(model: Model, cut: Model, channels: Channels, kept: Kept, samples: Samples) -> Model:
    """`cut` with the mean contribution of every removed channel added to its readers' biases. Exact for channels that
    are constant, but at zero-padded borders. Readers that are gone, or have no bias and are no Conv, are left alone."""
    full = whole(channels, kept)
    removed: dict[tuple[str, str, int], NDArray[np.bool_]] = {}
    for group in channels.groups:
        stays = np.zeros(group.channels, bool)
        stays[list(full[group.id])] = True
        for read in group.reads:
            gone = (read.channel >= 0) & ~stays[read.channel]
            if gone.any():
                place = (read.node, read.tensor, read.axis)
                removed[place] = removed.get(place, np.zeros(len(gone), bool)) | gone
    if not removed:
        return cut
    means = _means(model, {(tensor, axis) for _, tensor, axis in removed}, samples)
    proto = onnx.ModelProto()
    proto.CopyFrom(cut.proto)
    uncut = {node.name: node for node in model.proto.graph.node}
    weights = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    stays_out = _kept_outputs(channels, full)
    for (name, tensor, axis), gone in removed.items():
        node = next((node for node in proto.graph.node if node.name == name), None)
        if node is not None:
            shift = _shift(uncut[name], weights, means[tensor, axis] * gone)
            if shift is not None:
                indices = stays_out.get(uncut[name].input[1])
                _add_bias(proto, node, shift if indices is None else shift[indices])
    return Model(proto, cut.bound, cut.shapes)


def _means(model: Model, places: set[tuple[str, int]], samples: Samples) -> dict[tuple[str, int], NDArray[np.float64]]:
    """The mean of each index along the axis, over samples and all other axes."""
    proto = free_batch(model)
    wanted = sorted({tensor for tensor, _ in places})
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    opened = session(proto)
    sums: dict[tuple[str, int], NDArray[np.float64]] = defaultdict(lambda: np.zeros(1))
    count = 0
    for batch in take(samples, SAMPLES).batches(BATCH):
        size = len(next(iter(batch.inputs.values())))
        try:
            outputs = dict(zip(wanted, opened.run(wanted, dict(batch.inputs)), strict=True))
        except Exception as error:  # the runtime's errors share no base class of their own
            raise BadInput(
                f"The network cannot run a batch of {size}: {' '.join(str(error).split())[:200]} "
                "Export it with a dynamic batch axis."
            ) from error
        for tensor, axis in places:
            values = np.asarray(outputs[tensor], np.float64)
            others = tuple(other for other in range(values.ndim) if other != axis)
            sums[tensor, axis] = sums[tensor, axis] + values.mean(axis=others) * size
        count += size
    if not count:
        raise BadInput("There are no samples to average over. Give at least one.")
    return {place: total / count for place, total in sums.items()}


def _shift(
    node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], mean: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """What the removed inputs contribute to each output on average; None where the operator has no bias to put it."""
    if len(node.input) < 2 or node.input[1] not in weights:
        return None
    weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Conv":
        kernel = weight.reshape(weight.shape[0], weight.shape[1], -1).sum(axis=2)
        groups = attributes.get("group", 1) or 1
        by_group = mean.reshape(groups, -1)
        rows = kernel.reshape(groups, -1, kernel.shape[1])
        return np.asarray(np.einsum("goi,gi->go", rows, by_group).reshape(-1))
    if node.op_type == "Gemm":
        product = (weight if attributes.get("transB") else weight.T) @ mean
        scale = attributes.get("alpha", 1.0) / (attributes.get("beta", 1.0) or 1.0)  # the bias is multiplied by beta
        return np.asarray(scale * product)
    return None


def _kept_outputs(channels: Channels, full: Kept) -> dict[str, NDArray[np.int64]]:
    """For every weight whose output side is cut, the indices that stay."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for group in channels.groups:
        stays = np.zeros(group.channels, bool)
        stays[list(full[group.id])] = True
        for piece in group.slices:
            if piece.role == "makes":
                mask = masks.setdefault(piece.tensor, np.ones(len(piece.channel), bool))
                mask[piece.channel >= 0] &= stays[piece.channel[piece.channel >= 0]]
    return {tensor: np.flatnonzero(mask) for tensor, mask in masks.items()}


def _add_bias(proto: onnx.ModelProto, node: onnx.NodeProto, shift: NDArray[np.float64]) -> None:
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    if len(node.input) > 2 and node.input[2] in tensors:
        bias = tensors[node.input[2]]
        values = numpy_helper.to_array(bias)
        bias.CopyFrom(numpy_helper.from_array((values + shift.reshape(values.shape)).astype(values.dtype), bias.name))
    elif len(node.input) == 2:
        dtype = numpy_helper.to_array(tensors[node.input[1]]).dtype
        name = f"{node.name}:absorbed"
        proto.graph.initializer.append(numpy_helper.from_array(shift.astype(dtype), name))
        node.input.append(name)
