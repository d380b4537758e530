"""A table of how the loss answers to each group alone, and one loss level for all (AIMET; FastNAS).

Groups are tried one at a time, all others uncut: what two cuts do together is not seen.
"""

import time
from collections.abc import Mapping, Sequence

from pipeline.allocation.outcome import Allocation, baseline
from pipeline.allocation.problem import Budget, Choice, validate, value_of, widest
from pipeline.allocation.search import richest
from pipeline.allocation.trial import Trial

Table = Mapping[str, Sequence[float]]  # group -> loss at each of its options


def allocate_sensitivity(choices: Sequence[Choice], budgets: Sequence[Budget], trial: Trial) -> Allocation:
    """The plan of the lowest loss level that holds all budgets: every group at its narrowest option that alone keeps
    the loss at or below the level. `Unreachable` where no level does. The loss is asked for once for every option."""
    started = time.monotonic()
    validate(choices, budgets)
    table = sensitivities(choices, trial)
    levels = sorted({loss for losses in table.values() for loss in losses}, reverse=True)
    plan = richest(lambda number: _at_level(choices, table, levels[number]), len(levels), choices, budgets)
    return baseline("sensitivity", choices, budgets, plan, value_of(choices, plan), time.monotonic() - started)


def sensitivities(choices: Sequence[Choice], trial: Trial) -> Table:
    """Loss with one group thinned. Never less at a narrower option than at a wider one: what looks like it is noise."""
    full = widest(choices)
    uncut = trial.loss(full)
    table = {}
    for choice in choices:
        losses = [uncut]
        for option in reversed(choice.options[:-1]):
            losses.append(max(losses[-1], trial.loss({**full, choice.group: option.channels})))
        table[choice.group] = tuple(reversed(losses))
    return table


def _at_level(choices: Sequence[Choice], table: Table, level: float) -> dict[str, int]:
    plan = {}
    for choice in choices:
        options = zip(choice.options, table[choice.group], strict=True)
        plan[choice.group] = next((o.channels for o, loss in options if loss <= level), choice.options[-1].channels)
    return plan
