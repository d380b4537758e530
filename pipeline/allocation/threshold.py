"""One cut through the scores of all channels (Molchanov, network slimming, CHEX)."""

import math
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.allocation.outcome import Allocation, baseline
from pipeline.allocation.problem import Budget, Choice, Scores, validate
from pipeline.allocation.search import richest

FLOOR = 0.05  # least share of a group's channels: one cut through all scores empties whole layers otherwise


def allocate_threshold(
    scores: Scores,
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    *,
    floor: float = FLOOR,
    widths: Literal["options", "any"] = "options",
) -> Allocation:
    """Keep every channel whose normalised score clears one threshold, the lowest that holds the budgets.

    `widths="any"` takes the counts as they fall (the cost tables must know every width), "options" the largest option
    within the count. A group keeps at least `floor` of its channels, at least one, and at least its smallest option
    that is not zero; a group with a single option keeps that. `Unreachable` where no threshold does.
    """
    started = time.monotonic()
    validate(choices, budgets)
    descending = {choice.group: np.sort(np.asarray(scores[choice.group], np.float64))[::-1] for choice in choices}
    cuts = np.unique(np.concatenate([descending[c.group] for c in choices if len(c.options) > 1] or [np.zeros(1)]))[
        ::-1
    ]

    def plan(index: int) -> dict[str, int]:
        kept = {}
        for choice in choices:
            best = descending[choice.group]
            least = max(1, math.ceil(floor * len(best) - 1e-9))
            count = max(least, int(np.searchsorted(-best, -cuts[index], side="right")))
            kept[choice.group] = _settle(choice, count, widths)
        return kept

    chosen = richest(plan, len(cuts), choices, budgets)
    value = math.fsum(math.fsum(descending[group][:count]) for group, count in chosen.items())
    return baseline("threshold", choices, budgets, chosen, value, time.monotonic() - started)


def _settle(choice: Choice, count: int, widths: Literal["options", "any"]) -> int:
    counts = [option.channels for option in choice.options if option.channels] or [0]
    if len(choice.options) == 1 or widths == "options":
        return max((n for n in counts if n <= count), default=counts[0])
    return min(count, counts[-1])
