"""Allocators: from scores and costs to how many channels each group keeps."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.allocation.exact import allocate_exact, minimum_cost
from pipeline.allocation.outcome import Allocation, Unreachable
from pipeline.allocation.problem import Budget, Choice, CostTable, Option, Scores, Width, choices_from
from pipeline.allocation.threshold import allocate_threshold
from pipeline.allocation.trial import Trial
from pipeline.allocation.uniform import allocate_uniform, keep
from targets.errors import BadInput

Allocator = Callable[[Scores, Sequence[Choice], Sequence[Budget], Trial | None], Allocation]

ALLOCATORS: Mapping[str, Allocator] = {
    "exact": lambda scores, choices, budgets, trial: allocate_exact(choices, budgets),
    "uniform": lambda scores, choices, budgets, trial: allocate_uniform(choices, budgets),
    "threshold": lambda scores, choices, budgets, trial: allocate_threshold(scores, choices, budgets),
}


def allocate(
    name: str, scores: Scores, choices: Sequence[Choice], budgets: Sequence[Budget], *, trial: Trial | None = None
) -> Allocation:
    """Widths by the named allocator, within all budgets; `Unreachable` (a `GoalNotMet`) where they cannot be met.

    `trial` is for those that try plans out on the network; they raise BadInput without it.
    """
    if name not in ALLOCATORS:
        raise BadInput(f"There is no allocator {name}. Choose one of: {', '.join(ALLOCATORS)}.")
    return ALLOCATORS[name](scores, choices, budgets, trial)


__all__ = [
    "ALLOCATORS",
    "Allocation",
    "Allocator",
    "Budget",
    "Choice",
    "CostTable",
    "Option",
    "Scores",
    "Trial",
    "Unreachable",
    "Width",
    "allocate",
    "allocate_exact",
    "allocate_threshold",
    "allocate_uniform",
    "choices_from",
    "keep",
    "minimum_cost",
]
