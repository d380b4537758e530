"""The ground truth for criteria: the exact change in loss when one channel is removed, one channel at a time.

One pass over the data per channel: for small networks, and for judging criteria by rank correlation (Molchanov 2017).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import onnx
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.batches import Batch
from pipeline.autograd import OnnxModule
from pipeline.graph.channels import ChannelGroup, Read
from pipeline.importance.criteria import Scores
from pipeline.importance.loss import Loss, as_tensors

Tap = Callable[[Tensor], Tensor]


def oracle(
    proto: onnx.ModelProto, groups: Sequence[ChannelGroup], batches: Sequence[Batch], *, seed: int = 0
) -> Scores:
    """Group id -> signed change of the mean loss, shape (group.channels,), when a channel is zeroed at its reads.

    The loss is the one that taylor criteria use (`pipeline.importance.loss`), in eval mode.
    """
    module = OnnxModule(proto).requires_grad_(False)
    loss = Loss(proto, seed)
    with torch.no_grad():  # the uncut network's own labels, where the data has none
        targets = [loss.targets(module(**as_tensors(batch)), batch.labels) for batch in batches]
    known = list(zip(batches, targets, strict=True))
    before = _mean_loss(module, loss, known)
    scores: Scores = {}
    for group in groups:
        changes = np.zeros(group.channels)
        for channel in range(group.channels):
            with module.tap(_removing(group, channel)):
                changes[channel] = _mean_loss(module, loss, known) - before
        scores[group.id] = changes
    return scores


def rank_correlation(scores: Mapping[str, NDArray[np.float64]], truth: Mapping[str, NDArray[np.float64]]) -> float:
    """Spearman's rank correlation over all channels of all groups in `truth`; NaN where one side is constant."""
    ours = np.concatenate([scores[name] for name in truth])
    theirs = np.concatenate(list(truth.values()))
    if np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(ours, theirs).statistic)


def _removing(group: ChannelGroup, channel: int) -> dict[tuple[str, int], Tap]:
    reads: dict[tuple[str, int], list[Read]] = {}
    for read in group.reads:
        reads.setdefault((read.node, read.input), []).append(read)
    return {at: partial(_zero, reads=tuple(those), channel=channel) for at, those in reads.items()}


def _zero(z: Tensor, *, reads: tuple[Read, ...], channel: int) -> Tensor:
    for read in reads:
        keep = torch.from_numpy((read.channel != channel).astype(np.float32)).to(z)
        z = z * keep.reshape([-1 if axis == read.axis else 1 for axis in range(z.dim())])
    return z


def _mean_loss(module: OnnxModule, loss: Loss, known: Sequence[tuple[Batch, Tensor | None]]) -> float:
    total, examples = 0.0, 0
    with torch.no_grad():
        for batch, targets in known:
            losses = loss(module(**as_tensors(batch)), targets)
            total += float(losses.double().sum())
            examples += len(losses)
    return total / max(examples, 1)
