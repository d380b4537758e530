"""A proven bound, and good plans on the way: the limits get prices, and priced plans are minimised exactly.

Lagrangian relaxation (Everett 1963; Geoffrion 1974). For any prices, the cheapest plan of "target + prices * (rows -
limits)" costs no more than the best plan within the limits; elimination finds it exactly. The prices that give the
greatest such bound are found by cutting planes (Kelley 1960), smoothed between the best and the proposed ones (Wentges
1997).
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.allocation.draft import Array
from pipeline.allocation.elimination import Elimination, Scope, plan_elimination
from pipeline.allocation.problem import LIMIT_SLACK, Budget, Choice
from pipeline.allocation.selectors import Selector, asked_sums, axes_of, tabulate
from pipeline.allocation.variables import find_variables

MOST_ITERATIONS = 300
FEWEST_ITERATIONS = 10  # whatever the deadline: some hundredths of a second, and no plan is any good before them
HIGHEST_PRICE = 1e5  # of a whole budget, in units of the target's range; never worth paying, but for a plan at all
SMOOTHING = 0.5  # of the way from the proposed prices towards the best so far, where there are several
TINY = 1e-12  # of a row's range: sums in floating point
CLOSE = 1e-5  # of the target's range: what more prices could add to the bound

Plan = Mapping[str, int]
Lines = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Tables of target and rows over variables. Line 0 is the target, the others are rows, less their limits, each in
    units of its `scale`."""

    choices: tuple[Choice, ...]
    elimination: Elimination
    stacks: Mapping[Scope, tuple[Lines, Array]]  # the lines that have a table there, one array of theirs after another
    constants: Array
    scale: Array


@dataclass(frozen=True, eq=False)
class Point:
    """A plan and its lines, constants included: the target, and by how much each row is missed (negative: held)."""

    plan: Plan
    lines: Array


@dataclass(eq=False)
class Ascent:
    """`bound`: no plan within the rows has a lesser target (scaled). `prices`: those that prove it. `hopeless`: a row
    that no plan holds, whatever the others say, or None."""

    bound: float
    prices: Array
    points: list[Point] = field(default_factory=list)
    hopeless: int | None = None


def relax(choices: Sequence[Choice], target: Budget, rows: Sequence[Budget]) -> Relaxation | None:
    """None where the tables hang together too closely for elimination. `rows` have ceilings alone."""
    lines = [target, *rows]
    variables = find_variables(choices, asked_sums(lines))
    number_of = {variable.terms: number for number, variable in enumerate(variables)}
    scopes = {
        axes: tuple(sorted(number_of[terms] for terms in axes))
        for line in lines
        for table in line.tables
        if (axes := axes_of(table))
    }
    elimination = plan_elimination(variables, sorted(set(scopes.values())))
    if elimination is None:
        return None
    selectors = {v.terms: Selector(v.terms, tuple((value,) for value in v.values)) for v in variables}
    costs = [tabulate(line, selectors) for line in lines]
    limits = [0.0, *(row.limit + 2 * LIMIT_SLACK * abs(row.limit) for row in rows)]
    constants = np.array([cost.constant - limit for cost, limit in zip(costs, limits, strict=True)])
    reach = [sum(float(array.max()) for array in cost.arrays.values()) for cost in costs]
    scale = np.array([most or abs(constant) or 1.0 for most, constant in zip(reach, constants, strict=True)])
    found: dict[Scope, list[tuple[int, Array]]] = {}
    for line, cost in enumerate(costs):
        for axes, array in cost.arrays.items():
            order = np.argsort([number_of[terms] for terms in axes])
            found.setdefault(scopes[axes], []).append((line, array.transpose(order) / scale[line]))
    stacks = {
        scope: (np.array([line for line, _ in own]), np.array([array for _, array in own]))
        for scope, own in found.items()
    }
    return Relaxation(tuple(choices), elimination, stacks, constants / scale, scale)


def cheapest(relaxation: Relaxation, weights: Array) -> tuple[float, Point]:
    """The exact least of the weighted lines, constants included, and the plan that has it."""
    total, at = relaxation.elimination.minimise(_weighted(relaxation, weights))
    lines = relaxation.constants.copy()
    for scope, (own, stack) in relaxation.stacks.items():
        lines[own] += stack.reshape(len(own), -1)[:, np.ravel_multi_index([at[v] for v in scope], stack.shape[1:])]
    plan = {choice.group: choice.options[at[n]].channels for n, choice in enumerate(relaxation.choices)}
    return total + float(weights @ relaxation.constants), Point(plan, lines)


def least_with(relaxation: Relaxation, weights: Array) -> dict[str, Array]:
    """Group -> for each of its options, the least of the weighted lines over all plans that take it."""
    found = relaxation.elimination.least_with(_weighted(relaxation, weights))
    constant = float(weights @ relaxation.constants)
    return {choice.group: found[number] + constant for number, choice in enumerate(relaxation.choices)}


def ascend(relaxation: Relaxation, *, deadline: float, gap: float) -> Ascent:
    """Raise the bound until prices can add no more than CLOSE, until a plan within the rows is within `gap` of it, or
    until `deadline` (time.monotonic)."""
    rows = len(relaxation.constants) - 1
    value, first = cheapest(relaxation, np.eye(1 + rows)[0])
    found = Ascent(value, np.zeros(rows), [first])
    for row in np.flatnonzero(first.lines[1:] > 0):  # the others hold at the best of all plans
        least, point = cheapest(relaxation, np.eye(1 + rows)[1 + row])
        found.points.append(point)
        if least > TINY:
            found.hopeless = int(row)
            return found
    for number in range(MOST_ITERATIONS if rows else 0):
        within = min((p.lines[0] for p in found.points if p.lines[1:].max(initial=-1.0) <= 0), default=math.inf)
        ceiling, proposed = _propose(found.points, rows)
        close = max(CLOSE, 0.5 * gap * abs(found.bound)) if within < math.inf else CLOSE
        if min(ceiling, within) - found.bound <= close:
            break
        if number >= FEWEST_ITERATIONS and time.monotonic() > deadline:
            break
        tries = [proposed] if rows == 1 else [SMOOTHING * found.prices + (1 - SMOOTHING) * proposed, proposed]
        for prices in tries:
            value, point = cheapest(relaxation, np.array([1.0, *prices]))
            found.points.append(point)
            if value > found.bound:
                found.bound, found.prices = value, prices
                break
    return found


def _propose(points: Sequence[Point], rows: int) -> tuple[float, Array]:
    """The prices at which the plans known so far allow the greatest bound, and that bound."""
    from scipy.optimize import linprog  # slow to import

    lines = np.array([point.lines for point in points])
    above = np.hstack([np.ones((len(points), 1)), -lines[:, 1:]])
    result = linprog(
        np.concatenate([[-1.0], np.zeros(rows)]),
        A_ub=above,
        b_ub=lines[:, 0],
        bounds=[(None, None)] + [(0.0, HIGHEST_PRICE)] * rows,
        method="highs",
    )
    return float(result.x[0]), np.maximum(np.asarray(result.x[1:], np.float64), 0.0)


def _weighted(relaxation: Relaxation, weights: Array) -> dict[Scope, Array]:
    return {scope: np.tensordot(weights[own], stack, axes=1) for scope, (own, stack) in relaxation.stacks.items()}
