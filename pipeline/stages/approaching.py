"""The loop: choose widths, build, measure, correct, choose again, until the goal is met as measured or nothing is left.

What is chosen with and what is measured on are handed in, so that the loop itself is arithmetic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.allocation import Allocation, Unreachable
from pipeline.goal import Bound
from pipeline.latency.predict import LatencyModel
from pipeline.latency.table import Sample
from pipeline.stages.steering import Round, best, next_limit_ns, within

MOST_ROUNDS = 8
MOST_PROPOSALS = 6  # solutions that are looked at for one round, where they come out as plans that were measured before
JUST_BELOW = 0.998  # of a plan's cost: the least step that makes the solver choose another plan
JUST_ENOUGH = 1 + 1e-6  # of the least cost that is possible: a limit that the solver can meet

Plan = dict[str, int]
Solve = Callable[[LatencyModel, float], tuple[Allocation, Plan]]
"""Widths within a limit in ns, and the whole plan that they make; raises Unreachable."""
Try = Callable[[int, Plan, float, LatencyModel, float], tuple[Round, Sample]]
"""Round number, plan, limit, model, value -> what was measured."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A round and the solution that led to it."""

    round: Round
    allocation: Allocation


@dataclass(frozen=True, eq=False)
class Approach:
    """All rounds, and the model that has learned from them."""

    tried: tuple[Tried, ...]
    latency: LatencyModel

    @property
    def rounds(self) -> tuple[Round, ...]:
        return tuple(each.round for each in self.tried)


def approach(
    bound: Bound,
    full: Mapping[str, int],
    latency: LatencyModel,
    solve: Solve,
    try_out: Try,
    on_round: Callable[[int, int], None] | None = None,
) -> Approach:
    """Rounds until one meets the goal and wastes little of it, or no other plan is left to try, or MOST_ROUNDS.

    `full` is the uncut plan. Raises Unreachable for a quantity other than latency. Where the model says that the
    latency cannot be reached, the fastest plan is measured all the same: a prediction refuses nothing by itself.
    """
    tried: list[Tried] = []
    limit_ns: float | None = bound.against(latency.predict_ns(full))
    for number in range(MOST_ROUNDS):
        if limit_ns is None:
            break
        if on_round:
            on_round(number, MOST_ROUNDS)
        proposal = _propose(tried, bound, latency, solve, limit_ns)
        if proposal is None:
            break
        allocation, plan, limit_ns = proposal
        done, sample = try_out(number, plan, limit_ns, latency, allocation.value)
        tried.append(Tried(done, allocation))
        latency = latency.learned(sample)
        rounds = [each.round for each in tried]
        limit_ns = next_limit_ns(rounds, [latency.predict_ns(each.channels) for each in rounds], bound)
    return Approach(tuple(tried), latency)


def _propose(
    tried: list[Tried], bound: Bound, latency: LatencyModel, solve: Solve, limit_ns: float
) -> tuple[Allocation, Plan, float] | None:
    """A plan that was not measured yet, and the limit it was found with. A plan that is known to miss is left by asking
    for less, one that is known to be within by allowing more; None where that leads back and forth."""
    rounds = [each.round for each in tried]
    known = {tuple(sorted(done.channels.items())): done for done in rounds}
    missing = [latency.predict_ns(done.channels) for done in rounds if done.level(bound) > 1.0]
    leader = best(rounds, bound)
    narrowed = widened = False
    for _ in range(MOST_PROPOSALS):
        try:
            allocation, plan = solve(latency, limit_ns)
        except Unreachable as error:
            if error.quantity != "latency" and not tried:
                raise
            if error.quantity != "latency" or within(rounds, bound):
                return None
            limit_ns = error.least * JUST_ENOUGH
            try:
                allocation, plan = solve(latency, limit_ns)
            except Unreachable:
                return None
            return None if tuple(sorted(plan.items())) in known else (allocation, plan, limit_ns)
        done = known.get(tuple(sorted(plan.items())))
        if done is None:
            worse = leader is not None and allocation.value <= leader.value and (
                latency.predict_ns(plan) <= latency.predict_ns(leader.channels)
            )  # fmt: skip
            return None if worse else (allocation, plan, limit_ns)
        if done.level(bound) > 1.0:
            narrowed, limit_ns = True, min(limit_ns, latency.predict_ns(plan)) * JUST_BELOW
        else:
            widened = True
            above = min((cost for cost in missing if cost > limit_ns), default=limit_ns / JUST_BELOW**20)
            limit_ns = (limit_ns * above) ** 0.5
        if narrowed and widened:
            return None
    return None
