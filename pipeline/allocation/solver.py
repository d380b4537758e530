"""HiGHS, through scipy: the one place that knows its interface."""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from pipeline.allocation.draft import Array
from pipeline.allocation.program import BudgetRow, Program

NAME = "HiGHS"

OBJECTIVE_SCALE = 1e3  # keeps the solver's absolute tolerances (1e-6) far below any gap that is asked for


class Solution(NamedTuple):
    """`channels` is None where none was found. The least possible objective is at least `bound` (-inf: not known)."""

    channels: dict[str, int] | None
    objective: float
    bound: float
    optimal: bool
    infeasible: bool


def minimise(
    program: Program, objective: Array, rows: Sequence[BudgetRow], *, time_limit_s: float, gap: float
) -> Solution:
    """Least objective over all plans that keep to `rows`, or miss them by the slack column where that has a price.

    Deterministic unless the time limit strikes.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import
    from scipy.sparse import coo_array, csr_array, vstack

    row, column, factor = program.entries
    count = len(program.integer)
    structure = coo_array((factor, (row, column)), shape=(len(program.low), count)).tocsr()
    weights = np.array([budget.weights for budget in rows]).reshape(-1, count)
    limits = np.array([budget.limit for budget in rows])
    weights[:, program.slack] = -1.0
    largest = float(np.abs(objective).max(initial=0.0)) or 1.0
    factor_up = OBJECTIVE_SCALE / largest
    may_miss = objective[program.slack] > 0
    upper = np.ones(count)
    upper[program.slack] = np.inf if may_miss else 0.0
    with _stdout_to_stderr():
        result = milp(
            objective * factor_up,
            integrality=program.integer,
            bounds=Bounds(np.zeros(count), upper),
            constraints=LinearConstraint(
                vstack([structure, csr_array(weights)]),
                np.concatenate([program.low, np.full(len(limits), -np.inf)]),
                np.concatenate([program.high, limits]),
            ),
            options={"time_limit": max(time_limit_s, 0.1), "mip_rel_gap": gap},
        )
    bound = result.mip_dual_bound
    bound = -np.inf if bound is None or not np.isfinite(bound) else float(bound) / factor_up
    if result.x is None:
        return Solution(None, np.inf, bound, optimal=False, infeasible=result.status == 2)
    channels = {
        choice.group: choice.options[int(np.argmax(result.x[program.options[choice.group]]))].channels
        for choice in program.choices
    }
    return Solution(channels, float(result.fun) / factor_up, bound, result.status == 0, infeasible=False)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """HiGHS prints some warnings to standard output whatever its options say, where they would break JSON."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        libc.fflush(None)  # what C buffered belongs to the detour
        os.dup2(kept, 1)
        os.close(kept)
