"""What is minimised, and what is kept to, as sums of tables: importance is one more quantity, and a floor a ceiling."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.allocation.problem import Budget, Choice, CostTable, Width

IMPORTANCE = "importance"


def importance(choices: Sequence[Choice], least: float = -math.inf) -> Budget:
    """The importance of what is kept, which shall be at least `least`."""
    tables = tuple(
        CostTable(c.group, (Width(((c.group, 1),)),), _Lookup({(o.channels,): o.value for o in c.options}))
        for c in choices
    )
    return Budget(IMPORTANCE, math.inf, tables, least=least)


def negated(budget: Budget) -> Budget:
    """Minus the quantity; its floor is the ceiling, its ceiling the floor."""
    tables = tuple(replace(table, cost=_Negated(table.cost)) for table in budget.tables)
    return replace(budget, tables=tables, constant=-budget.constant, limit=-budget.least, least=-budget.limit)


def ceilings(budget: Budget) -> list[Budget]:
    """The budget's ceiling, and its floor as a ceiling on the negated quantity, as far as it has them."""
    found = [replace(budget, least=-math.inf)] if budget.limit < math.inf else []
    return [*found, replace(negated(budget), least=-math.inf)] if budget.least > -math.inf else found


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
