"""The same share of every group: the baseline that every paper compares with."""

import math
import time
from collections.abc import Mapping, Sequence

from pipeline.allocation.outcome import Allocation, baseline
from pipeline.allocation.problem import Budget, Choice, validate, value_of
from pipeline.allocation.search import richest
from targets.errors import BadInput

ROUNDING = 1e-9  # a share that was computed as channels / width means exactly that many


def keep(channels: Mapping[str, int], share: float) -> dict[str, int]:
    """The share of each group's channels, to the nearest whole channel and never none."""
    if not 0.0 < share <= 1.0:
        raise BadInput(f"The share to keep lies above 0 and at most at 1; it was {share:g}.")
    return {group: max(1, math.floor(count * share + 0.5)) for group, count in channels.items()}


def allocate_uniform(choices: Sequence[Choice], budgets: Sequence[Budget]) -> Allocation:
    """The largest common share whose plan holds the budgets; `Unreachable` where none does.

    Each group takes its largest option within the share, and its smallest that is not zero where all are above.
    """
    started = time.monotonic()
    validate(choices, budgets)
    shares = sorted({o.channels / max(c.options[-1].channels, 1) for c in choices for o in c.options})
    plan = richest(lambda i: _within(choices, shares[i]), len(shares), choices, budgets)
    return baseline("uniform", choices, budgets, plan, value_of(choices, plan), time.monotonic() - started)


def _within(choices: Sequence[Choice], share: float) -> dict[str, int]:
    plan = {}
    for choice in choices:
        counts = [option.channels for option in choice.options if option.channels] or [0]
        limit = share * counts[-1] + ROUNDING
        plan[choice.group] = max((n for n in counts if n <= limit), default=counts[0])
    return plan
