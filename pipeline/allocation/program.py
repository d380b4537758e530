"""The allocation problem as a mixed-integer linear program.

One 0/1 column per option; the rest follows from them. A table over two selectors gets one column per pair, whose row
and column sums are the selectors' own columns: the convex hull of that table alone, far tighter than products
linearised one by one. A sum of groups picks one of its values, tied to the groups by two rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.allocation.draft import Array, Columns, Draft
from pipeline.allocation.problem import Budget, Choice, widest
from pipeline.allocation.selectors import Costs, Selector, Terms, find_selectors, tabulate

ROW_SCALE = 1e2  # a budget's row is scaled to this, so that the solver's tolerance of 1e-6 is 1e-8 of the budget


class BudgetRow(NamedTuple):
    """weights . columns <= limit, both in units of the budget's quantity times `scale`, without its `constant`."""

    weights: Array
    limit: float
    scale: float
    constant: float

    def in_units(self, cost: float) -> float:
        """weights . columns as a cost in the budget's unit."""
        return cost / self.scale + self.constant


@dataclass(frozen=True, eq=False)
class Program:
    """Columns, structure rows and budget rows; any objective may be put on the columns."""

    choices: tuple[Choice, ...]
    options: Mapping[str, Columns]  # group -> one 0/1 column per option
    slack: int  # a column >= 0 that the structure does not use: how far over its budgets a plan may go
    integer: Columns
    entries: tuple[Columns, Columns, Array]  # row, column, factor
    low: Array
    high: Array
    budgets: tuple[BudgetRow, ...]
    exact: bool  # False where a sum was thinned: plans may then cost more than the rows say, never less


def formulate(choices: Sequence[Choice], budgets: Sequence[Budget]) -> Program:
    selectors = find_selectors(choices, budgets)
    tables = [tabulate(budget, selectors) for budget in budgets]
    draft = Draft()
    options = {choice.group: draft.add(len(choice.options), integer=True) for choice in choices}
    for columns in options.values():
        draft.one_of(columns)
    states = _choose_sums(draft, choices, options, selectors)
    every = dict.fromkeys(axes for costs in tables for axes in costs.arrays)
    joint = {axes: draft.join([states[terms] for terms in axes]) for axes in every}
    slack = int(draft.add(1)[0])
    full = widest(choices)
    return Program(
        tuple(choices),
        options,
        slack,
        np.concatenate(draft.integer),
        (np.concatenate(draft.row), np.concatenate(draft.column), np.concatenate(draft.factor)),
        np.array(draft.low),
        np.array(draft.high),
        tuple(_row(draft.columns, b, costs, joint, b.at(full)) for b, costs in zip(budgets, tables, strict=True)),
        not any(selector.thinned for selector in selectors.values()),
    )


def _choose_sums(
    draft: Draft, choices: Sequence[Choice], options: Mapping[str, Columns], selectors: Mapping[Terms, Selector]
) -> dict[Terms, Columns]:
    """The columns of every selector."""
    counts = {choice.group: np.array([float(option.channels) for option in choice.options]) for choice in choices}
    chosen: dict[Terms, Columns] = {((group, 1),): columns for group, columns in options.items()}
    for terms, selector in selectors.items():
        if terms not in chosen:
            chosen[terms] = _bracket(draft, selector, [(options[g], step * counts[g]) for g, step in terms])
    return chosen


def _bracket(draft: Draft, selector: Selector, parts: Sequence[tuple[Columns, Array]]) -> Columns:
    """One 0/1 column per member set; the sum of the parts lies between the least and greatest value of the chosen one.

    Chains of partial sums, joined like tables, are tighter on paper; on DenseNet-121 they proved the same gap in up to
    three times the time.
    """
    columns = draft.add(len(selector), integer=True)
    draft.one_of(columns)
    unit = max(abs(value) for member in selector.members for value in member) or 1
    for bound, low, high in ((min, -np.inf, 0.0), (max, 0.0, np.inf)):
        ends = np.array([float(bound(member)) for member in selector.members])
        draft.constrain([(columns, ends / unit), *((c, -values / unit) for c, values in parts)], low, high)
    return columns


def _row(
    columns: int, budget: Budget, costs: Costs, joint: Mapping[tuple[Terms, ...], Columns], full: float
) -> BudgetRow:
    weights = np.zeros(columns)
    for axes, array in costs.arrays.items():
        np.add.at(weights, joint[axes].ravel(), array.ravel())
    scale = ROW_SCALE / (max(abs(full - costs.constant), abs(budget.limit - costs.constant)) or 1.0)
    return BudgetRow(weights * scale, (budget.limit - costs.constant) * scale, scale, costs.constant)
