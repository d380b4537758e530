"""Several rounds of score, cut and recover: how far each goes, and what each may spend on recovery."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.goal import Bound, Goal
from pipeline.training.config import RecoveryConfig

LAST_SHARE = 0.5  # of all recovery: what the last cut took, no later round brings back


@dataclass(frozen=True)
class Step:
    """One round, `number` from 0: its goal, and its part of the recovery."""

    number: int
    rounds: int
    goal: Goal
    recovery: RecoveryConfig | None

    @property
    def last(self) -> bool:
        return self.number == self.rounds - 1


def steps_to(goal: Goal, rounds: int, uncut: Mapping[str, float], recovery: RecoveryConfig | None) -> tuple[Step, ...]:
    """Geometric steps: each round leaves the same share of what the round before left. `uncut`: what the uncut network
    has of each bounded quantity, in the bound's unit. The last round has the goal itself."""
    return tuple(
        Step(number, rounds, _on_the_way(goal, number, rounds, uncut), _part(recovery, number, rounds))
        for number in range(rounds)
    )


def _on_the_way(goal: Goal, number: int, rounds: int, uncut: Mapping[str, float]) -> Goal:
    if number == rounds - 1:
        return goal
    bounds = []
    for bound in goal.bounds:
        share = bound.limit if bound.relative else bound.limit / uncut[bound.quantity]
        bounds.append(Bound(bound.quantity, min(share, 1.0) ** ((number + 1) / rounds), relative=True))
    text = ",".join(f"{bound.quantity}<={bound.limit:.4g}x" for bound in bounds)
    return Goal(tuple(bounds), f"{text} (round {number + 1} of {rounds} on the way to {goal.text})")


def _part(recovery: RecoveryConfig | None, number: int, rounds: int) -> RecoveryConfig | None:
    """The last round gets half of the epochs and minutes, the others the rest in equal parts; never less than one
    epoch."""
    if recovery is None or rounds == 1:
        return recovery
    others = rounds - 1
    last = number == others
    epochs, minutes = recovery.epochs, recovery.minutes
    if epochs is not None:
        each = max(1, int(epochs * (1 - LAST_SHARE)) // others)
        epochs = epochs - others * each if last else each
    if minutes is not None:
        minutes *= LAST_SHARE if last else (1 - LAST_SHARE) / others
    return replace(recovery, epochs=epochs, minutes=minutes)
