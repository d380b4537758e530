"""Local search on the cost tables themselves, from any plan that holds its budgets to one that no single move betters.

It spends what a rounded-up cost or a solver's gap left over, and between plans of nearly equal worth takes the wider.
"""

from collections.abc import Mapping, Sequence

from pipeline.allocation.ledger import Ledger
from pipeline.allocation.problem import Budget, Choice, best_value

TIE = 1e-6  # of the total value: two plans this close are equally good, scores being estimates
MAX_PASSES = 50  # each pass strictly improves; real instances need two or three


def polish(choices: Sequence[Choice], budgets: Sequence[Budget], channels: Mapping[str, int]) -> dict[str, int]:
    """A plan at least as good, give or take TIE, that holds every budget that `channels` holds."""
    ledger = Ledger(budgets, channels)
    tie = TIE * max(abs(best_value(choices)), *(abs(o.value) for c in choices for o in c.options))
    for _ in range(MAX_PASSES):
        moves = [_improve(choice, ledger, tie) for choice in choices]
        if not any(moves):
            break
    return ledger.plan


def _improve(choice: Choice, ledger: Ledger, tie: float) -> bool:
    """Move one group to its best option that the budgets allow; whether it moved."""
    now = next(option for option in choice.options if option.channels == ledger.plan[choice.group])
    better = [
        option
        for option in choice.options
        if option.value > now.value + tie or (option.value >= now.value - tie and option.channels > now.channels)
    ]
    for option in sorted(better, key=lambda option: (-option.value, -option.channels)):
        if ledger.allows(choice.group, option.channels):
            ledger.move(choice.group, option.channels)
            return True
    return False
