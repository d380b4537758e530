"""Where to aim next: from what was measured to the limit that the solver is given, by bisection on what it gets wrong.

The latency model is refitted with every plan that was measured; what it still gets wrong near the goal is put right in
the limit. Everything here is arithmetic on rounds: no device, no graph.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.goal import Bound

ACCEPTED_OVER_GOAL = 1.01  # of the interval's upper end; the final measurement is allowed 1.02
WASTE = 0.96  # a level below this leaves accuracy on the table: try wider
AIM = 0.985  # a level between waste and the goal, so that a small error to either side is still good
CLOSEST = 1.003  # plans whose costs are nearer than this cannot be told apart: nothing is looked for between them
LARGEST_STEP = (0.6, 1.25)  # of the limit, from one round to the next: further away the correction is another one


@dataclass(frozen=True)
class Round:
    """One plan, predicted and then measured beside the uncut network; `share` is of the uncut network's time.
    `sessions`: how many of each side it took until the interval was narrow. `value`: importance kept, as the allocator
    counts it."""

    budget_ns: float
    predicted_ns: float
    measured_ns: float
    low_ns: float
    high_ns: float
    share: float
    share_high: float
    channels: Mapping[str, int]
    predicted_low_ns: float = math.nan
    predicted_high_ns: float = math.nan
    sessions: int = 0
    value: float = math.nan

    def reached(self, bound: Bound) -> float:
        """The upper end of what was measured, as a share of the goal."""
        return (self.share_high if bound.relative else self.high_ns) / bound.limit

    def centre(self, bound: Bound) -> float:
        """What was measured, as a share of the goal."""
        return (self.share if bound.relative else self.measured_ns) / bound.limit

    def level(self, bound: Bound) -> float:
        """At most 1: the goal is met, at its centre and, but for what is accepted, at its upper end."""
        return max(self.centre(bound), self.reached(bound) / ACCEPTED_OVER_GOAL)


def within(rounds: Sequence[Round], bound: Bound) -> list[Round]:
    """The rounds that meet the goal."""
    return [done for done in rounds if done.level(bound) <= 1.0]


def best(rounds: Sequence[Round], bound: Bound) -> Round | None:
    """The most valuable plan that meets the goal; of equal ones, the fastest."""
    return max(within(rounds, bound), key=lambda done: (done.value, -done.share), default=None)


def next_limit_ns(rounds: Sequence[Round], costs_ns: Sequence[float], bound: Bound) -> float | None:
    """The limit for the next solution, in the model's own ns; None where nothing better is to be expected.

    `costs_ns` is what the model says now of each round's plan. Between a plan that meets the goal and one that misses
    it the limit is interpolated; with plans on one side only, it is the nearest one's cost, corrected by how far that
    one was off.
    """
    priced = [(done.level(bound), cost) for done, cost in zip(rounds, costs_ns, strict=True)]
    low = max((entry for entry in priced if entry[0] <= 1.0), default=None)
    high = min((entry for entry in priced if entry[0] > 1.0), default=None)
    if low and low[0] >= WASTE:
        return None
    if low and high and high[1] > low[1]:
        if high[1] <= low[1] * CLOSEST:
            return None
        part = math.log(AIM / low[0]) / math.log(high[0] / low[0])
        return float(low[1] * (high[1] / low[1]) ** part)
    level, cost = low or high or (AIM, math.nan)
    least, most = LARGEST_STEP
    return cost * min(max(AIM / level, least), most)
