"""The most valuable widths within the budgets, with a proof of how far from the best they can be; and the cheapest.

The knapsack over measured kernel tables of HALP (2021) and MDP (2025), with both widths of every kernel and sums of
widths, solved exactly.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.allocation.greedy import descend, repair
from pipeline.allocation.outcome import Allocation, Unreachable, relative_gap
from pipeline.allocation.polish import polish
from pipeline.allocation.problem import (
    Budget,
    Choice,
    best_value,
    costs_of,
    narrowest,
    validate,
    value_of,
    widest,
)
from pipeline.allocation.program import formulate
from pipeline.allocation.proven import BOUND_MARGIN, Proven, least_of
from pipeline.allocation.solver import minimise
from pipeline.allocation.target import ceilings, lost_importance, compact
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
    target, rows = lost_importance(choices), ceilings(budgets)
    proven = least_of(choices, target, rows, time_limit_s=time_limit_s, gap=gap)
    plan = _plan_within(choices, target, budgets, proven, time_limit_s, gap)
    value = value_of(choices, plan)
    bound = max(value, min(-proven.bound, best_value(choices)))
    return _allocation(choices, budgets, plan, bound, relative_gap(value, bound), gap, proven, started)


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
    floor = [lost_importance(choices, least_value)] if least_value > -math.inf else []
    rows = [*ceilings(within), *floor]
    proven = least_of(choices, target, rows, time_limit_s=time_limit_s, gap=gap)
    plan = _plan_within(choices, target, [*within, *floor], proven, time_limit_s, gap)
    cost = target.at(plan)
    bound = min(cost, proven.bound)
    return _allocation(choices, [target, *within], plan, bound, relative_gap(bound, cost), gap, proven, started)


def minimum_cost(
    choices: Sequence[Choice], budget: Budget, *, within: Sequence[Budget] = (), time_limit_s: float = TIME_LIMIT_S
) -> float:
    """The least cost in the budget's quantity that any plan has been found to reach, its limits aside.

    `within` are other budgets to hold meanwhile; where no plan holds them, the cost of the narrowest.
    """
    validate(choices, [budget, *within])
    proven = least_of(choices, budget, ceilings(within), time_limit_s=time_limit_s, gap=GAP)
    return budget.at(proven.channels or narrowest(choices))


def _plan_within(
    choices: Sequence[Choice],
    target: Budget,
    budgets: Sequence[Budget],
    proven: Proven,
    time_limit_s: float,
    gap: float,
) -> Mapping[str, int]:
    """What was found; else what a search for any plan finds; else Unreachable, with the budget at fault."""
    if proven.channels is not None:
        return proven.channels
    rows = ceilings(budgets)
    if not proven.infeasible:
        starts = [widest(choices), _common_share(choices, budgets), _nearest(choices, rows, time_limit_s, gap)]
        plans = [plan for start in starts if (plan := _walk(choices, rows, start)) is not None]
        if plans:
            return min((polish(choices, target, rows, plan) for plan in plans), key=target.at)
    for budget in budgets:
        for row in ceilings([budget]):
            least = minimum_cost(choices, row, time_limit_s=time_limit_s)
            if not row.allows(least):
                raise Unreachable(choices, row, least)
    last, others = rows[-1], rows[:-1]
    raise Unreachable(choices, last, minimum_cost(choices, last, within=others, time_limit_s=time_limit_s), others)


def _walk(choices: Sequence[Choice], rows: Sequence[Budget], start: Mapping[str, int]) -> Mapping[str, int] | None:
    """Down from the start, or any way from where that ends, until all rows hold."""
    plan = descend(choices, rows, start)
    return plan if plan is not None else repair(choices, lost_importance(choices), rows, start)


def _common_share(choices: Sequence[Choice], budgets: Sequence[Budget]) -> Mapping[str, int]:
    try:
        return allocate_uniform(choices, budgets).channels
    except Unreachable:
        return narrowest(choices)


def _nearest(choices: Sequence[Choice], rows: Sequence[Budget], time_limit_s: float, gap: float) -> Mapping[str, int]:
    """The plan that would miss the rows by least, wherever worth may lie."""
    program = formulate(choices, rows)
    excess = np.zeros(len(program.integer))
    excess[program.slack] = 1.0
    return minimise(program, excess, program.budgets, time_limit_s=time_limit_s, gap=gap).channels or narrowest(choices)


def _allocation(
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    plan: Mapping[str, int],
    bound: float,
    gap: float,
    aimed: float,
    proven: Proven,
    started: float,
) -> Allocation:
    status = "optimal" if gap <= aimed + BOUND_MARGIN else "time limit" if proven.exact else "rounded sums"
    costs = costs_of(budgets, plan)
    value = value_of(choices, plan)
    return Allocation(plan, value, costs, bound, gap, status, time.monotonic() - started, proven.solver)
