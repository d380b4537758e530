"""The least of one quantity within limits on others, with a proof of how far from the least it can be.

Three steps, each where the one before leaves more than the gap asked for: prices on the limits (dual), local search
from the plans those give, and a mixed-integer program over the options that the bound has not ruled out.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.allocation.dual import Ascent, Relaxation, ascend, cheapest, least_with, relax
from pipeline.allocation.greedy import repair
from pipeline.allocation.outcome import relative_gap
from pipeline.allocation.polish import polish
from pipeline.allocation.problem import Budget, Choice, holds
from pipeline.allocation.program import formulate
from pipeline.allocation.solver import NAME as HIGHS
from pipeline.allocation.solver import minimise

DUAL = "dual"
BOUND_MARGIN = 1e-7  # relative; what tolerances and sums in floating point may hide from a bound
DUAL_SHARE = 0.4  # of the time: prices beyond that are left to the program
SEARCH_SHARE = 0.5  # of the time, that after which no further plan is polished
PROGRAM_SHARE = 0.9  # of what is left: the solver looks at its clock now and then only
PRICED_UP = (1.01, 1.03, 1.1, 1.3, 2.0)  # times the best prices: plans that hold the rows, where the best ones do not
POLISHED = 6  # plans; the rest is rarely better
RULED_OUT = 0.5  # of the gap: options that could better the plan by less are left out of the program


@dataclass(frozen=True)
class Proven:
    """`channels` is None where no plan was found; `infeasible` says that there is none. No plan within the rows has
    less than `bound`."""

    channels: Mapping[str, int] | None
    bound: float
    exact: bool
    solver: str
    infeasible: bool = False


def least_of(
    choices: Sequence[Choice], target: Budget, rows: Sequence[Budget], *, time_limit_s: float, gap: float
) -> Proven:
    """A plan with little of `target`, whose own limits do not count, within the rows, which have ceilings alone."""
    begun = time.monotonic()
    target = replace(target, limit=0.0)
    best: Mapping[str, int] | None = None
    bound, threshold, offered = -np.inf, np.inf, tuple(choices)
    relaxation = relax(choices, target, rows)
    if relaxation is not None:
        ascent = ascend(relaxation, deadline=begun + DUAL_SHARE * time_limit_s, gap=gap)
        bound = _below(float(ascent.bound * relaxation.scale[0]))
        if ascent.hopeless:
            return Proven(None, bound, exact=True, solver=DUAL, infeasible=True)
        best = _best(choices, target, rows, relaxation, ascent, bound, gap, begun + SEARCH_SHARE * time_limit_s)
        if best is not None and relative_gap(bound, target.at(best)) > gap:
            cost = target.at(best)
            threshold = cost - RULED_OUT * gap * max(abs(cost), abs(bound))
            offered = _not_ruled_out(choices, relaxation, ascent, best, threshold)
    done = best is not None and relative_gap(bound, target.at(best)) <= gap
    if done or (relaxation is not None and time.monotonic() - begun >= time_limit_s):
        return Proven(best, bound, exact=True, solver=DUAL)
    program = formulate(offered, [target, *rows])
    aim, *limits = program.budgets
    left = PROGRAM_SHARE * (time_limit_s - (time.monotonic() - begun))
    solved = minimise(program, aim.weights, limits, time_limit_s=left, gap=gap)
    solver = HIGHS if relaxation is None else f"{DUAL}, then {HIGHS}"
    if solved.infeasible and best is None:
        return Proven(None, bound, program.exact, solver, infeasible=True)
    bound = max(bound, min(threshold, _below(aim.in_units(solved.bound)) if not solved.infeasible else np.inf))
    if solved.channels:
        better = solved.channels if holds(rows, solved.channels) else repair(choices, target, rows, solved.channels)
        plans = [plan for plan in (best, better and polish(choices, target, rows, better)) if plan is not None]
        best = min(plans, key=target.at, default=None)
    return Proven(best, bound, program.exact, solver)


def _best(
    choices: Sequence[Choice],
    target: Budget,
    rows: Sequence[Budget],
    relaxation: Relaxation,
    ascent: Ascent,
    bound: float,
    gap: float,
    deadline: float,
) -> Mapping[str, int] | None:
    """The best plan within the rows that a local search reaches from what the prices gave; the first that is within
    `gap` of `bound`, or that there is at the deadline."""
    dearer = PRICED_UP if len(rows) > 1 else ()
    more = [cheapest(relaxation, np.array([1.0, *(times * ascent.prices)]))[1] for times in dearer]
    points = [*ascent.points, *more]
    priced = np.array([1.0, *ascent.prices])
    points.sort(key=lambda point: float(priced @ point.lines))
    starts = {tuple(sorted(point.plan.items())): point.plan for point in points}.values()
    within = [plan for plan in starts if holds(rows, plan)][:POLISHED]
    beyond = [plan for plan in starts if not holds(rows, plan)][:POLISHED]
    best: Mapping[str, int] | None = None
    for start in (*within, *beyond):
        if best is not None and (relative_gap(bound, target.at(best)) <= gap or time.monotonic() > deadline):
            break
        held = start if start in within else repair(choices, target, rows, start)
        plans = [plan for plan in (best, held and polish(choices, target, rows, held)) if plan is not None]
        best = min(plans, key=target.at, default=None)
    return best


def _not_ruled_out(
    choices: Sequence[Choice], relaxation: Relaxation, ascent: Ascent, best: Mapping[str, int], threshold: float
) -> tuple[Choice, ...]:
    """The options that a plan below `threshold` may take, and those of `best`."""
    least = least_with(relaxation, np.array([1.0, *ascent.prices]))
    offered = []
    for choice in choices:
        bounds = least[choice.group] * relaxation.scale[0]
        options = zip(choice.options, bounds, strict=True)
        kept = [o for o, bound in options if _below(float(bound)) < threshold or o.channels == best[choice.group]]
        offered.append(Choice(choice.group, tuple(kept)))
    return tuple(offered)


def _below(bound: float) -> float:
    return bound - BOUND_MARGIN * abs(bound)
