"""The most valuable widths within the budgets, with a proof of how far from the best they can be; and the cheapest.

The knapsack over measured kernel tables of HALP (2021) and MDP (2025), with both widths of every kernel and sums of
widths, solved exactly.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.allocation.greedy import descend, repair
from pipeline.allocation.outcome import Allocation, Unreachable, relative_gap
from pipeline.allocation.polish import polish
from pipeline.allocation.problem import Budget, Choice, best_value, costs_of, narrowest, validate, value_of, widest
from pipeline.allocation.program import formulate
from pipeline.allocation.proven import BOUND_MARGIN, Proven, least_of
from pipeline.allocation.solver import minimise
from pipeline.allocation.target import ceilings, compact, importance, negated
from pipeline.allocation.uniform import allocate_uniform

TIME_LIMIT_S = 20.0
GAP = 1e-3  # scores are estimates; a last thousandth of their sum is not worth waiting for


def allocate_exact(
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    *,
    time_limit_s: float = TIME_LIMIT_S,
    gap: float = GAP,
) -> Allocation:
    """Maximise the kept importance within all budgets; `Unreachable` where they cannot be met.

    `gap` is the relative gap aimed at. `time_limit_s` bounds the search, and again every proof that nothing fits; when
    it strikes, `status` says so and `gap` shows what is left. Deterministic unless the time limit strikes.
    """
    started = time.monotonic()
    validate(choices, budgets)
    budgets = [compact(budget) for budget in budgets]
    search = Search(tuple(choices), negated(importance(choices)), tuple(budgets), time_limit_s, gap)
    plan, proven = search.plan()
    value = value_of(choices, plan)
    bound = max(value, min(-proven.bound, best_value(choices)))
    return _allocation(search, budgets, plan, bound, relative_gap(value, bound), proven, started)


def allocate_cheapest(
    choices: Sequence[Choice],
    target: Budget,
    within: Sequence[Budget] = (),
    *,
    least_value: float = -math.inf,
    time_limit_s: float = TIME_LIMIT_S,
    gap: float = GAP,
) -> Allocation:
    """Minimise `target`'s quantity, its limits aside, within the other budgets, keeping at least `least_value`
    importance; `Unreachable` where that cannot be.

    `bound` and `gap` are then of the cost, which no such plan can bring below `bound`; `costs` holds it under the
    target's quantity, `value` is the importance kept. Otherwise as allocate_exact.
    """
    started = time.monotonic()
    target = replace(target, limit=math.inf, least=-math.inf)
    validate(choices, [replace(target, limit=0.0), *within])
    target, within = compact(target), [compact(budget) for budget in within]
    kept = [importance(choices, least_value)] if least_value > -math.inf else []
    search = Search(tuple(choices), target, (*within, *kept), time_limit_s, gap)
    plan, proven = search.plan()
    cost = target.at(plan)
    bound = min(cost, proven.bound)
    return _allocation(search, [target, *within], plan, bound, relative_gap(bound, cost), proven, started)


def minimum_cost(
    choices: Sequence[Choice], budget: Budget, *, within: Sequence[Budget] = (), time_limit_s: float = TIME_LIMIT_S
) -> float:
    """The least cost in the budget's quantity that any plan has been found to reach, its limits aside.

    `within` are other budgets to hold meanwhile; where no plan is found that does, the cost of the narrowest.
    """
    validate(choices, [replace(budget, limit=0.0, least=-math.inf), *within])
    rows = [row for other in within for row in ceilings(other)]
    proven = least_of(choices, budget, rows, time_limit_s=time_limit_s, gap=GAP)
    return budget.at(proven.channels or narrowest(choices))


@dataclass(frozen=True)
class Search:
    """For little of `target` within the budgets."""

    choices: tuple[Choice, ...]
    target: Budget
    budgets: tuple[Budget, ...]
    time_limit_s: float
    gap: float

    @property
    def rows(self) -> list[Budget]:
        return [row for budget in self.budgets for row in ceilings(budget)]

    def plan(self) -> tuple[Mapping[str, int], Proven]:
        """What is found and proved; what a search for any plan finds; else Unreachable, with the budget at fault."""
        proven = least_of(self.choices, self.target, self.rows, time_limit_s=self.time_limit_s, gap=self.gap)
        if proven.channels is not None:
            return proven.channels, proven
        if not proven.infeasible:
            starts = [widest(self.choices), self._common_share(), self._nearest()]
            plans = [plan for start in starts if (plan := self._walk(start)) is not None]
            if plans:
                polished = (polish(self.choices, self.target, self.rows, plan) for plan in plans)
                return min(polished, key=self.target.at), proven
        raise self._unreachable()

    def _walk(self, start: Mapping[str, int]) -> Mapping[str, int] | None:
        """Down from the start, or any way near it, until all rows hold."""
        plan = descend(self.choices, self.rows, start)
        return plan if plan is not None else repair(self.choices, self.target, self.rows, start)

    def _common_share(self) -> Mapping[str, int]:
        try:
            return allocate_uniform(self.choices, self.budgets).channels
        except Unreachable:
            return narrowest(self.choices)

    def _nearest(self) -> Mapping[str, int]:
        """The plan that would miss the rows by least, wherever worth may lie."""
        program = formulate(self.choices, self.rows)
        excess = np.zeros(len(program.integer))
        excess[program.slack] = 1.0
        solved = minimise(program, excess, program.budgets, time_limit_s=self.time_limit_s, gap=self.gap)
        return solved.channels or narrowest(self.choices)

    def _unreachable(self) -> Unreachable:
        for budget in self.budgets:
            for row, sign in _signed(budget):
                least = minimum_cost(self.choices, row, time_limit_s=self.time_limit_s)
                if not row.allows(least):
                    return self._missed(budget, sign * least)
        last, others = self.budgets[-1], self.budgets[:-1]
        row, sign = _signed(last)[-1]
        least = minimum_cost(self.choices, row, within=others, time_limit_s=self.time_limit_s)
        return self._missed(last, sign * least, others)

    def _missed(self, budget: Budget, reached: float, others: Sequence[Budget] = ()) -> Unreachable:
        alike = [other for other in self.budgets if other.quantity == budget.quantity]
        full = costs_of(alike, widest(self.choices))[budget.quantity]
        if len(alike) > 1:  # the largest of several: what each of them alone can come down to is no answer
            reached = costs_of(alike, narrowest(self.choices))[budget.quantity]
        return Unreachable(self.choices, budget, reached, others, full)


def _signed(budget: Budget) -> list[tuple[Budget, float]]:
    """The budget's ceilings, and what turns their costs into the budget's."""
    signs = [1.0] * (budget.limit < math.inf) + [-1.0] * (budget.least > -math.inf)
    return list(zip(ceilings(budget), signs, strict=True))


def _allocation(
    search: Search,
    budgets: Sequence[Budget],
    plan: Mapping[str, int],
    bound: float,
    gap: float,
    proven: Proven,
    started: float,
) -> Allocation:
    status = "optimal" if gap <= search.gap + BOUND_MARGIN else "time limit" if proven.exact else "rounded sums"
    value, costs = value_of(search.choices, plan), costs_of(budgets, plan)
    return Allocation(plan, value, costs, bound, gap, status, time.monotonic() - started, proven.solver)
