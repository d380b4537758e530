"""The most valuable widths within the budgets, with a proof of how far from the best they can be.

The knapsack over measured kernel tables of HALP (2021) and MDP (2025), with both widths of every kernel and sums of
widths, solved exactly.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from pipeline.allocation.greedy import descend
from pipeline.allocation.outcome import Allocation, Unreachable, relative_gap
from pipeline.allocation.polish import polish
from pipeline.allocation.problem import Budget, Choice, best_value, narrowest, validate, value_of, widest
from pipeline.allocation.program import Program, formulate
from pipeline.allocation.solver import NAME, minimise
from pipeline.allocation.uniform import allocate_uniform

TIME_LIMIT_S = 20.0
GAP = 1e-3  # scores are estimates; a last thousandth of their sum is not worth waiting for
BOUND_MARGIN = 1e-7  # relative; what the solver's own tolerances may hide from its bound


def allocate_exact(
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    *,
    time_limit_s: float = TIME_LIMIT_S,
    gap: float = GAP,
) -> Allocation:
    """Maximise the kept importance within all budgets; `Unreachable` where they cannot be met.

    `gap` is the relative gap aimed at. `time_limit_s` bounds each run of the solver (one, as a rule; more where no
    plan was found); when it strikes, `status` says so and `gap` shows what is left.
    Deterministic unless the time limit strikes.
    """
    started = time.monotonic()
    validate(choices, budgets)
    program = formulate(choices, budgets)
    solved = minimise(program, -program.value(), program.budgets, time_limit_s=time_limit_s, gap=gap)
    starts: list[Mapping[str, int]] = [solved.channels] if solved.channels else []
    if not (solved.optimal and program.exact):
        starts += [widest(choices), _common_share(choices, budgets)]
    plans = [] if solved.infeasible else [descend(choices, budgets, start) for start in starts]
    within = [plan for plan in plans if plan is not None] or [_cheapest(program, choices, budgets, time_limit_s)]
    bound = -solved.bound
    plan = max((polish(choices, budgets, plan) for plan in within), key=partial(value_of, choices))
    value = value_of(choices, plan)
    bound = max(value, min(bound + BOUND_MARGIN * abs(bound), best_value(choices)))
    reached = relative_gap(value, bound)
    status = "optimal" if reached <= gap + BOUND_MARGIN else "time limit" if program.exact else "rounded sums"
    costs = {budget.quantity: budget.at(plan) for budget in budgets}
    return Allocation(plan, value, costs, bound, reached, status, time.monotonic() - started, NAME)


def minimum_cost(
    choices: Sequence[Choice], budget: Budget, *, within: Sequence[Budget] = (), time_limit_s: float = TIME_LIMIT_S
) -> float:
    """The least cost in the budget's quantity that any plan has been found to reach, its limit aside.

    `within` are other budgets to hold meanwhile.
    """
    validate(choices, [budget, *within])
    program = formulate(choices, [budget, *within])
    target, *rows = program.budgets
    solved = minimise(program, target.weights, rows, time_limit_s=time_limit_s, gap=GAP)
    return budget.at(solved.channels or narrowest(choices))


def _common_share(choices: Sequence[Choice], budgets: Sequence[Budget]) -> Mapping[str, int]:
    try:
        return allocate_uniform(choices, budgets).channels
    except Unreachable:
        return narrowest(choices)


def _cheapest(
    program: Program, choices: Sequence[Choice], budgets: Sequence[Budget], time_limit_s: float
) -> Mapping[str, int]:
    """A plan within all budgets, wherever worth may lie: the one that would miss them by least."""
    excess = np.zeros(len(program.integer))
    excess[program.slack] = 1.0
    solved = minimise(program, excess, program.budgets, time_limit_s=time_limit_s, gap=GAP)
    if (plan := descend(choices, budgets, solved.channels or narrowest(choices))) is not None:
        return plan
    for budget in budgets:
        least = minimum_cost(choices, budget, time_limit_s=time_limit_s)
        if not budget.allows(least):
            raise Unreachable(choices, budget, least)
    last, others = budgets[-1], budgets[:-1]
    raise Unreachable(choices, last, minimum_cost(choices, last, within=others, time_limit_s=time_limit_s), others)
