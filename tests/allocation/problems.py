"""Small random allocation problems, and the truth by trying every plan."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.allocation import Budget, Choice, CostTable, Option, Width
from pipeline.allocation.problem import holds, value_of


def random_choices(rng: np.random.Generator, groups: int, *, vanishing: bool = True) -> tuple[Choice, ...]:
    choices = []
    for g in range(groups):
        least = 0 if vanishing else 1
        counts = sorted({int(n) for n in rng.choice(np.arange(least, 9), size=rng.integers(1, 5), replace=False)})
        values = np.cumsum(rng.normal(0.6, 1.0, len(counts)))  # some channels are worse than none
        choices.append(Choice(f"g{g}", tuple(Option(n, float(v)) for n, v in zip(counts, values, strict=True))))
    return tuple(choices)


def random_table(rng: np.random.Generator, name: str, groups: Sequence[str], *, axes: int) -> CostTable:
    """A cost with steps and teeth over `axes` axes, each one group, a sum of several, or a constant."""
    widths = []
    for _ in range(axes):
        chosen = rng.choice(len(groups), size=rng.choice([0, 1, 1, 1, 2, 3]), replace=False)
        terms = tuple((groups[i], int(rng.integers(1, 3))) for i in chosen)
        widths.append(Width(terms, int(rng.integers(0, 3))))
    weights = rng.uniform(0.1, 2.0, size=3)
    tooth = float(rng.uniform(0.0, 3.0))

    def cost(at: tuple[int, ...]) -> float:
        stairs = [-(-width // 4) * 4 + tooth * (width % 3 > 0) for width in at]
        return 0.5 + float(np.prod(stairs) * weights[0] + weights[1] * sum(stairs))

    return CostTable(name, tuple(widths), cost)


def random_budgets(rng: np.random.Generator, choices: Sequence[Choice], count: int) -> tuple[Budget, ...]:
    """Limits drawn between the cheapest and the dearest plan; together they may well be out of reach."""
    groups = [choice.group for choice in choices]
    budgets = []
    for b in range(count):
        tables = tuple(random_table(rng, f"k{b}.{t}", groups, axes=int(rng.integers(0, 4))) for t in range(6))
        free = Budget(f"quantity{b}", 0.0, tables, float(rng.uniform(0, 5)))
        costs = [free.at(plan) for plan in every_plan(choices)]
        limit = float(np.quantile(costs, rng.uniform(0.05, 0.9)))
        budgets.append(Budget(free.quantity, limit, tables, free.constant))
    return tuple(budgets)


def every_plan(choices: Sequence[Choice]) -> Iterator[Mapping[str, int]]:
    names = [choice.group for choice in choices]
    for counts in itertools.product(*([option.channels for option in choice.options] for choice in choices)):
        yield dict(zip(names, counts, strict=True))


def best_plan(choices: Sequence[Choice], budgets: Sequence[Budget]) -> float | None:
    """Value of the best plan within the budgets, None where there is none."""
    return max((value_of(choices, plan) for plan in every_plan(choices) if holds(budgets, plan)), default=None)


def over(*groups: str, constant: int = 0) -> Width:
    return Width(tuple((group, 1) for group in groups), constant)


class Stairs:
    """Cost of a convolution that works in blocks of `grid` output channels and slows down off a grid of 4."""

    def __init__(self, grid: int, per_pair: float, per_width: float) -> None:
        self.grid, self.per_pair, self.per_width = grid, per_pair, per_width

    def __call__(self, widths: tuple[int, ...]) -> float:
        read, written = widths
        slow = 1.3 if read % 4 else 1.0
        return slow * self.per_pair * read * (-(-written // self.grid) * self.grid) + self.per_width * written + 200.0
