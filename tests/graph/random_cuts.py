"""Random legal cuts, and the two things every cut must satisfy."""

from collections.abc import Mapping

import numpy as np

from pipeline.graph.couple import Channels
from pipeline.graph.cut import cut, masked
from pipeline.graph.model import Model
from pipeline.graph.proof import Proof, prove

Kept = Mapping[str, tuple[int, ...]]


def random_half(channels: Channels, seed: int = 0, keep: float = 0.5) -> Kept:
    """In every free group the share `keep` of the channels, drawn at random."""
    generator = np.random.default_rng(seed)
    return {
        group.id: tuple(sorted(generator.choice(group.channels, max(1, round(keep * group.channels)), False).tolist()))
        for group in channels.free
    }


def random_vanishing(channels: Channels, seed: int) -> Kept:
    """Random shares of the free groups, and of the branches that may vanish a random choice gone."""
    generator = np.random.default_rng(seed)
    kept = dict(random_half(channels, seed, keep=float(generator.uniform(0.2, 1))))
    gone = {group.id for group in channels.free if group.vanishes and generator.random() < 0.6}
    return {**kept, **{group.id: () for group in channels.groups if group.vanishes_with in gone}}


def proven(model: Model, channels: Channels, kept: Kept) -> Proof:
    """Raises where cut and masked original differ."""
    return prove(cut(model, channels, kept), masked(model, channels, kept))
