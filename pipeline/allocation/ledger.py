"""What every cost table charges for one plan, so that a change of one group asks only the tables it touches."""

from collections.abc import Mapping, Sequence

from pipeline.allocation.problem import Budget


class Ledger:
    """A plan and its costs. `plan` is its own copy; it changes by `move` only."""

    def __init__(self, budgets: Sequence[Budget], channels: Mapping[str, int]) -> None:
        self.plan = dict(channels)
        self._budgets = budgets
        self._costs = {
            (b, t): table.at(self.plan) for b, budget in enumerate(budgets) for t, table in enumerate(budget.tables)
        }
        self.totals = [budget.at(self.plan) for budget in budgets]
        self._touched: dict[str, list[tuple[int, int]]] = {}
        for b, t in self._costs:
            widths = budgets[b].tables[t].widths
            for group in dict.fromkeys(group for width in widths for group, _ in width.terms):
                self._touched.setdefault(group, []).append((b, t))

    def totals_after(self, group: str, channels: int) -> list[float]:
        """Cost per budget if the group kept `channels`."""
        return self._after(group, channels)[0]

    def allows(self, group: str, channels: int) -> bool:
        """Whether every budget would hold after that move, or at least cost no more than now."""
        after = self.totals_after(group, channels)
        rows = zip(self._budgets, after, self.totals, strict=True)
        return all(budget.allows(total) or total <= now for budget, total, now in rows)

    def move(self, group: str, channels: int) -> None:
        self.totals, changed = self._after(group, channels)
        self._costs.update(changed)
        self.plan[group] = channels

    def _after(self, group: str, channels: int) -> tuple[list[float], dict[tuple[int, int], float]]:
        held = self.plan[group]
        self.plan[group] = channels
        changed = {(b, t): self._budgets[b].tables[t].at(self.plan) for b, t in self._touched.get(group, ())}
        self.plan[group] = held
        totals = list(self.totals)
        for (b, t), cost in changed.items():
            totals[b] += cost - self._costs[b, t]
        return totals, changed
