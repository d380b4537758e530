"""Allocators: from scores and costs to how many channels each group keeps."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.allocation.exact import allocate_cheapest, allocate_exact, minimum_cost
from pipeline.allocation.knapsack import allocate_knapsack
from pipeline.allocation.netadapt import allocate_netadapt
from pipeline.allocation.outcome import Allocation, Unreachable
from pipeline.allocation.problem import Budget, Choice, CostTable, Option, Scores, Width, choices_from
from pipeline.allocation.sensitivity import allocate_sensitivity
from pipeline.allocation.threshold import allocate_threshold
from pipeline.allocation.trial import Trial, needed
from pipeline.allocation.uniform import allocate_uniform, keep
from targets.errors import BadInput

Allocator = Callable[[Scores, Sequence[Choice], Sequence[Budget], Trial | None], Allocation]

ALLOCATORS: Mapping[str, Allocator] = {
    "exact": lambda scores, choices, budgets, trial: allocate_exact(choices, budgets),
    "uniform": lambda scores, choices, budgets, trial: allocate_uniform(choices, budgets),
    "threshold": lambda scores, choices, budgets, trial: allocate_threshold(scores, choices, budgets),
    "knapsack": lambda scores, choices, budgets, trial: allocate_knapsack(choices, budgets),
    "sensitivity": lambda scores, choices, budgets, trial: allocate_sensitivity(
        choices, budgets, needed(trial, "sensitivity")
    ),
    "netadapt": lambda scores, choices, budgets, trial: allocate_netadapt(choices, budgets, needed(trial, "netadapt")),
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
    "allocate_cheapest",
    "allocate_exact",
    "allocate_knapsack",
    "allocate_netadapt",
    "allocate_sensitivity",
    "allocate_threshold",
    "allocate_uniform",
    "choices_from",
    "keep",
    "minimum_cost",
]
