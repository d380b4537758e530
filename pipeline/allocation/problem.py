"""The allocation problem: how many channels each group keeps, what that is worth, and what it costs.

Pure data: no graph, no device. Costs are whatever the caller measured or counted (nanoseconds, multiply-adds,
parameters, bytes); the unit of a budget's limit is the unit of its tables.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput

Scores = Mapping[str, NDArray[np.float64]]  # group -> one score per channel, larger = more important

LIMIT_SLACK = 1e-9  # relative; a limit that equals a cost must not be missed by the rounding of a sum


@dataclass(frozen=True)
class Option:
    """Keeping the `channels` best coupled channels of a group keeps `value` importance."""

    channels: int
    value: float


@dataclass(frozen=True)
class Choice:
    """The widths on offer for one group, ascending; the first may be 0 where the branch may vanish."""

    group: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Width:
    """Width of one tensor axis: `constant` + the sum of step * channels over `terms` of (group, step)."""

    terms: tuple[tuple[str, int], ...]
    constant: int = 0

    def at(self, channels: Mapping[str, int]) -> int:
        return self.constant + sum(step * channels[group] for group, step in self.terms)


@dataclass(frozen=True)
class CostTable:
    """Cost of one kernel over the widths of 0 to 3 tensor axes; axes may share groups. The last is what it makes.

    `cost` is pure and answers for every combination of widths the options can reach, width 0 included where it is
    offered.
    """

    name: str
    widths: tuple[Width, ...]
    cost: Callable[[tuple[int, ...]], float]

    def at(self, channels: Mapping[str, int]) -> float:
        return float(self.cost(tuple(width.at(channels) for width in self.widths)))


@dataclass(frozen=True)
class Budget:
    """`constant` + the sum of the tables may not exceed `limit`, nor fall below `least`.

    A quantity that is the largest of several sums (peak memory) takes one budget for each, told apart by `where`; what
    the quantity comes to is the largest of them.
    """

    quantity: str
    limit: float
    tables: tuple[CostTable, ...]
    constant: float = 0.0
    least: float = -math.inf
    where: str = ""

    def at(self, channels: Mapping[str, int]) -> float:
        return self.constant + math.fsum(table.at(channels) for table in self.tables)

    def allows(self, cost: float) -> bool:
        return self.excess(cost) == 0

    def excess(self, cost: float) -> float:
        """By how much the cost lies outside the budget; 0 within."""
        over = cost - self.limit if cost > self.limit + LIMIT_SLACK * max(abs(self.limit), abs(cost)) else 0.0
        under = self.least - cost if cost < self.least - LIMIT_SLACK * max(abs(self.least), abs(cost)) else 0.0
        return max(over, under)

    @property
    def title(self) -> str:
        """The quantity, and where."""
        return f"{self.quantity} at {self.where}" if self.where else self.quantity


def choices_from(
    scores: Scores,
    candidates: Mapping[str, Sequence[int]],
    *,
    floor: float = 0.0,
    floors: Sequence[tuple[str, float]] = (),
) -> tuple[Choice, ...]:
    """Options at the candidate channel counts; keeping n is worth the sum of the n largest scores.

    The uncut width is always on offer; a group without candidates keeps it. `floor` is the least share of a group's
    channels that stays, never below one channel; 0 among the candidates (the branch may vanish) is exempt. `floors`
    are pairs of a pattern (as a shell's, on group ids) and the share that its groups keep; the last that matches
    counts. BadInput for a pattern that matches no group.
    """
    shares = floors_of(list(scores), floor, floors)
    choices = []
    for group, score in scores.items():
        if not np.all(np.isfinite(score)):
            raise BadInput(f"The scores of group {group} are not finite. Check the criterion and its data.")
        full = len(score)
        least = max(1, math.ceil(shares[group] * full - 1e-9))
        counts = {n for n in candidates.get(group, ()) if n == 0 or least <= n <= full} | {full}
        best = np.concatenate([[0.0], np.cumsum(np.sort(np.asarray(score, np.float64))[::-1])])
        choices.append(Choice(group, tuple(Option(n, float(best[n])) for n in sorted(counts))))
    return tuple(choices)


def floors_of(groups: Sequence[str], floor: float, floors: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Group -> least share of its channels that stays."""
    found = dict.fromkeys(groups, floor)
    for pattern, share in (("*", floor), *floors):
        if not 0.0 <= share <= 1.0:
            raise BadInput(f"The floor is a share of each group's channels, between 0 and 1; it was {share}.")
        matched = [group for group in groups if fnmatchcase(group, pattern)]
        if not matched and groups and pattern != "*":
            raise BadInput(
                f"No group that may be cut matches {pattern!r}, so it takes no floor. The groups are listed by: "
                "cutback inspect MODEL"
            )
        found.update(dict.fromkeys(matched, share))
    return found


def validate(choices: Sequence[Choice], budgets: Sequence[Budget]) -> None:
    """Every group decided once, options ascending, every table over decided groups, every number finite."""
    seen = set()
    for choice in choices:
        counts = [option.channels for option in choice.options]
        if choice.group in seen or not counts or counts[0] < 0 or any(a >= b for a, b in itertools.pairwise(counts)):
            raise BadInput(f"Group {choice.group} needs one choice with ascending channel counts; it has {counts}.")
        if not all(math.isfinite(option.value) for option in choice.options):
            raise BadInput(f"The importance of group {choice.group} is not finite. Check the criterion and its data.")
        seen.add(choice.group)
    titles = [budget.title for budget in budgets]
    if len(set(titles)) < len(titles):
        raise BadInput(f"Each quantity takes one limit; the budgets are for {', '.join(titles)}.")
    for budget in budgets:
        if not math.isfinite(budget.limit):
            raise BadInput(f"The limit on {budget.quantity} is {budget.limit}; give a finite number.")
        if not budget.least <= budget.limit:
            raise BadInput(f"{budget.quantity} shall be at least {budget.least:g} and at most {budget.limit:g}.")
        for table in budget.tables:
            for group in (group for width in table.widths for group, _ in width.terms):
                if group not in seen:
                    raise BadInput(f"The cost of {table.name} depends on group {group}, which has no choice. Add one.")


def widest(choices: Sequence[Choice]) -> dict[str, int]:
    """The uncut network: every group at its last option."""
    return {choice.group: choice.options[-1].channels for choice in choices}


def narrowest(choices: Sequence[Choice]) -> dict[str, int]:
    """Every group at its first option."""
    return {choice.group: choice.options[0].channels for choice in choices}


def holds(budgets: Sequence[Budget], channels: Mapping[str, int]) -> bool:
    return all(budget.allows(budget.at(channels)) for budget in budgets)


def costs_of(budgets: Sequence[Budget], channels: Mapping[str, int]) -> dict[str, float]:
    """What the plan costs in every quantity; the largest where several budgets share one."""
    costs: dict[str, float] = {}
    for budget in budgets:
        cost = budget.at(channels)
        costs[budget.quantity] = max(costs.get(budget.quantity, cost), cost)
    return costs


def best_value(choices: Sequence[Choice]) -> float:
    """The most any allocation can be worth, budgets aside."""
    return math.fsum(max(option.value for option in choice.options) for choice in choices)


def value_of(choices: Sequence[Choice], channels: Mapping[str, int]) -> float:
    """Importance kept by a plan that takes one of the options in every group."""
    kept = ({option.channels: option.value for option in choice.options}[channels[choice.group]] for choice in choices)
    return math.fsum(kept)
