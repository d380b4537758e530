"""HALP's knapsack (Shen et al. 2021): importance against latency, counted from the side that makes the channels.

HALP's: the channels of a group in order of importance, in steps; a step costs what its producer slows down by, other
widths as they are in the uncut network, so what consumers save is not counted; a 0/1 knapsack in which a step needs
the ones before it, solved by dynamic programming over whole units of latency.

Ours: the steps are the options, the costs come from the same tables as everybody's, several budgets are allowed (the
first is packed by, the others hold all the same), and the capacity is searched for: the largest whose plan holds the
budgets on the full tables, both widths of every kernel counted; where not even the smallest does, groups are thinned
further by what the full tables save. HALP prunes in rounds and looks its table up anew.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.allocation.greedy import descend
from pipeline.allocation.outcome import Allocation, Unreachable, baseline
from pipeline.allocation.problem import Budget, Choice, validate, value_of, widest
from pipeline.allocation.search import richest

UNITS = 2000  # of what the groups' producers cost together; a kernel of a large network is a few dozen of them


def allocate_knapsack(choices: Sequence[Choice], budgets: Sequence[Budget]) -> Allocation:
    """The plan of the largest capacity that holds all budgets; `Unreachable` where none does."""
    started = time.monotonic()
    validate(choices, budgets)
    if not budgets:
        return _allocation(choices, budgets, widest(choices), started)
    full = widest(choices)
    costs = [_producers_cost(choice, budgets[0], full) for choice in choices]
    unit = sum(max(own) - min(own) for own in costs) / UNITS or 1.0
    weights = [[int(np.ceil((cost - min(own)) / unit - 1e-9)) for cost in own] for own in costs]
    packed = _pack(choices, weights, UNITS + len(choices))
    try:
        plan = richest(lambda capacity: _unpack(choices, weights, packed, capacity), packed.shape[1], choices, budgets)
    except Unreachable:
        further = descend(choices, budgets, _unpack(choices, weights, packed, 0))
        if further is None:
            raise
        plan = further
    return _allocation(choices, budgets, plan, started)


def _producers_cost(choice: Choice, budget: Budget, full: Mapping[str, int]) -> list[float]:
    """What the kernels that make the group's channels cost at each of its options, all else uncut."""
    made = [
        table
        for table in budget.tables
        if table.widths and any(group == choice.group for group, _ in table.widths[-1].terms)
    ]
    return [sum(table.at({**full, choice.group: option.channels}) for table in made) for option in choice.options]


def _pack(choices: Sequence[Choice], weights: Sequence[Sequence[int]], capacity: int) -> NDArray[np.int64]:
    """For each group and capacity, the option that the best packing of this and all earlier groups takes of it."""
    best = np.zeros(capacity + 1)
    taken = np.zeros((len(choices), capacity + 1), np.int64)
    for number, (choice, own) in enumerate(zip(choices, weights, strict=True)):
        values = np.full((len(own), capacity + 1), -np.inf)
        for index, (option, weight) in enumerate(zip(choice.options, own, strict=True)):
            values[index, weight:] = option.value + best[: capacity + 1 - weight]
        taken[number] = values.argmax(axis=0)
        best = values.max(axis=0)
    return taken


def _unpack(
    choices: Sequence[Choice], weights: Sequence[Sequence[int]], taken: NDArray[np.int64], capacity: int
) -> dict[str, int]:
    plan = {}
    for number in range(len(choices) - 1, -1, -1):
        index = int(taken[number, capacity])
        plan[choices[number].group] = choices[number].options[index].channels
        capacity -= weights[number][index]
    return plan


def _allocation(
    choices: Sequence[Choice], budgets: Sequence[Budget], plan: Mapping[str, int], started: float
) -> Allocation:
    return baseline("knapsack", choices, budgets, plan, value_of(choices, plan), time.monotonic() - started)
