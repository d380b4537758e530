"""Scores of all channels: a criterion, its normalisation, and its cost regularisation, one after the other."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.batches import Samples, take
from pipeline.allocation.problem import CostTable
from pipeline.costs import PAPER_COSTS, channel_costs
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels
from pipeline.graph.model import Model, free_batch
from pipeline.importance import normalise, regularise, score
from targets.errors import BadInput

Scores = dict[str, NDArray[np.float64]]
Progress = Callable[[int, int, str], None]
SCORING_BATCH = 16  # squared gate gradients are sums over batches: small ones rank better


def score_channels(
    model: Model,
    channels: Channels,
    groups: Sequence[ChannelGroup],
    *,
    criterion: str,
    normalisation: str,
    cost: str = "none",
    strength: float = 0.0,
    latency_tables: Sequence[CostTable] | None = None,
    priced: tuple[Model, Channels] | None = None,
    samples: Samples | None = None,
    count: int = 1024,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Scores:
    """Group id -> one score per channel, larger = more important: normalise(criterion) - strength * cost.

    `priced`: the same network as it will be delivered, where costs on paper are not those of `model`."""
    batches = take(samples, count, seed).batches(SCORING_BATCH) if samples is not None else None
    raw = score(criterion, free_batch(model), groups, batches=batches, seed=seed, on_progress=on_progress)
    scores = dict(normalise({group.id: raw[group.id] for group in groups}, normalisation))
    return regularised(scores, priced or (model, channels), groups, cost, strength, latency_tables=latency_tables)


def regularised(
    scores: Scores,
    priced: tuple[Model, Channels],
    groups: Sequence[ChannelGroup],
    cost: str,
    strength: float,
    *,
    latency_tables: Sequence[CostTable] | None = None,
) -> Scores:
    """score - strength * cost, for the costs of `priced`, of which `groups` are; as they are where nothing is asked."""
    if cost == "none" or strength == 0:
        return scores
    tables = latency_tables if cost == "latency" else PAPER_COSTS[cost](*priced)
    if tables is None:
        raise BadInput("Regularising by latency needs a profile of the target. Give a latency goal, or another cost.")
    return regularise(scores, channel_costs(tables, groups, priced[1]), strength)


def best_channels(scores: Scores, channels: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """For each group, the `channels[group]` best-scored ones, ascending. Ties go to the lower number."""
    kept = {}
    for group, values in scores.items():
        order = np.argsort(-values, kind="stable")[: channels.get(group, len(values))]
        kept[group] = tuple(sorted(int(channel) for channel in order))
    return kept
