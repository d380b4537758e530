"""Local search on the cost tables themselves, from any plan that holds its budgets to one that no single move betters.

It spends what a rounded-up cost or a solver's gap left over, and between plans of nearly equal cost takes the wider.
"""

from collections.abc import Mapping, Sequence

from pipeline.allocation.ledger import Ledger
from pipeline.allocation.problem import Budget, Choice, widest

TIE = 1e-6  # of the uncut network's target: two plans this close are equally good, scores being estimates
MAX_PASSES = 50  # each pass strictly improves; real instances need two or three


def polish(
    choices: Sequence[Choice], target: Budget, rows: Sequence[Budget], channels: Mapping[str, int]
) -> dict[str, int]:
    """A plan that costs no more of `target` (its limits aside), give or take TIE, and holds every row that `channels`
    holds."""
    free = Budget(target.quantity, float("inf"), target.tables, target.constant)
    ledger = Ledger([*rows, free], channels)
    tie = TIE * max(abs(target.at(widest(choices))), *(abs(total) for total in ledger.totals[-1:]), 1e-300)
    for _ in range(MAX_PASSES):
        moves = [_improve(choice, ledger, tie) for choice in choices]
        if not any(moves):
            break
    return ledger.plan


def _improve(choice: Choice, ledger: Ledger, tie: float) -> bool:
    """Move one group to its best option that the rows allow; whether it moved."""
    now = ledger.plan[choice.group]
    better = []
    for option in choice.options:
        if option.channels != now:
            change = ledger.totals_after(choice.group, option.channels)[-1] - ledger.totals[-1]
            if change < -tie or (change <= tie and option.channels > now):
                better.append((change, -option.channels))
    for _, negated in sorted(better):
        if ledger.allows(choice.group, -negated):
            ledger.move(choice.group, -negated)
            return True
    return False
