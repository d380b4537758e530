"""The loop: choose widths, build, measure on the device, correct, choose again, until the goal is met as measured."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.allocation import Allocation, Budget, Scores, Unreachable, allocate
from pipeline.costs import budgets_of
from pipeline.goal import Bound, Goal
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.model import save
from pipeline.latency.predict import LatencyModel, fit
from pipeline.latency.profiling import PlanSpace, cut_to, sample_plan
from pipeline.latency.table import Sample
from pipeline.stages.opening import Opened
from pipeline.stages.problem import complete, make_choices, settle_budget, with_branches
from pipeline.workspace import write_json
from targets.connection import Connection, Engine
from targets.errors import GoalNotMet
from targets.measure import measure
from targets.measurement import Measurement, ratio
from targets.profiles.store import ProfileStore

MOST_ROUNDS = 8
ACCEPTED_OVER_GOAL = 1.01  # of the interval's upper end; the final measurement is allowed 1.02
WASTE = 0.96  # a measured share below this part of the goal leaves accuracy on the table: try wider
SESSIONS_PER_ROUND = 6
ANOTHER_STAIR = 0.96
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Round:
    """One plan, predicted and then measured beside the uncut network; `share` is of the uncut network's time."""

    budget_ns: float
    predicted_ns: float
    measured_ns: float
    low_ns: float
    high_ns: float
    share: float
    share_high: float
    channels: Mapping[str, int]

    def reached(self, bound: Bound) -> float:
        """The upper end of what was measured, as a share of the goal."""
        return (self.share_high if bound.relative else self.high_ns) / bound.limit

    def centre(self, bound: Bound) -> float:
        return (self.share if bound.relative else self.measured_ns) / bound.limit


@dataclass(frozen=True)
class Decision:
    """The plan (all groups), how it was found, and the rounds that led to it."""

    channels: Mapping[str, int]
    solver: str
    gap: float
    status: str
    seconds: float
    value: float
    rounds: tuple[Round, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Decision":
        return cls(**{**data, "rounds": tuple(Round(**entry) for entry in data["rounds"])})


def decide_on_paper(
    opened: Opened,
    groups: Sequence[ChannelGroup],
    scores: Scores,
    goal: Goal,
    *,
    candidates: Mapping[str, Sequence[int]],
    allocator: str,
    floor: float,
    vanish: bool,
) -> Decision:
    """Widths for a goal in FLOPs and parameters alone: nothing to measure, one solution."""
    full = {group.id: group.channels for group in opened.channels.groups}
    choices = make_choices(scores, candidates, groups, floor=floor, vanish=vanish)
    found = _solve(allocator, scores, choices, _paper_budgets(opened, groups, goal, full), goal)
    return _decision(found, complete(found.channels, groups, full), ())


def decide_on_device(
    opened: Opened,
    groups: Sequence[ChannelGroup],
    scores: Scores,
    goal: Goal,
    latency: LatencyModel,
    space: PlanSpace,
    base: Engine,
    connection: Connection,
    store: ProfileStore | None,
    folder: Path,
    *,
    allocator: str,
    floor: float,
    vanish: bool,
    quick: bool,
    seed: int,
    on_progress: Progress | None = None,
) -> Decision:
    """Solve, build, measure, correct, solve again. Raises GoalNotMet with the best that was reached."""
    bound = goal.bound("latency")
    assert bound is not None
    full = {group.id: group.channels for group in opened.channels.groups}
    paper = _paper_budgets(opened, groups, goal, full)
    choices = make_choices(scores, space.candidates, groups, floor=floor, vanish=vanish)
    rounds: list[Round] = []
    found: dict[int, Allocation] = {}
    limit_ns = bound.against(latency.predict_ns(full))
    for number in range(MOST_ROUNDS):
        if on_progress:
            on_progress(number, MOST_ROUNDS, "choosing widths, building, measuring")
        tables = with_branches(latency.cost_tables(), groups, full)
        budgets = [Budget("latency", limit_ns, tables, latency.offset_ns), *paper]
        try:
            allocation = _solve(allocator, scores, choices, budgets, goal)
        except GoalNotMet:
            if any(done.reached(bound) <= ACCEPTED_OVER_GOAL for done in rounds):
                break
            raise
        plan = complete(allocation.channels, groups, full)
        if any(done.channels == plan for done in rounds):
            if any(done.reached(bound) <= ACCEPTED_OVER_GOAL for done in rounds):
                break
            limit_ns *= ANOTHER_STAIR  # the same plan again, and it misses: ask for less until another one comes
            continue
        found[number] = allocation
        kept = _read_round(folder / f"round-{number}.json", plan)
        if kept is None:
            done = _measure_plan(
                opened, plan, limit_ns, latency.predict_ns(plan), space, base, connection, folder, quick, seed + number
            )
            sample = sample_plan(
                opened.model, opened.channels, latency.sites, plan, space, connection, store, folder.name
            )
            write_json(folder / f"round-{number}.json", {"round": asdict(done), "sample": asdict(sample)})
        else:
            done, sample = kept
        rounds.append(done)
        latency = fit(latency.sites, [*latency.samples, sample])
        if done.reached(bound) <= ACCEPTED_OVER_GOAL and done.centre(bound) >= WASTE:
            break
        # The refitted table knows this plan; what it still gets wrong at this point is put right in the limit.
        wanted = 1.0 / done.reached(bound) if done.reached(bound) > ACCEPTED_OVER_GOAL else 0.985 / done.centre(bound)
        limit_ns = latency.predict_ns(plan) * min(max(wanted, 0.6), 1.25)
    met = [done for done in rounds if done.reached(bound) <= ACCEPTED_OVER_GOAL]
    if not met:
        best = min(rounds, key=lambda done: done.share_high)
        raise GoalNotMet(
            f"{goal.text} was not met in {len(rounds)} rounds: the best measured is {best.share:.3f}x of the uncut "
            f"network ({best.measured_ns / 1e6:.3g} ms). Ask for no less, or allow narrower widths (--floor)."
        )
    chosen = max(met, key=lambda done: (found[rounds.index(done)].value, -done.share))
    return _decision(found[rounds.index(chosen)], chosen.channels, tuple(rounds))


def _read_round(path: Path, plan: Mapping[str, int]) -> tuple[Round, Sample] | None:
    """What an earlier, killed run measured of the same plan in the same round: it goes the same way again."""
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    done = Round(**stored["round"])
    return (done, Sample(**stored["sample"])) if done.channels == dict(plan) else None


def _measure_plan(
    opened: Opened,
    plan: Mapping[str, int],
    limit_ns: float,
    predicted_ns: float,
    space: PlanSpace,
    base: Engine,
    connection: Connection,
    folder: Path,
    quick: bool,
    seed: int,
) -> Round:
    path = folder / "round.onnx"
    save(cut_to(opened.model, opened.channels, plan, space.constants, rewrite=space.rewrite), path)
    engine = connection.build(path, folder / "round-engine.onnx")
    before, after = measure(
        [base, engine], connection, shapes=opened.model.bound, sessions=SESSIONS_PER_ROUND, quick=quick, seed=seed
    )
    return _round(before, after, plan, limit_ns, predicted_ns)


def _round(
    before: Measurement, after: Measurement, plan: Mapping[str, int], limit_ns: float, predicted_ns: float
) -> Round:
    compared = ratio(before, after)
    low, high = after.interval_ns()
    return Round(limit_ns, predicted_ns, after.median_ns, low, high, 1 / compared.value, 1 / compared.low, dict(plan))


def _paper_budgets(opened: Opened, groups: Sequence[ChannelGroup], goal: Goal, full: Mapping[str, int]) -> list[Budget]:
    return [
        settle_budget(budget, groups, full)
        for bound in goal.bounds
        if bound.quantity != "latency"
        for budget in budgets_of(bound, opened.model, opened.channels)
    ]


def _solve(allocator: str, scores: Scores, choices: Any, budgets: Sequence[Budget], goal: Goal) -> Allocation:
    # Scores are of any magnitude; the solver is happiest around one.
    scale = max((float(np.abs(values).max()) for values in scores.values() if values.size), default=1.0) or 1.0
    scaled = tuple(
        replace(choice, options=tuple(replace(option, value=option.value / scale) for option in choice.options))
        for choice in choices
    )
    try:
        return allocate(allocator, scores, scaled, budgets)
    except Unreachable as error:
        share = f"{error.least / error.full:.3f}x" if error.full else "?"
        unit = f" ({error.least / 1e6:.3g} ms)" if error.quantity == "latency" else f" ({error.least:.4g})"
        raise GoalNotMet(
            f"{goal.text} cannot be met: the best reachable {error.quantity} is about {share} of the uncut "
            f"network's{unit}. Ask for no less, or allow narrower widths (--floor)."
        ) from error


def _decision(found: Allocation, channels: Mapping[str, int], rounds: tuple[Round, ...]) -> Decision:
    return Decision(dict(channels), found.solver, found.gap, found.status, found.seconds, found.value, rounds)
