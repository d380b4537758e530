"""NetAdapt (Yang et al. 2018): down to the budget in small steps, each taken where the network minds it least.

Every round asks the tables how far each group alone would have to be thinned to save the step, tries those plans on the
network, and goes on from the one with the least loss after a short fine-tune. NetAdapt fine-tunes every proposal before
it compares them; here the proposals are compared with the weights as they are, and the one that is adopted is tuned.
"""

import time
from collections.abc import Mapping, Sequence

from pipeline.allocation.ledger import Ledger
from pipeline.allocation.outcome import Allocation, Unreachable, baseline
from pipeline.allocation.problem import Budget, Choice, costs_of, validate, value_of, widest
from pipeline.allocation.trial import Trial

STEP = 0.025  # of the uncut cost, in the first round
DECAY = 0.96
SMALLEST_STEP = 0.005  # the decaying steps add up to 0.625 of the uncut cost; budgets below that take more rounds


def allocate_netadapt(choices: Sequence[Choice], budgets: Sequence[Budget], trial: Trial) -> Allocation:
    """A plan within all budgets, met one after the other; `Unreachable` where no group can save any more.

    The trial stands at the plan that is returned, fine-tuned."""
    started = time.monotonic()
    validate(choices, budgets)
    ledger = Ledger(budgets, widest(choices))
    uncut = list(ledger.totals)
    step = STEP
    trial.adopt(ledger.plan)  # an earlier call may have left it anywhere
    while (missed := _missed(budgets, ledger)) is not None:
        wanted = max(budgets[missed].limit, ledger.totals[missed] - step * abs(uncut[missed]))
        proposals = _proposals(choices, ledger, missed, wanted)
        if not proposals:
            reached = costs_of([b for b in budgets if b.quantity == budgets[missed].quantity], ledger.plan)
            raise Unreachable(choices, budgets[missed], reached[budgets[missed].quantity])
        plans = [{**ledger.plan, group: channels} for group, channels in proposals]
        losses = [trial.loss(plan) for plan in plans] if len(plans) > 1 else [0.0]
        group, channels = proposals[losses.index(min(losses))]
        ledger.move(group, channels)
        trial.adopt(ledger.plan)
        step = max(step * DECAY, SMALLEST_STEP)
    plan: Mapping[str, int] = ledger.plan
    return baseline("netadapt", choices, budgets, plan, value_of(choices, plan), time.monotonic() - started)


def _missed(budgets: Sequence[Budget], ledger: Ledger) -> int | None:
    return next((n for n, (b, cost) in enumerate(zip(budgets, ledger.totals, strict=True)) if not b.allows(cost)), None)


def _proposals(choices: Sequence[Choice], ledger: Ledger, budget: int, wanted: float) -> list[tuple[str, int]]:
    """For each group its widest option that brings the budget to `wanted`; where none of any group does, the options
    that save most, of all that save anything."""
    enough, saving = [], []
    for choice in choices:
        now = ledger.plan[choice.group]
        lower = [option.channels for option in choice.options if option.channels < now]
        costs = {channels: ledger.totals_after(choice.group, channels)[budget] for channels in lower}
        if reached := [channels for channels in lower if costs[channels] <= wanted]:
            enough.append((choice.group, max(reached)))
        if lower and costs[best := min(lower, key=lambda n: (costs[n], -n))] < ledger.totals[budget]:
            saving.append((choice.group, best))
    return enough or saving
