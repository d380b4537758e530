"""What an allocator hands over, and the error when nothing fits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.allocation.problem import Budget, Choice, best_value, costs_of, widest
from targets.errors import GoalNotMet


@dataclass(frozen=True)
class Allocation:
    """Channels kept per group, and how good that is.

    `value` and `costs` (by quantity) are evaluated on scores and tables, not read off a solver. No plan that the
    choices and budgets permit is worth more than `bound`; `gap` is (bound - value) / max(|bound|, |value|).
    """

    channels: Mapping[str, int]
    value: float
    costs: Mapping[str, float]
    bound: float
    gap: float
    status: str
    seconds: float
    solver: str


class Unreachable(GoalNotMet):
    """No plan holds the budget. `least` is the cheapest that was found (the dearest, where the budget's floor is out of
    reach), `full` the uncut cost, in the budget's unit."""

    def __init__(
        self,
        choices: Sequence[Choice],
        budget: Budget,
        least: float,
        others: Sequence[Budget] = (),
        full: float | None = None,
    ) -> None:
        self.quantity, self.limit, self.least = budget.quantity, budget.limit, least
        self.full = budget.at(widest(choices)) if full is None else full
        share = f" ({least / self.full:.3g}x of the uncut {self.full:.6g})" if self.full else ""
        held = dict.fromkeys(limits for other in others if (limits := _limits(other)))
        beside = f" beside {' and '.join(held)}" if held else ""
        if least < budget.least:
            wanted = f"keeps {budget.quantity} at {budget.least:.6g} or more{beside}: the most that is reached is"
            advice = "Ask for no more than that, or loosen the limits."
        else:
            wanted = f"brings {budget.quantity} to {budget.limit:.6g}{beside}: the best reachable is"
            advice = "Ask for no less than that, or allow narrower widths."
        super().__init__(f"No choice of widths {wanted} {least:.6g}{share}. {advice}")


def _limits(budget: Budget) -> str:
    below = f"{budget.quantity} >= {budget.least:.6g}" if budget.least > -math.inf else ""
    above = f"{budget.quantity} <= {budget.limit:.6g}" if budget.limit < math.inf else ""
    return " and ".join(part for part in (below, above) if part)


def baseline(
    solver: str,
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    channels: Mapping[str, int],
    value: float,
    seconds: float,
) -> Allocation:
    """The allocation of a method that proves nothing: bounded only by what the uncut network is worth."""
    bound = max(best_value(choices), value)
    costs = costs_of(budgets, channels)
    return Allocation(dict(channels), value, costs, bound, relative_gap(value, bound), "heuristic", seconds, solver)


def relative_gap(value: float, bound: float) -> float:
    return 0.0 if bound <= value else (bound - value) / max(abs(bound), abs(value))
