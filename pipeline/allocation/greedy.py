"""A good plan fast, without a proof: give up widths where they buy most cost for least importance."""

import math
from collections.abc import Iterator, Mapping, Sequence

from pipeline.allocation.ledger import Ledger
from pipeline.allocation.problem import Budget, Choice

TINY = 1e-12  # stands for no importance at all, which is given up first
MOST_REPAIRS = 60  # steps; plans that prices gave are a few steps away from their limits
LOOK_AHEAD = 3  # options below the present one; on a flat tread of the stairs the next one down saves nothing


def descend(choices: Sequence[Choice], budgets: Sequence[Budget], start: Mapping[str, int]) -> Mapping[str, int] | None:
    """From `start` down, one group at a time, until all budgets hold; None where not even the narrowest plan does.

    Where no step buys anything (a tooth of the stairs), the one that costs least is taken all the same.
    """
    ledger = Ledger(budgets, start)
    values = {choice.group: {option.channels: option.value for option in choice.options} for choice in choices}
    while not all(budget.allows(total) for budget, total in zip(budgets, ledger.totals, strict=True)):
        moves = []
        for group, channels in _lower(choices, ledger.plan):
            relief = _relief(budgets, ledger.totals, ledger.totals_after(group, channels))
            loss = max(values[group][ledger.plan[group]] - values[group][channels], TINY)
            moves.append((relief / loss if relief > 0 else relief, group, channels))
        if not moves:
            return None
        _, group, channels = max(moves)
        ledger.move(group, channels)
    return ledger.plan


def repair(
    choices: Sequence[Choice], target: Budget, rows: Sequence[Budget], start: Mapping[str, int]
) -> Mapping[str, int] | None:
    """From a plan that misses rows by little, one group at a time up or down where that buys most for least of
    `target`, until all rows hold; None where no step gets nearer, or MOST_REPAIRS did not get there."""
    free = Budget(target.quantity, math.inf, target.tables, target.constant)
    ledger = Ledger([*rows, free], start)
    for _ in range(MOST_REPAIRS):
        if all(row.excess(total) == 0 for row, total in zip(rows, ledger.totals, strict=False)):
            return ledger.plan
        moves = []
        for choice in choices:
            counts = [option.channels for option in choice.options]
            at = counts.index(ledger.plan[choice.group])
            for channels in {*counts[max(0, at - LOOK_AHEAD) : at], *counts[at + 1 : at + 1 + LOOK_AHEAD]}:
                after = ledger.totals_after(choice.group, channels)
                relief = _relief(rows, ledger.totals, after)
                if relief > 0:
                    paid = after[-1] - ledger.totals[-1]
                    moves.append((relief / paid if paid > 0 else math.inf, relief, choice.group, channels))
        if not moves:
            return None
        _, _, group, channels = max(moves)
        ledger.move(group, channels)
    return None


def _lower(choices: Sequence[Choice], plan: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for choice in choices:
        counts = [option.channels for option in choice.options if option.channels < plan[choice.group]]
        yield from ((choice.group, channels) for channels in counts[-LOOK_AHEAD:])


def _relief(budgets: Sequence[Budget], now: Sequence[float], after: Sequence[float]) -> float:
    """By how much the budgets that do not hold yet, or would not then, come nearer; each in shares of its cost now."""
    rows = zip(budgets, now, after, strict=False)
    return sum((b.excess(before) - b.excess(then)) / (abs(before) or 1.0) for b, before, then in rows)
