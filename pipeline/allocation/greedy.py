"""A good plan fast, without a proof: give up widths where they buy most cost for least importance."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.allocation.ledger import Ledger
from pipeline.allocation.problem import Budget, Choice

TINY = 1e-12  # stands for no importance at all, which is given up first
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
            relief = _relief(budgets, ledger, group, channels)
            loss = max(values[group][ledger.plan[group]] - values[group][channels], TINY)
            moves.append((relief / loss if relief > 0 else relief, group, channels))
        if not moves:
            return None
        _, group, channels = max(moves)
        ledger.move(group, channels)
    return ledger.plan


def _lower(choices: Sequence[Choice], plan: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for choice in choices:
        counts = [option.channels for option in choice.options if option.channels < plan[choice.group]]
        yield from ((choice.group, channels) for channels in counts[-LOOK_AHEAD:])


def _relief(budgets: Sequence[Budget], ledger: Ledger, group: str, channels: int) -> float:
    """By how much the budgets that do not hold yet, or would not then, come down; each in shares of its cost now."""
    after = ledger.totals_after(group, channels)
    rows = zip(budgets, ledger.totals, after, strict=True)
    return sum((max(now, b.limit) - max(then, b.limit)) / (abs(now) or 1.0) for b, now, then in rows)
