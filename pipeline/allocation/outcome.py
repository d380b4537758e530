"""What an allocator hands over, and the error when nothing fits."""

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
    """No plan holds the budget. `least` is the cheapest that was found, `full` the uncut cost, in the budget's unit."""

    def __init__(self, choices: Sequence[Choice], budget: Budget, least: float, others: Sequence[Budget] = ()) -> None:
        self.quantity, self.limit, self.least, self.full = (
            budget.quantity,
            budget.limit,
            least,
            budget.at(widest(choices)),
        )
        share = f" ({least / self.full:.3g}x of the uncut {self.full:.6g})" if self.full else ""
        beside = f" beside {' and '.join(f'{b.quantity} <= {b.limit:.6g}' for b in others)}" if others else ""
        super().__init__(
            f"No choice of widths brings {budget.quantity} to {budget.limit:.6g}{beside}: the best reachable is "
            f"{least:.6g}{share}. Ask for no less than that, or allow narrower widths."
        )


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
