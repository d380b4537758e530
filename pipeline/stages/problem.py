"""The allocation problem of a network: options per group, and budgets that know which branches may vanish."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.allocation.problem import Budget, Choice, CostTable, Option, Scores, Width, choices_from, floors_of
from pipeline.graph.channels import ChannelGroup

# Groups whose widths nobody measured (a goal in FLOPs or parameters alone) are offered at this many even steps.
EVEN_STEPS = 16


def even_candidates(groups: Sequence[ChannelGroup]) -> dict[str, tuple[int, ...]]:
    """Channel counts at even steps, and 0 where the branch may vanish."""
    found = {}
    for group in groups:
        steps = min(EVEN_STEPS, group.channels)
        counts = {round(group.channels * step / steps) for step in range(1, steps + 1)}
        found[group.id] = tuple(sorted(counts | ({0} if group.vanishes_with else set())))
    return found


def make_choices(
    scores: Scores,
    candidates: Mapping[str, Sequence[int]],
    groups: Sequence[ChannelGroup],
    *,
    floor: float,
    vanish: bool,
    floors: Sequence[tuple[str, float]] = (),
) -> tuple[Choice, ...]:
    """Options and their worth. A group inside a branch goes with the branch: it keeps a width of its own as long as the
    branch lives, and what it is worth is taken off the branch's empty option.

    `floors`: (pattern, share), beside `floor` for all; shares are of the uncut group, also where `scores` are of the
    channels that an earlier cut left."""
    inner = {group.id: group.vanishes_with for group in groups if group.vanishes_with and not group.vanishes}
    shares = floors_of([group.id for group in groups], floor, floors)
    offered = {
        group.id: [
            count
            for count in candidates[group.id]
            if count >= least_channels(group.channels, shares[group.id]) or (not count and vanish and group.vanishes)
        ]
        for group in groups
    }
    choices = choices_from({group.id: scores[group.id] for group in groups}, offered)
    lost: dict[str, float] = {}
    for group_id, outer in inner.items():
        lost[outer] = lost.get(outer, 0.0) + float(np.sum(scores[group_id]))
    return tuple(
        replace(
            choice,
            options=tuple(
                Option(0, option.value - lost.get(choice.group, 0.0)) if option.channels == 0 else option
                for option in choice.options
            ),
        )
        for choice in choices
    )


def least_channels(channels: int, share: float) -> int:
    """The fewest of a group's channels that a floor leaves; never none."""
    return max(1, math.ceil(share * channels - 1e-9))


def with_branches(
    tables: Sequence[CostTable], groups: Sequence[ChannelGroup], decided: Mapping[str, int]
) -> tuple[CostTable, ...]:
    """Tables of what lies inside a branch cost nothing once the branch has vanished. Groups that nobody decides on
    (`decided`: group -> channels, for those) become constants."""
    outer_of = {g.id: g.vanishes_with for g in groups if g.vanishes_with and not g.vanishes}
    present = {group.id for group in groups}
    found = []
    for table in tables:
        widths = tuple(_settled(width, present, decided) for width in table.widths)
        inside = {outer_of[group] for width in widths for group, _ in width.terms if group in outer_of}
        switches = sorted(outer for outer in inside if outer in present)
        if switches:
            axes = tuple(Width(((outer, 1),)) for outer in switches)
            found.append(CostTable(table.name, (*axes, *widths), _Switched(table, len(axes))))
        else:
            found.append(CostTable(table.name, widths, table.cost))
    return tuple(found)


def settle_budget(budget: Budget, groups: Sequence[ChannelGroup], decided: Mapping[str, int]) -> Budget:
    return replace(budget, tables=with_branches(budget.tables, groups, decided))


def complete(channels: Mapping[str, int], groups: Sequence[ChannelGroup], decided: Mapping[str, int]) -> dict[str, int]:
    """The whole plan: undecided groups as they are, and nothing inside a branch that vanished."""
    plan = {**decided, **channels}
    for group in groups:
        if group.vanishes_with and plan.get(group.vanishes_with) == 0:
            plan[group.id] = 0
    return plan


@dataclass(frozen=True, eq=False)
class _Switched:
    """The cost of all but the first `count` widths, or nothing where one of those is zero."""

    table: CostTable
    count: int

    def __call__(self, widths: tuple[int, ...]) -> float:
        return 0.0 if 0 in widths[: self.count] else float(self.table.cost(widths[self.count :]))


def _settled(width: Width, present: set[str], decided: Mapping[str, int]) -> Width:
    constant = width.constant + sum(step * decided[group] for group, step in width.terms if group not in present)
    return Width(tuple((group, step) for group, step in width.terms if group in present), constant)
