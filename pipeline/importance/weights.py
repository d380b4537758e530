"""Criteria by weight magnitude (Li et al. 2016; "minimum weight" in Molchanov et al. 2017)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.graph.channels import AxisSlice
from pipeline.graph.quanta import real_values
from pipeline.importance.criteria import Request, Scores
from targets.errors import BadInput

MIN_FILTER_RANK = 2  # one axis makes a bias, which says nothing of a filter's size


def l1(request: Request) -> Scores:
    """Sum of abs(W) over the filters of a channel, over all tensors that make it."""
    return _aggregate(request, np.abs)


def l2(request: Request) -> Scores:
    """sqrt(sum of W^2) over the filters of a channel, over all tensors that make it."""
    return {name: np.sqrt(values) for name, values in _aggregate(request, np.square).items()}


def _aggregate(request: Request, magnitude: Callable[[NDArray[Any]], NDArray[Any]]) -> Scores:
    tensors = {tensor.name: tensor for tensor in request.proto.graph.initializer}
    values = real_values(request.proto)
    scores: Scores = {}
    for group in request.groups:
        filters = [
            entry for entry in group.slices if entry.role == "makes" and _rank(tensors, entry) >= MIN_FILTER_RANK
        ]
        if filters:
            parts = [_per_channel(values(entry.tensor), entry, group.channels, magnitude) for entry in filters]
            scores[group.id] = np.sum(parts, axis=0)
        elif group.locked_because is None:
            raise BadInput(
                f"Group {group.id} has no filters that make its channels, so weights cannot score it. "
                f"Take --criterion taylor with --data."
            )
    return scores


def _rank(tensors: dict[str, onnx.TensorProto], entry: AxisSlice) -> int:
    if entry.tensor not in tensors:
        raise BadInput(f"Weight {entry.tensor} is not an initialiser of the graph. Load the model again.")
    return len(tensors[entry.tensor].dims)


def _per_channel(
    values: NDArray[np.float64], entry: AxisSlice, channels: int, magnitude: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[np.float64]:
    weights = magnitude(values)
    others = tuple(axis for axis in range(weights.ndim) if axis != entry.axis % weights.ndim)
    return sum_by_channel(weights.sum(axis=others), entry.channel, channels)


def sum_by_channel(values: NDArray[Any], channel: NDArray[np.int64], channels: int) -> NDArray[np.float64]:
    """Sums the values at indices that belong to the same channel; -1 belongs to none. Shape (channels,), float64."""
    own = channel >= 0
    return np.bincount(channel[own], weights=values[own], minlength=channels).astype(np.float64)
