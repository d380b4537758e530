"""What is minimised, and what is kept to, as sums of tables: importance is one more quantity, and a floor a ceiling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.allocation.problem import Budget, Choice, CostTable, Width

IMPORTANCE = "importance"


def lost_importance(choices: Sequence[Choice], least_value: float = float("-inf")) -> Budget:
    """Minus the importance of what is kept, which shall be at most minus `least_value`."""
    tables = tuple(
        CostTable(c.group, (Width(((c.group, 1),)),), _Lookup({(o.channels,): -o.value for o in c.options}))
        for c in choices
    )
    return Budget(IMPORTANCE, -least_value, tables)


def ceilings(budgets: Sequence[Budget]) -> list[Budget]:
    """The same budgets without floors: each floor is a ceiling on the negated cost."""
    found = []
    for budget in budgets:
        found.append(replace(budget, least=float("-inf")))
        if budget.least > float("-inf"):
            tables = tuple(replace(table, cost=_Negated(table.cost)) for table in budget.tables)
            found.append(Budget(f"minus {budget.quantity}", -budget.least, tables, -budget.constant, where=budget.where))
    return found


def compact(budget: Budget) -> Budget:
    """The same budget with one table for all that depend on the same widths; each computes an entry once."""
    alike: dict[tuple[Width, ...], list[CostTable]] = {}
    for table in budget.tables:
        alike.setdefault(table.widths, []).append(table)
    tables = (CostTable(own[0].name, widths, _Remembered([t.cost for t in own])) for widths, own in alike.items())
    return replace(budget, tables=tuple(tables))


@dataclass(frozen=True, eq=False)
class _Lookup:
    entries: Mapping[tuple[int, ...], float]

    def __call__(self, widths: tuple[int, ...]) -> float:
        return self.entries[widths]


@dataclass(frozen=True, eq=False)
class _Negated:
    cost: Callable[[tuple[int, ...]], float]

    def __call__(self, widths: tuple[int, ...]) -> float:
        return -self.cost(widths)


class _Remembered:
    """The sum of the costs, computed once for each combination of widths."""

    def __init__(self, costs: Sequence[Callable[[tuple[int, ...]], float]]) -> None:
        self._costs = costs
        self._known: dict[tuple[int, ...], float] = {}

    def __call__(self, widths: tuple[int, ...]) -> float:
        known = self._known.get(widths)
        if known is None:
            known = self._known[widths] = sum(float(cost(widths)) for cost in self._costs)
        return known
