"""Local search on the cost tables themselves, from any plan that holds its budgets to one that no single move betters.

It spends what a rounded-up cost or a solver's gap left over, and between plans of nearly equal worth takes the wider.
"""

from collections.abc import Mapping, Sequence

from pipeline.allocation.problem import Budget, Choice, best_value

TIE = 1e-6  # of the total value: two plans this close are equally good, scores being estimates
MAX_PASSES = 50  # each pass strictly improves; real instances need two or three


def polish(choices: Sequence[Choice], budgets: Sequence[Budget], channels: Mapping[str, int]) -> dict[str, int]:
    """A plan at least as good, give or take TIE, that holds every budget that `channels` holds."""
    plan = dict(channels)
    ledger = _Ledger(budgets, plan)
    tie = TIE * max(abs(best_value(choices)), *(abs(o.value) for c in choices for o in c.options))
    for _ in range(MAX_PASSES):
        moves = [_improve(choice, plan, ledger, tie) for choice in choices]
        if not any(moves):
            break
    return plan


def _improve(choice: Choice, plan: dict[str, int], ledger: "_Ledger", tie: float) -> bool:
    """Move one group to its best option that the budgets allow; whether it moved."""
    now = next(option for option in choice.options if option.channels == plan[choice.group])
    better = [
        option
        for option in choice.options
        if option.value > now.value + tie or (option.value >= now.value - tie and option.channels > now.channels)
    ]
    for option in sorted(better, key=lambda option: (-option.value, -option.channels)):
        if ledger.move(plan, choice.group, option.channels):
            return True
    return False


class _Ledger:
    """What every table costs at the present plan, so that a move asks only the tables it touches."""

    def __init__(self, budgets: Sequence[Budget], plan: Mapping[str, int]) -> None:
        self._budgets = budgets
        self._costs = [[table.at(plan) for table in budget.tables] for budget in budgets]
        self._totals = [budget.constant + sum(costs) for budget, costs in zip(budgets, self._costs, strict=True)]
        self._touched: dict[str, list[tuple[int, int]]] = {}
        for b, budget in enumerate(budgets):
            for t, table in enumerate(budget.tables):
                for group in dict.fromkeys(group for width in table.widths for group, _ in width.terms):
                    self._touched.setdefault(group, []).append((b, t))

    def move(self, plan: dict[str, int], group: str, channels: int) -> bool:
        """Carry the move out in `plan` if every budget allows it afterwards or costs no more than before."""
        before = plan[group]
        plan[group] = channels
        touched = self._touched.get(group, [])
        costs = {(b, t): self._budgets[b].tables[t].at(plan) for b, t in touched}
        totals = list(self._totals)
        for (b, t), cost in costs.items():
            totals[b] += cost - self._costs[b][t]
        pairs = zip(self._budgets, totals, self._totals, strict=True)
        if not all(budget.allows(total) or total <= held for budget, total, held in pairs):
            plan[group] = before
            return False
        self._totals = totals
        for (b, t), cost in costs.items():
            self._costs[b][t] = cost
        return True
