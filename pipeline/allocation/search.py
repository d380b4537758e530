"""Finding the richest plan of a family that is ordered from poor to rich and gets dearer on the whole.

On the whole only: measured costs are stairs with teeth, so a bisection alone can land below a long run of plans that
hold the budget.
"""

from collections.abc import Callable, Mapping, Sequence

from pipeline.allocation.outcome import Unreachable
from pipeline.allocation.problem import Budget, Choice, holds

COARSE = 200  # plans tried from the rich end before bisecting between neighbours of these

Plan = Mapping[str, int]


def richest(plan: Callable[[int], Plan], count: int, choices: Sequence[Choice], budgets: Sequence[Budget]) -> Plan:
    """plan(i) for the largest i in range(count) that holds the budgets, as far as COARSE steps can tell."""
    marks = sorted({round(i * (count - 1) / COARSE) for i in range(COARSE + 1)})
    above = count
    for mark in reversed(marks):
        if holds(budgets, plan(mark)):
            break
        above = mark
    else:
        poorest = plan(0)
        missed = next(budget for budget in budgets if not budget.allows(budget.at(poorest)))
        raise Unreachable(choices, missed, missed.at(poorest))
    while above - mark > 1:
        middle = (mark + above) // 2
        mark, above = (middle, above) if holds(budgets, plan(middle)) else (mark, middle)
    return plan(mark)
