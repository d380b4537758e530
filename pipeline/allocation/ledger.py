"""What every cost table charges for one plan, so that a change of one group asks only the tables it touches."""

from collections.abc import Mapping, Sequence

from pipeline.allocation.problem import Budget


class Ledger:
    """A plan and its costs. `plan` is its own copy; it changes by `move` only."""

    def __init__(self, budgets: Sequence[Budget], channels: Mapping[str, int]) -> None:
        self.plan = dict(channels)
        self._budgets = budgets
        self._tables = [(b, table) for b, budget in enumerate(budgets) for table in budget.tables]
        self._widths = [tuple(width.at(self.plan) for width in table.widths) for _, table in self._tables]
        self._costs = [float(table.cost(at)) for (_, table), at in zip(self._tables, self._widths, strict=True)]
        self.totals = [budget.at(self.plan) for budget in budgets]
        self._touched: dict[str, dict[int, list[int]]] = {}  # group -> table -> steps, axis by axis
        for t, (_, table) in enumerate(self._tables):
            for axis, width in enumerate(table.widths):
                for group, step in width.terms:
                    steps = self._touched.setdefault(group, {}).setdefault(t, [0] * len(table.widths))
                    steps[axis] += step

    def totals_after(self, group: str, channels: int) -> list[float]:
        """Cost per budget if the group kept `channels`."""
        totals = list(self.totals)
        for t, _, cost in self._changes(group, channels):
            totals[self._tables[t][0]] += cost - self._costs[t]
        return totals

    def allows(self, group: str, channels: int) -> bool:
        """Whether every budget would hold after that move, or at least be missed by no more than now."""
        after = self.totals_after(group, channels)
        rows = zip(self._budgets, after, self.totals, strict=True)
        return all(budget.excess(then) == 0 or budget.excess(then) <= budget.excess(now) for budget, then, now in rows)

    def move(self, group: str, channels: int) -> None:
        for t, widths, cost in self._changes(group, channels):
            self._widths[t], self._costs[t] = widths, cost
        self.plan[group] = channels
        # Summed anew: differences of many moves would drift away from what the plan costs.
        self.totals = [budget.constant for budget in self._budgets]
        for (b, _), cost in zip(self._tables, self._costs, strict=True):
            self.totals[b] += cost

    def _changes(self, group: str, channels: int) -> list[tuple[int, tuple[int, ...], float]]:
        """Tables that the move touches, their widths and costs after it."""
        more = channels - self.plan[group]
        found = []
        for t, steps in self._touched.get(group, {}).items():
            widths = tuple([width + step * more for width, step in zip(self._widths[t], steps, strict=True)])
            found.append((t, widths, float(self._tables[t][1].cost(widths))))
        return found
