"""Where the channels of a network that was cut before came from, so that every plan speaks of the original.

Initialisers keep their names when a graph is cut, and a plan says which of their indices stayed: a channel of the
network as it is now leads back, through any initialiser that carries it, to channels of the original.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.graph import cut as cutting
from pipeline.graph.channels import ChannelGroup, Kept
from pipeline.graph.couple import Channels, couple
from pipeline.graph.labels import Blocks
from pipeline.graph.model import Model
from pipeline.stages.scoring import Scores
from targets.errors import ProofFailed

Origin = tuple[str, int]  # group of the original, channel in it


@dataclass(frozen=True, eq=False)
class Lineage:
    """`origins[group][channel]`: the channels of the original that a channel of the network as it is now stands for;
    none where that is not known."""

    origins: Mapping[str, tuple[frozenset[Origin], ...]]


def untouched(channels: Channels) -> Lineage:
    """The original itself."""
    return Lineage(
        {group.id: tuple(frozenset({(group.id, c)}) for c in range(group.channels)) for group in channels.groups}
    )


def trace(original: Channels, kept: Kept, now: Channels) -> Lineage:
    """`kept`: what is left of the original in the network whose channels are `now`."""
    left = cutting.plan(original, kept)
    owners: dict[tuple[str, int], dict[int, Origin]] = {}
    for group in original.groups:
        for piece in group.slices:
            own = owners.setdefault((piece.tensor, piece.axis), {})
            own.update({i: (group.id, int(c)) for i, c in enumerate(piece.channel) if c >= 0})
    lengths = {(piece.tensor, piece.axis): len(piece.channel) for group in original.groups for piece in group.slices}
    found = {}
    for group in now.groups:
        origins: list[set[Origin]] = [set() for _ in range(group.channels)]
        for piece in group.slices:
            place = piece.tensor, piece.axis
            indices = left.get(piece.tensor, {}).get(piece.axis, list(range(lengths.get(place, 0))))
            if place in owners and len(indices) == len(piece.channel):
                for index, channel in zip(indices, piece.channel, strict=True):
                    if channel >= 0 and index in owners[place]:
                        origins[channel].add(owners[place][index])
        found[group.id] = tuple(frozenset(each) for each in origins)
    return Lineage(found)


def couple_again(model: Model, original: Channels, kept: Kept) -> tuple[Channels, Lineage]:
    """The channels of a network of which `kept` is left, coupled as the original was as far as that can be had.

    What grouped convolutions and attention heads lose is chosen by their sizes, which a cut changes: where another
    choice leaves more channels that can be told apart, that one is taken."""
    free = {group.id for group in original.free}
    wanted = sum(len(kept[name]) for name in free)
    best: tuple[int, Channels, Lineage] | None = None
    for blocks in dict.fromkeys((original.blocks, *get_args(Blocks))):
        channels = couple(model, blocks=blocks)
        lineage = trace(original, kept, channels)
        clear = {each for origins in lineage.origins.values() for each in origins if len(each) == 1}
        count = sum(name in free for each in clear for name, _ in each)
        if best is None or count > best[0]:
            best = count, channels, lineage
        if count == wanted:
            break
    assert best is not None
    return best[1], best[2]


def still_free(
    lineage: Lineage, now: Channels, kept: Kept, allowed: Sequence[str], *, inexact: bool
) -> tuple[tuple[ChannelGroup, ...], frozenset[str]]:
    """The groups, as they are now, that may be cut further, and the groups of the original that they stand for: those
    in `allowed` whose channels are all free now, each for itself."""
    groups = {group.id: group for group in now.free if inexact or group.exact}
    open_now = {name for name in groups if all(len(origins) == 1 for origins in lineage.origins[name])}
    decidable = set(allowed)
    while True:
        places: dict[Origin, set[str]] = {}
        for name, origins in lineage.origins.items():
            for each in origins:
                for origin in each:
                    places.setdefault(origin, set()).add(name)
        left = {
            name
            for name in decidable
            if all(places.get((name, channel), set()) and places[name, channel] <= open_now for channel in kept[name])
        }
        fits = {name for name in open_now if all(group in left for each in lineage.origins[name] for group, _ in each)}
        if (left, fits) == (decidable, open_now):
            return tuple(groups[name] for name in groups if name in fits), frozenset(left)
        decidable, open_now = left, fits


def of_original(lineage: Lineage, scores: Scores, kept: Kept, decidable: frozenset[str]) -> Scores:
    """Scores by group of the original, one for each channel that is left; of several that stand for one, the sum."""
    places: dict[Origin, float] = {}
    for name, values in scores.items():
        for origins, value in zip(lineage.origins[name], values, strict=True):
            for origin in origins:
                places[origin] = places.get(origin, 0.0) + float(value)
    return {name: np.asarray([places[name, channel] for channel in kept[name]], np.float64) for name in decidable}


def as_now(lineage: Lineage, groups: Sequence[ChannelGroup], stays: Kept) -> dict[str, tuple[int, ...]]:
    """What to keep of `groups` in the network as it is now, so that `stays` is left of the original."""
    wanted = {(name, channel) for name, channels in stays.items() for channel in channels}
    found = {}
    for group in groups:
        kept = [origins <= wanted for origins in lineage.origins[group.id]]
        if any(not stay and origins & wanted for stay, origins in zip(kept, lineage.origins[group.id], strict=True)):
            raise ProofFailed(
                f"Group {group.id} goes together otherwise than in the original: a further round cannot cut it. "
                "Give --rounds 1. This is a defect of cutback: please report it with the model."
            )
        found[group.id] = tuple(int(channel) for channel in np.flatnonzero(kept))
    return found


def spread_out(values: NDArray[np.float64], kept: Sequence[int], channels: int) -> list[float]:
    """One value for each channel of the original group; not a number for those that left in an earlier round."""
    full = np.full(channels, np.nan)
    full[list(kept)] = values
    return [float(value) for value in full]
