"""Criteria by the scale of batch-norm (Liu et al. 2017, slimming; Ye et al. 2018; the ranking in CHEX)."""

import numpy as np
import onnx

from pipeline.importance.criteria import Request, Scores
from pipeline.importance.weights import sum_by_channel
from targets.errors import BadInput

SCALE_INPUT = 1  # of BatchNormalization


def gamma(request: Request) -> Scores:
    """abs(gamma), summed over the batch-norms that ride on a channel. BadInput for a group that has none."""
    graph = request.proto.graph
    names = {node.input[SCALE_INPUT] for node in graph.node if node.op_type == "BatchNormalization"}
    scales = {
        tensor.name: np.abs(np.asarray(onnx.numpy_helper.to_array(tensor)).astype(np.float64))
        for tensor in graph.initializer
        if tensor.name in names
    }
    scores: Scores = {}
    for group in request.groups:
        own = [entry for entry in group.slices if entry.role == "rides" and entry.tensor in scales]
        if own:
            parts = [sum_by_channel(scales[entry.tensor], entry.channel, group.channels) for entry in own]
            scores[group.id] = np.sum(parts, axis=0)
        elif group.locked_because is None:
            raise BadInput(
                f"Group {group.id} has no batch-norm (the exporter may have folded it), so bn-gamma cannot score it. "
                f"Take --criterion l2, or taylor with --data."
            )
    return scores
