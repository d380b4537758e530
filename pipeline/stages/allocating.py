"""Which widths: on paper in one solution, or on the device in as many rounds as the goal takes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.allocation import Allocation, Budget, Choice, Scores, Trial, Unreachable, allocate, minimum_cost
from pipeline.costs import budgets_of
from pipeline.goal import Bound, Goal
from pipeline.graph.channels import ChannelGroup
from pipeline.latency.predict import LatencyModel
from pipeline.latency.profiling import PlanSpace, sample_plan
from pipeline.latency.table import Sample
from pipeline.stages.approaching import JUST_ENOUGH, Approach, Plan, approach
from pipeline.stages.opening import Opened
from pipeline.stages.problem import complete, make_choices, settle_budget, with_branches
from pipeline.stages.reach import as_sentence, what_remains
from pipeline.stages.steering import Round, best
from pipeline.stages.trying import Bench, try_plan
from pipeline.workspace import write_json
from targets.connection import Connection, Engine
from targets.errors import GoalNotMet
from targets.profiles.store import ProfileStore

Progress = Callable[[int, int, str], None]
Floors = Sequence[tuple[str, float]]
Trials = Callable[[], Trial]
TRY_PLANS_OUT = ("sensitivity", "netadapt")


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

    @property
    def chosen(self) -> Round | None:
        """The round that measured the plan, where one did."""
        return next((done for done in self.rounds if done.channels == self.channels), None)

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
    floors: Floors = (),
    trials: Trials | None = None,
) -> Decision:
    """Widths for a goal in FLOPs, parameters and the like: nothing to measure, one solution."""
    full = {group.id: group.channels for group in opened.channels.groups}
    choices = make_choices(scores, candidates, groups, floor=floor, floors=floors, vanish=vanish)
    try:
        found = solve(allocator, scores, choices, paper_budgets(opened, groups, goal, full), trials)
    except Unreachable as error:
        raise _unreachable(error, goal) from error
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
    floors: Floors = (),
    trials: Trials | None = None,
    on_progress: Progress | None = None,
) -> Decision:
    """Solve, build, measure, correct, solve again. Raises GoalNotMet with the best that was measured, the least that is
    predicted, and what keeps it there. Rounds that an earlier, killed run left in `folder` are not measured again.

    `scores` may be of fewer channels than the groups have, where some were cut before.
    """
    bound = goal.bound("latency")
    assert bound is not None
    full = {group.id: group.channels for group in opened.channels.groups}
    paper = paper_budgets(opened, groups, goal, full)
    choices = make_choices(scores, space.candidates, groups, floor=floor, floors=floors, vanish=vanish)
    bench = Bench(opened, space, base, connection, folder, quick, seed)

    def widths_within(model: LatencyModel, limit_ns: float) -> tuple[Allocation, Plan]:
        found = solve(allocator, scores, choices, [latency_budget(model, limit_ns, groups, full), *paper], trials)
        return found, complete(found.channels, groups, full)

    def try_out(number: int, plan: Plan, limit_ns: float, model: LatencyModel, value: float) -> tuple[Round, Sample]:
        path = folder / f"round-{number}.json"
        kept = _read_round(path, plan)
        if kept is not None:
            return kept
        done = try_plan(bench, plan, bound, limit_ns, model, value, number)
        sample = sample_plan(opened.model, opened.channels, model.sites, plan, space, connection, store, folder.name)
        write_json(path, {"round": asdict(done), "sample": asdict(sample)})
        return done, sample

    def on_round(number: int, most: int) -> None:
        if on_progress:
            on_progress(number, most, "choosing widths, building, measuring")

    try:
        found = approach(bound, full, latency, widths_within, try_out, on_round)
    except Unreachable as error:
        raise _unreachable(error, goal) from error
    chosen = best(found.rounds, bound)
    if chosen is None:
        least = latency_budget(found.latency, 0.0, groups, full)
        raise GoalNotMet(_unmet(opened, groups, goal, bound, found, choices, space, least, paper))
    allocation = next(each.allocation for each in found.tried if each.round is chosen)
    return _decision(allocation, chosen.channels, found.rounds)


def latency_budget(
    latency: LatencyModel, limit_ns: float, groups: Sequence[ChannelGroup], full: Mapping[str, int]
) -> Budget:
    """A limit on predicted latency; `full` is the uncut plan, which groups that nobody decides on keep."""
    return Budget("latency", limit_ns, with_branches(latency.cost_tables(), groups, full), latency.offset_ns)


def paper_budgets(opened: Opened, groups: Sequence[ChannelGroup], goal: Goal, full: Mapping[str, int]) -> list[Budget]:
    """The goal's bounds that need no device."""
    return [
        settle_budget(budget, groups, full)
        for bound in goal.bounds
        if bound.quantity != "latency"
        for budget in budgets_of(bound, opened.model, opened.channels)
    ]


def solve(
    allocator: str,
    scores: Scores,
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    trials: Trials | None = None,
) -> Allocation:
    """The named allocator on scores brought near one: they are of any magnitude, and solvers are happiest there.

    `trials` makes the network anew that an allocator tries plans out on: one that adopts plans leaves it changed."""
    scale = max((float(np.abs(values).max()) for values in scores.values() if values.size), default=1.0) or 1.0
    scaled = tuple(
        replace(choice, options=tuple(replace(option, value=option.value / scale) for option in choice.options))
        for choice in choices
    )
    trial = trials() if trials is not None and allocator in TRY_PLANS_OUT else None
    return allocate(allocator, scores, scaled, budgets, trial=trial)


def _unmet(
    opened: Opened,
    groups: Sequence[ChannelGroup],
    goal: Goal,
    bound: Bound,
    found: Approach,
    choices: Sequence[Choice],
    space: PlanSpace,
    budget: Budget,
    paper: Sequence[Budget],
) -> str:
    """What was measured at best, what is predicted at least, and why it is no less."""
    full = {group.id: group.channels for group in opened.channels.groups}
    least_ns = minimum_cost(choices, budget, within=paper)
    uncut_ns = found.latency.predict_ns(full)
    text = f"{goal.text} cannot be met"
    if found.rounds:
        fastest = min(found.rounds, key=lambda done: done.level(bound))
        text += (
            f": the best of {len(found.rounds)} measured is {fastest.share:.3f}x of the uncut network "
            f"({fastest.measured_ns / 1e6:.4g} ms, up to {fastest.high_ns / 1e6:.4g} ms)"
        )
    said = "the least that is predicted possible is"
    if found.rounds and min(done.share for done in found.rounds) < least_ns / uncut_ns:
        said = "no less is predicted possible, the prediction being"
    text += f"; {said} {least_ns / uncut_ns:.3f}x ({least_ns / 1e6:.4g} ms). "
    zero = {choice.group: np.zeros(max(option.channels for option in choice.options)) for choice in choices}
    try:
        cheapest = solve("exact", zero, choices, [replace(budget, limit=least_ns * JUST_ENOUGH), *paper])
    except Unreachable:  # the solver's tolerances lie between the two: nothing can be said of the plan
        parts = ""
    else:
        plan = complete(cheapest.channels, groups, full)
        parts = as_sentence(what_remains(opened.model, opened.channels, found.latency, plan, choices, space.candidates))
    return f"{text}{parts} Ask for no less, or allow narrower widths (--floor).".replace("  ", " ")


def _unreachable(error: Unreachable, goal: Goal) -> GoalNotMet:
    share = f"{error.least / error.full:.3f}x" if error.full else "?"
    unit = f" ({error.least / 1e6:.3g} ms)" if error.quantity == "latency" else f" ({error.least:.4g})"
    return GoalNotMet(
        f"{goal.text} cannot be met: the best reachable {error.quantity} is about {share} of the uncut "
        f"network's{unit}. Ask for no less, or allow narrower widths (--floor)."
    )


def _read_round(path: Path, plan: Mapping[str, int]) -> tuple[Round, Sample] | None:
    """What an earlier, killed run measured of the same plan in the same round: it goes the same way again."""
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    done = Round(**stored["round"])
    return (done, Sample(**stored["sample"])) if done.channels == dict(plan) else None


def _decision(found: Allocation, channels: Mapping[str, int], rounds: tuple[Round, ...]) -> Decision:
    return Decision(dict(channels), found.solver, found.gap, found.status, found.seconds, found.value, rounds)
