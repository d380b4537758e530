"""One profile, many budgets: what each budget keeps of the importance, and what that is predicted to take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.allocation import Allocation, Choice, Scores, Unreachable, allocate_exact
from pipeline.allocation.problem import Budget, value_of, widest
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.flops import paper_cost
from pipeline.latency.predict import LatencyModel
from pipeline.latency.profiling import PlanSpace, cut_to
from pipeline.stages.allocating import Floors, Trials, latency_budget, solve
from pipeline.stages.opening import Opened
from pipeline.stages.problem import complete, make_choices
from pipeline.stages.steering import Round

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of the uncut latency, where nobody names others
REPORT_SECONDS = 3.0  # of the solver, a budget: a picture needs no last thousandth
Find = Callable[[Scores, Sequence[Choice], Sequence[Budget]], Allocation]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Point:
    """One budget, solved by one allocator. `channels` is None where no plan is within it; then `least_ns` is the least
    that is predicted possible. `kept`: share of all importance."""

    allocator: str
    budget_ns: float
    channels: Mapping[str, int] | None
    kept: float | None = None
    predicted_ns: float | None = None
    low_ns: float | None = None
    high_ns: float | None = None
    gap: float | None = None
    status: str | None = None
    flops: int | None = None
    params: int | None = None
    least_ns: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Times in ms, as reports have them."""
        return {
            "allocator": self.allocator,
            "budget_ms": self.budget_ns / 1e6,
            **{f"{name}_ms": _ms(getattr(self, f"{name}_ns")) for name in ("predicted", "low", "high", "least")},
            **{name: getattr(self, name) for name in ("kept", "gap", "status", "flops", "params")},
        }


def named(allocator: str, trials: Trials | None = None) -> Find:
    """The allocator as compress uses it."""
    return partial(solve, allocator, trials=trials)


def quickly(_: Scores, choices: Sequence[Choice], budgets: Sequence[Budget]) -> Allocation:
    """The exact allocator, on little time."""
    return allocate_exact(choices, budgets, time_limit_s=REPORT_SECONDS)


def sweep_budgets(
    opened: Opened,
    groups: Sequence[ChannelGroup],
    scores: Scores,
    latency: LatencyModel,
    space: PlanSpace,
    limits_ns: Sequence[float],
    finders: Mapping[str, Find],
    *,
    floor: float,
    floors: Floors,
    vanish: bool,
    on_progress: Progress | None = None,
) -> tuple[Point, ...]:
    """Every allocator on every budget, in that order. Plans that differ are cut to count what is left of them."""
    full = {group.id: group.channels for group in opened.channels.groups}
    choices = make_choices(scores, space.candidates, groups, floor=floor, floors=floors, vanish=vanish)
    points: list[Point] = []
    counted: dict[tuple[int, ...], tuple[int, int]] = {}
    for name, find in finders.items():
        for limit_ns in limits_ns:
            if on_progress:
                on_progress(len(points), len(finders) * len(limits_ns), f"choosing widths: {name}")
            try:
                found = find(scores, choices, [latency_budget(latency, limit_ns, groups, full)])
            except Unreachable as error:
                points.append(Point(name, limit_ns, None, least_ns=error.least))
                continue
            plan = complete(found.channels, groups, full)
            key = tuple(plan[group.id] for group in opened.channels.groups)
            if key not in counted:
                smaller = cut_to(opened.model, opened.channels, plan, space.constants, rewrite=space.rewrite)
                cost = paper_cost(smaller)
                counted[key] = (cost.flops, cost.params)
            low, high = latency.interval_ns(plan)
            points.append(
                Point(
                    name, limit_ns, plan, kept_share(choices, found.channels), latency.predict_ns(plan), low, high,
                    found.gap, found.status, *counted[key],
                )
            )  # fmt: skip
    return tuple(points)


def kept_share(choices: Sequence[Choice], channels: Mapping[str, int]) -> float | None:
    """The importance that a plan keeps, as a share of the uncut network's; None where that is nothing."""
    whole = value_of(choices, widest(choices))
    return float(value_of(choices, channels) / whole) if whole > 0 and np.isfinite(whole) else None


def describe_choice(
    groups: Sequence[ChannelGroup],
    scores: Scores,
    space: PlanSpace,
    done: Round,
    *,
    floor: float,
    floors: Floors,
    vanish: bool,
) -> dict[str, Any]:
    """The plan that a compression chose, on the sweep's own axes: as predicted when it was chosen, and as
    it was measured then."""
    choices = make_choices(scores, space.candidates, groups, floor=floor, floors=floors, vanish=vanish)
    return {
        "kept": kept_share(choices, {choice.group: done.channels[choice.group] for choice in choices}),
        "predicted_ms": done.predicted_ns / 1e6,
        "measured_ms": done.measured_ns / 1e6,
    }


def _ms(time_ns: float | None) -> float | None:
    return None if time_ns is None else time_ns / 1e6
