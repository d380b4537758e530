"""Exact minima of a sum of tables over few variables each, by eliminating one variable after the other.

Non-serial dynamic programming (Bertele and Brioschi 1972), today's bucket elimination (Dechter 1999): a network is long
and thin, so what a variable shares tables with is little. Sums of groups follow from their parts, so a sum is replaced
by them rather than minimised over.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.allocation.draft import Array
from pipeline.allocation.variables import Variable

Scope = tuple[int, ...]  # variable numbers, ascending
Tables = Mapping[Scope, Array]

MOST_ENTRIES = 20_000_000  # of all steps of one elimination together: some tenths of a second


@dataclass(frozen=True)
class Step:
    """Tables and messages over `scope` added up, then `variable` minimised out or, a sum, replaced by its parents.

    `inputs`: scopes of tables, and numbers of earlier steps. The message that leaves lies over `out`.
    """

    variable: int
    scope: Scope
    tables: tuple[Scope, ...]
    messages: tuple[int, ...]
    out: Scope


@dataclass(frozen=True, eq=False)
class Elimination:
    """The steps for tables over given scopes, in order; any number of sets of such tables may be minimised."""

    variables: Sequence[Variable]
    steps: tuple[Step, ...]

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes that tables are expected over."""
        return tuple(scope for step in self.steps for scope in step.tables)

    def minimise(self, tables: Tables) -> tuple[float, list[int]]:
        """The least sum of the tables, and the position of every variable's value there."""
        messages: list[Array] = []
        choices: list[Array | None] = []
        total = 0.0
        for step in self.steps:
            array, message = self._step(step, tables, messages)
            lone = self.variables[step.variable].parents is None
            choices.append(array.argmin(axis=step.scope.index(step.variable)) if lone else None)
            messages.append(message)
            if not step.out:
                total += float(message)
        at = [-1] * len(self.variables)
        for step, choice in zip(reversed(self.steps), reversed(choices), strict=True):
            variable = self.variables[step.variable]
            if choice is not None:
                at[step.variable] = int(choice[tuple(at[v] for v in step.scope if v != step.variable)])
            elif variable.parents is not None and variable.index is not None:
                first, second = variable.parents
                at[step.variable] = int(variable.index[at[first], at[second]])
        return total, at

    def least_with(self, tables: Tables) -> dict[int, Array]:
        """For every variable that is no sum, the least sum of the tables with it at each of its values."""
        messages: list[Array] = []
        arrays: list[Array] = []
        total = 0.0
        for step in self.steps:
            array, message = self._step(step, tables, messages)
            arrays.append(array)
            messages.append(message)
            if not step.out:
                total += float(message)
        rest: list[Array] = [np.asarray(total - float(m)) if not m.ndim else m for m in messages]
        found = {}
        for number in range(len(self.steps) - 1, -1, -1):
            step = self.steps[number]
            whole = self._back(step, arrays[number], rest[number])
            if self.variables[step.variable].parents is None:
                others = tuple(axis for axis, v in enumerate(step.scope) if v != step.variable)
                found[step.variable] = whole.min(axis=others)
            for child in step.messages:
                out = self.steps[child].out
                gone = tuple(axis for axis, v in enumerate(step.scope) if v not in out)
                rest[child] = whole.min(axis=gone) - messages[child]
        return found

    def _step(self, step: Step, tables: Tables, messages: Sequence[Array]) -> tuple[Array, Array]:
        array = np.zeros([len(self.variables[v]) for v in step.scope])
        for scope in step.tables:
            array += _spread(tables[scope], scope, step.scope)
        for number in step.messages:
            array += _spread(messages[number], self.steps[number].out, step.scope)
        if self.variables[step.variable].parents is None:
            return array, array.min(axis=step.scope.index(step.variable))
        return array, array[self._positions(step)]

    def _positions(self, step: Step) -> tuple[np.ndarray, ...]:
        """For every entry over `out`, its place over `scope`."""
        variable = self.variables[step.variable]
        assert variable.parents is not None
        assert variable.index is not None
        first, second = variable.parents
        index = variable.index if first < second else variable.index.T
        places = []
        for v in step.scope:
            if v == step.variable:
                places.append(_spread(index, tuple(sorted((first, second))), step.out))
            else:
                places.append(_spread(np.arange(len(self.variables[v])), (v,), step.out))
        return tuple(places)

    def _back(self, step: Step, array: Array, rest: Array) -> Array:
        """What everything costs at least for every entry over `scope`; infinite where parents do not add up to it."""
        if self.variables[step.variable].parents is None:
            return array + np.expand_dims(rest, step.scope.index(step.variable))
        best = np.full(array.shape, np.inf)
        places = self._positions(step)
        np.minimum.at(best, places, array[places] + rest)
        return best


def plan_elimination(variables: Sequence[Variable], scopes: Sequence[Scope]) -> Elimination | None:
    """Steps in an order that keeps tables small, found greedily; None where they would not be small enough."""
    sizes = [len(variable) for variable in variables]
    beside: list[set[int]] = [set() for _ in variables]
    for scope in scopes:
        for v in scope:
            beside[v].update(scope)
    waiting: list[set[int]] = [set() for _ in variables]  # the sums that a variable is a parent of
    for number, variable in enumerate(variables):
        for parent in variable.parents or ():
            waiting[parent].add(number)
    order: list[tuple[int, Scope, Scope]] = []
    left, entries = set(range(len(variables))), 0

    def size(v: int) -> int:
        here, out = _scopes(variables, beside, v)
        return math.prod(sizes[u] for u in here) + math.prod(sizes[u] for u in out)

    while left:
        chosen = min((v for v in left if not waiting[v]), key=lambda v: (size(v), v))
        here, out = _scopes(variables, beside, chosen)
        entries += size(chosen)
        if entries > MOST_ENTRIES:
            return None
        order.append((chosen, tuple(sorted(here)), tuple(sorted(out))))
        left.discard(chosen)
        for v in out:
            beside[v].update(out)
            beside[v].discard(chosen)
        for parent in variables[chosen].parents or ():
            waiting[parent].discard(chosen)
    return Elimination(variables, _connect(order, scopes))


def _scopes(variables: Sequence[Variable], beside: Sequence[set[int]], v: int) -> tuple[set[int], set[int]]:
    here = beside[v] | {v}
    return here, (here - {v}) | set(variables[v].parents or ())


def _connect(order: Sequence[tuple[int, Scope, Scope]], scopes: Sequence[Scope]) -> tuple[Step, ...]:
    when = {variable: number for number, (variable, _, _) in enumerate(order)}
    tables: list[list[Scope]] = [[] for _ in order]
    messages: list[list[int]] = [[] for _ in order]
    for scope in scopes:
        tables[min(when[v] for v in scope)].append(scope)
    for number, (_, _, out) in enumerate(order):
        if out:
            messages[min(when[v] for v in out)].append(number)
    return tuple(
        Step(variable, scope, tuple(own), tuple(sent), out)
        for (variable, scope, out), own, sent in zip(order, tables, messages, strict=True)
    )


def _spread(array: np.ndarray, scope: Scope, over: Scope) -> np.ndarray:
    """The array with an axis of length one for every variable of `over` that its own scope lacks."""
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if v in scope else 1 for v in over])
