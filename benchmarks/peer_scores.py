"""The peer's importance on cutback's channel groups, so that both choose by the same scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.channels import ChannelGroup

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SharedScores:
    """`groups`: those that the peer ranks too; the others are not cut. `scores`: by group id, one value a channel.
    `total`: of all that the peer ranks; `apart`: what part of it lies in no group here, and is always kept."""

    groups: tuple[ChannelGroup, ...]
    scores: Mapping[str, Values]
    total: float

    @property
    def apart(self) -> float:
        return self.total - sum(float(values.sum()) for values in self.scores.values())

    def kept(self, channels: Mapping[str, int]) -> float:
        """Share of the importance that a plan keeps, which takes the best channels of every group."""
        best = (float(np.sort(values)[::-1][: channels[group]].sum()) for group, values in self.scores.items())
        return (self.apart + sum(best)) / self.total


def shared_scores(theirs: Mapping[str, Values], groups: Sequence[ChannelGroup]) -> SharedScores:
    """`theirs`: importance by the name of the layer whose output channels it is of. An exported layer's weight is named
    after it, its output channels first; where several make one of our channels, its worth is their sum."""
    scores: dict[str, Values] = {}
    for group in groups:
        for piece in group.slices:
            values = theirs.get(piece.tensor.removesuffix(".weight"))
            if piece.role == "makes" and piece.axis == 0 and piece.tensor.endswith(".weight") and values is not None:
                own = piece.channel >= 0
                found = scores.setdefault(group.id, np.zeros(group.channels))
                np.add.at(found, piece.channel[own], values[own])
    ranked = tuple(group for group in groups if group.id in scores)
    return SharedScores(ranked, scores, sum(float(values.sum()) for values in theirs.values()))


def peer_kept(theirs: Mapping[str, Values], removed: Mapping[str, NDArray[np.int64]]) -> float:
    """Share of the importance that the peer's own cut keeps."""
    total = sum(float(values.sum()) for values in theirs.values())
    return 1 - sum(float(theirs[layer][lost].sum()) for layer, lost in removed.items()) / total
