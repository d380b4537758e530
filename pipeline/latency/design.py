"""Which plans to profile in place: mostly at candidate widths, some at any."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.graph.channels import ChannelGroup
from pipeline.graph.couple import Channels

FEWEST_PLANS = 18  # below this the fit has fewer samples than families have terms
PLANS_PER_CANDIDATE = 2.0  # each width of a group is then seen in place with two widths of its neighbours
ANYWHERE = 0.35  # plans off the candidates for each one at them: what a plan that others made will cost
NARROWEST_SHARE = 0.25  # of a group's channels, off the candidates


def design(
    channels: Channels,
    groups: Sequence[ChannelGroup],
    candidates: Mapping[str, Sequence[int]],
    seed: int,
) -> Iterator[dict[str, int]]:
    """Random plans: at candidates, where each width of a group comes up equally often, and in between
    some at any width."""
    full = {group.id: group.channels for group in channels.groups}
    most = max((len(counts) for counts in candidates.values()), default=1)
    if most == 1:
        return
    generator = np.random.default_rng(seed)
    plans = max(FEWEST_PLANS, int(PLANS_PER_CANDIDATE * most))
    columns = {
        group.id: _balanced(candidates.get(group.id, (group.channels,)), plans, generator)
        for group in groups
        if group.vanishes_with in (None, group.id)
    }
    inner = [group for group in groups if group.vanishes_with not in (None, group.id)]
    owed = 0.0
    for number in range(plans):
        plan = {**full, **{group_id: column[number] for group_id, column in columns.items()}}
        for group in inner:
            alive = plan[group.vanishes_with or group.id] > 0
            counts = [count for count in candidates.get(group.id, (group.channels,)) if count > 0]
            plan[group.id] = int(generator.choice(counts)) if alive else 0
        yield plan
        owed += ANYWHERE
        if owed >= 1:
            owed -= 1
            yield anywhere(full, groups, generator)


def anywhere(full: Mapping[str, int], groups: Sequence[ChannelGroup], generator: np.random.Generator) -> dict[str, int]:
    """A plan with any widths, no branch gone."""
    plan = dict(full)
    for group in groups:
        low = max(1, int(np.ceil(NARROWEST_SHARE * group.channels)))
        plan[group.id] = int(generator.integers(low, group.channels + 1))
    return plan


def at_candidates(
    full: Mapping[str, int],
    groups: Sequence[ChannelGroup],
    candidates: Mapping[str, Sequence[int]],
    generator: np.random.Generator,
) -> dict[str, int]:
    """A plan with candidate widths, no branch gone."""
    plan = dict(full)
    for group in groups:
        low = min(max(1, int(np.ceil(NARROWEST_SHARE * group.channels))), group.channels)
        counts = [count for count in candidates.get(group.id, (group.channels,)) if count >= low]
        plan[group.id] = int(generator.choice(counts))
    return plan


def _balanced(counts: Sequence[int], length: int, generator: np.random.Generator) -> list[int]:
    repeats = -(-length // len(counts))
    column = np.concatenate([generator.permutation(list(counts)) for _ in range(repeats)])
    return [int(count) for count in column[:length]]
