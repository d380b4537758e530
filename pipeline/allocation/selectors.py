"""From cost tables over tensor widths to cost arrays over selectors.

A *selector* picks exactly one value of a finite list: the options of a group, or the reachable values of a sum of
groups (a concatenation is as wide as its parts together). Tables over the same selectors are one array.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.allocation.problem import Budget, Choice, CostTable, Width

Terms = tuple[tuple[str, int], ...]  # (group, step), sorted, each group once, steps not 0
Array = NDArray[np.float64]

MAX_SUM_VALUES = (128, 64, 32, 16)  # tried in this order; DenseNet-121 on a grid of 8 reaches 128
MAX_ENTRIES = 80_000  # of all tables together; above it, the solver's first relaxation alone takes a minute


@dataclass(frozen=True)
class Selector:
    """One value out of `members`, each a set of values that is charged as one (a single value unless thinned).

    `terms` is one group at step 1, whose values are its options, or several, whose values are the reachable sums.
    """

    terms: Terms
    members: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.members)

    @property
    def thinned(self) -> bool:
        return any(len(member) > 1 for member in self.members)


@dataclass(frozen=True)
class Costs:
    """One budget as arrays, each under its axes' terms in order, and the `constant` that no choice moves."""

    constant: float
    arrays: Mapping[tuple[Terms, ...], Array]


def normal(width: Width) -> Terms:
    """Terms with each group once. A lone group keeps step 1: its step only rescales the same options."""
    steps: dict[str, int] = {}
    for group, step in width.terms:
        steps[group] = steps.get(group, 0) + step
    terms = tuple(sorted((group, step) for group, step in steps.items() if step))
    return ((terms[0][0], 1),) if len(terms) == 1 else terms


def reachable(terms: Terms, options: Mapping[str, Sequence[int]]) -> list[int]:
    """All values of the sum, ascending, by dynamic programming over the groups."""
    sums = {0}
    for group, step in terms:
        sums = {value + step * channels for value in sums for channels in options[group]}
    return sorted(sums)


def find_selectors(choices: Sequence[Choice], budgets: Sequence[Budget]) -> dict[Terms, Selector]:
    """One selector per group, and one per distinct sum that some table depends on.

    Sums are thinned, evenly, as far as it takes to bring the program to a size that can be solved.
    """
    options = {choice.group: [option.channels for option in choice.options] for choice in choices}
    single: dict[Terms, list[int]] = {((group, 1),): counts for group, counts in options.items()}
    shapes = {axes_of(table) for budget in budgets for table in budget.tables}
    sums = {terms: reachable(terms, options) for terms in sorted(asked_sums(budgets))}
    for most in MAX_SUM_VALUES:
        members = {terms: thin(values, most) for terms, values in sums.items()}
        members |= {terms: thin(values, len(values)) for terms, values in single.items()}
        if sum(math.prod(len(members[terms]) for terms in axes) for axes in shapes) <= MAX_ENTRIES:
            break
    return {terms: Selector(terms, members[terms]) for terms in (*single, *sums)}


def asked_sums(budgets: Sequence[Budget]) -> set[Terms]:
    """The sums of several groups that some table depends on."""
    return {terms for budget in budgets for table in budget.tables for terms in axes_of(table) if len(terms) > 1}


def axes_of(table: CostTable) -> tuple[Terms, ...]:
    """The selectors a table depends on, each once, in a fixed order."""
    return tuple(sorted({terms for terms in map(normal, table.widths) if terms}))


def thin(values: Sequence[int], most: int) -> tuple[tuple[int, ...], ...]:
    """At most `most` brackets of neighbouring values, as even as they come."""
    if len(values) <= most:
        return tuple((value,) for value in values)
    return tuple(tuple(int(v) for v in part) for part in np.array_split(np.asarray(values), most))


def tabulate(budget: Budget, selectors: Mapping[Terms, Selector]) -> Costs:
    """The budget's tables summed per set of selectors; each array's least entry moves into the constant.

    Where a selector is thinned, a bracket costs the least of its values: never too much, so that bounds stay proved.
    """
    arrays: dict[tuple[Terms, ...], Array] = {}
    constant = budget.constant
    for table in budget.tables:
        axes = axes_of(table)
        array = _evaluate(table, [selectors[terms] for terms in axes])
        if not np.all(np.isfinite(array)):
            raise ValueError(f"cost table {table.name} is not finite everywhere")
        if axes:
            arrays[axes] = arrays[axes] + array if axes in arrays else array
        else:
            constant += float(array)
    least = {axes: float(array.min()) for axes, array in arrays.items()}
    return Costs(constant + sum(least.values()), {axes: array - least[axes] for axes, array in arrays.items()})


def _evaluate(table: CostTable, selectors: Sequence[Selector]) -> Array:
    """Array over the selectors' members."""
    where = {selector.terms: axis for axis, selector in enumerate(selectors)}
    plans = [(where.get(normal(w)), _scale(w), w.constant) for w in table.widths]  # axis or None, factor, offset

    def cost(values: Sequence[int]) -> float:
        widths = (offset + (0 if axis is None else factor * values[axis]) for axis, factor, offset in plans)
        return float(table.cost(tuple(widths)))

    array = np.empty([len(selector) for selector in selectors])
    for index in np.ndindex(array.shape):
        members = [selector.members[i] for selector, i in zip(selectors, index, strict=True)]
        array[index] = min(cost(values) for values in itertools.product(*members))
    return array


def _scale(width: Width) -> int:
    """What one unit of the selector's value adds to the width: the step of a lone group, 1 for a sum."""
    groups = {group for group, _ in width.terms}
    return sum(step for _, step in width.terms) if len(groups) == 1 else 1
