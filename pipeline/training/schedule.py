"""How long a recovery runs, and the learning rate of each step. The checkpoint keeps the plan."""

import math
from dataclasses import dataclass, replace

MARGIN = 0.95  # of the time that is left: a machine that others use slows down after it was measured
COSTLIEST = 10_000  # epochs; where only minutes are given and the set is tiny, more of them teach nothing


@dataclass(frozen=True)
class Plan:
    """`epochs` of `steps` each; `bf16` and why."""

    epochs: int
    steps: int
    bf16: bool
    precision: str

    @property
    def total(self) -> int:
        return self.epochs * self.steps


@dataclass(frozen=True)
class Pace:
    """Seconds that things take here: one training step, and what comes once an epoch (validation, checkpoint)."""

    step: float
    overhead: float


def fit(epochs: int | None, steps: int, seconds_left: float | None, pace: Pace | None) -> tuple[int, int]:
    """(epochs, steps of each) that end within `seconds_left`: at most `epochs`, and one short epoch where none fits."""
    limit = COSTLIEST if epochs is None else epochs
    if seconds_left is None or pace is None:
        return limit, steps
    usable = MARGIN * seconds_left
    fitting = int(usable // max(steps * pace.step + pace.overhead, 1e-9))
    if fitting >= 1:
        return min(limit, fitting), steps
    return 1, min(steps, max(1, int((usable - pace.overhead) // max(pace.step, 1e-9))))


def shortened(plan: Plan, done: int, epoch_seconds: float, seconds_left: float | None) -> Plan:
    """The plan with fewer epochs where those that are left, at the pace of the last one, would end too late.

    The learning rate then falls faster in what remains. Never longer than it was: epochs done already had their rate.
    """
    if seconds_left is None or (plan.epochs - done) * epoch_seconds <= seconds_left:
        return plan
    return replace(plan, epochs=done + max(0, int(seconds_left // epoch_seconds)))


def learning_rate(step: int, total: int, peak: float, warm_up: float) -> float:
    """Of step 0 .. total - 1: linear up to `peak` over the share `warm_up`, then half a cosine towards zero."""
    rising = int(warm_up * total)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))
