"""From a trained network and a goal to a bundle: every stage in order, each kept as it finishes."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.goal import parse_goal
from pipeline.graph.model import load, save
from pipeline.graph.rewrite import rewritten
from pipeline.job import Job, Progress, file_identity
from pipeline.latency.profiling import NetworkProfile, PlanSpace, profile_network
from pipeline.latency.stored import from_json, to_json
from pipeline.lowering import connect
from pipeline.recipe import Recipe
from pipeline.round import Cut, accuracy_stage, after, cut_once, recovered_with, uncut
from pipeline.stages.allocating import paper_budgets
from pipeline.stages.building import build_and_check, needs_rewrites
from pipeline.stages.bundling import write_bundle
from pipeline.stages.opening import Opened, groups_to_cut, open_model, open_samples
from pipeline.stages.precisions import first_look, said_of, variants_of
from pipeline.stages.putting_back import as_opened, fold_again, put_back, to_put_back
from pipeline.stages.reporting import Outcome, describe
from pipeline.stages.stepping import steps_to
from pipeline.stages.sweeping import SHARES, describe_choice, quickly, sweep_budgets
from pipeline.stages.timing import compare, time_rewrites
from pipeline.workspace import Workspace
from targets.connection import silent
from targets.device import refuse_emulated
from targets.profiles.store import ProfileStore
from targets.target import find_target


def compress(
    recipe: Recipe, *, on_progress: Progress | None = None, on_finding: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Meet the goal as measured on the target, and write the bundle to `recipe.output`. Returns the report.

    Stages that finished in an earlier, killed run of the same recipe are read back from `recipe.output`/.work. Raises
    GoalNotMet when no plan reaches the goal; a final measurement or accuracy that misses is in the report as `met`
    False with `failures`. `on_finding` gets a sentence for what is worth knowing before all is done, and where a device
    keeps us waiting.
    """
    goal = parse_goal(recipe.goal)
    opened = open_model(recipe.model, recipe.shapes, recipe.example_inputs, blocks=recipe.blocks)
    groups = groups_to_cut(opened.channels, include=recipe.include, exclude=recipe.exclude, inexact=recipe.cuts_inexact)
    data = open_samples(opened.model, recipe.data, recipe.preprocessing) if recipe.data else None
    validation = open_samples(opened.model, recipe.validation, recipe.preprocessing) if recipe.validation else None
    target = find_target(recipe.target)
    with ExitStack() as stack:
        connection = stack.enter_context(connect(target, tell=on_finding or silent))
        if goal.bound("latency") is not None:
            refuse_emulated(connection.device, target.name)
        job = Job(
            recipe, goal, opened, groups, data, validation, connection, ProfileStore(recipe.db),
            Workspace(recipe.output / ".work"), on_progress, on_finding=on_finding,
        )  # fmt: skip
        return _compress(job)


def _compress(job: Job) -> dict[str, Any]:
    forced = needs_rewrites(job.opened.model, job.connection)
    base = build_and_check(
        rewritten(job.opened.model) if forced else job.opened.model,
        job.work.folder / "uncut.onnx",
        job.work.folder / "uncut-engine",
        job.connection,
    )
    before = accuracy_stage(job, "accuracy-before", job.opened.model, {})
    rewriting = {"used": True, "forced": True} if forced else _rewriting(job)
    job = replace(job, rewrite=rewriting["used"])
    uncut_rows = first_look(job, base, before)
    for sentence in said_of(uncut_rows):
        job.say(sentence)
    batchnorm, normalised = _put_back(job)
    job = replace(job, normalised=normalised)
    profile = _profile(job) if job.goal.bound("latency") or job.recipe.regularisation.cost == "latency" else None
    tensors = batchnorm["tensors"]
    stand = uncut(job.trained)
    cuts: list[Cut] = []
    for step in steps_to(job.goal, job.recipe.rounds, _uncut_costs(job, profile), job.recipe.recovery):
        stand = after(job, cuts[-1]) if cuts else stand
        cuts.append(cut_once(job, stand, step, base, profile, tensors))
    last = cuts[-1]
    final, folding = fold_again(last.trained, tensors, job.recipe.seed)
    accuracy = accuracy_stage(job, "accuracy-after", final, {**last.made_of, **job.recovering})
    cuts[-1] = recovered_with(last, accuracy)
    built = build_and_check(final, job.work.folder / "final.onnx", job.work.folder / "final-engine", job.connection)
    variants = variants_of(job, final, "cut", {**last.made_of, **job.recovering})
    engines = [variant.built for variant in variants if variant.built]
    outcome = Outcome(
        base, built, profile, tuple(cuts), rewriting, {**batchnorm, **folding}, compare(job, base, built, engines),
        before, _sweep(job, cuts[0], profile), variants, tuple(uncut_rows),
    )  # fmt: skip
    report = describe(job, outcome)
    write_bundle(job.recipe.output, final, last.plan, built, report, variants)
    return report


def _uncut_costs(job: Job, profile: NetworkProfile | None) -> dict[str, float]:
    """What the uncut network has of each quantity that the goal bounds: nanoseconds predicted, the others counted."""
    full = {group.id: group.channels for group in job.opened.channels.groups}
    costs = {"latency": profile.latency.predict_ns(full)} if profile else {}
    for budget in paper_budgets(job.opened, job.groups, job.goal, full):
        costs[budget.quantity] = max(costs.get(budget.quantity, 0.0), budget.at(full))
    return costs


def _sweep(job: Job, first: Cut, profile: NetworkProfile | None) -> Mapping[str, Any] | None:
    """What other budgets would have kept, by the first round's scores and the same tables; nothing is measured."""
    if profile is None or job.goal.bound("latency") is None:
        return None
    recipe, decided = job.recipe, first.decision
    space = PlanSpace(job.groups, profile.candidates.channels, job.constants, job.rewrite)
    full = {group.id: group.channels for group in job.opened.channels.groups}

    def compute(folder: Path) -> Mapping[str, Any]:
        widths: dict[str, Any] = {"floor": recipe.floor, "floors": recipe.floors, "vanish": recipe.allow_vanish}
        uncut_ns = profile.latency.predict_ns(full)
        points = sweep_budgets(
            job.opened, job.groups, first.scores, profile.latency, space, [share * uncut_ns for share in SHARES],
            {"exact": quickly}, on_progress=job.on_progress, **widths,
        )  # fmt: skip
        found: dict[str, Any] = {"uncut_ms": uncut_ns / 1e6, "points": [point.as_json() for point in points]}
        if recipe.rounds == 1 and decided.chosen:  # scores of a later round are other scores
            found["chosen"] = describe_choice(job.groups, first.scores, space, decided.chosen, **widths)
        return found

    asked = {**job.scoring, "shares": SHARES, "floors": recipe.floors, "floor": recipe.floor,
             "vanish": recipe.allow_vanish, "channels": dict(decided.channels), **job.settling}  # fmt: skip
    return job.work.stage("sweep", asked, compute)[0]


def _rewriting(job: Job) -> Mapping[str, Any]:
    """Whether exact rewrites make the uncut network faster here; they are used where they do."""
    if job.goal.bound("latency") is None or rewritten(job.opened.model) is job.opened.model:
        return {"used": False}

    def compute(folder: Path) -> Mapping[str, Any]:
        return time_rewrites(job, folder)

    device = job.connection.device
    asked = {**job.network, "target": asdict(job.connection.target), "stack": dict(device.stack)}
    return job.work.stage("rewrite", asked, compute)[0]


def _put_back(job: Job) -> tuple[Mapping[str, Any], Opened | None]:
    """What became of batch-norm that the exporter folded, and the network with it, where it is put back."""
    recipe, samples = job.recipe, job.data
    tensors, why = to_put_back(job.opened.model, recipe.batchnorm, trains=recipe.recovery is not None)
    if not tensors or samples is None:
        return {"tensors": (), "put_back": 0, "because": why}, None

    def compute(folder: Path) -> Mapping[str, Any]:
        model, record = put_back(job.opened.model, tensors, samples, seed=recipe.seed, on_progress=job.on_progress)
        save(model, folder / "normalised.onnx")
        return record

    asked = {**job.network, "data": file_identity(recipe.data), "preprocessing": job.preprocessing,
             "tensors": tensors, "seed": recipe.seed}  # fmt: skip
    record, folder = job.work.stage("batchnorm", asked, compute)
    normalised = as_opened(load(folder / "normalised.onnx", job.opened.model.bound), job.opened)
    return {"tensors": tensors, **record}, normalised


def _profile(job: Job) -> NetworkProfile:
    def compute(folder: Path) -> Mapping[str, Any]:
        return to_json(
            profile_network(
                job.opened.model, job.opened.channels, job.groups, job.connection, job.store, constants=job.constants,
                rewrite=job.rewrite, seed=job.recipe.seed, on_progress=job.on_progress,
            )
        )  # fmt: skip

    device = job.connection.device
    inputs = {
        **job.network,
        "target": asdict(job.connection.target),
        "stack": dict(device.stack),
        "device": dict(device.device_class),
        "seed": job.recipe.seed,
        **job.settling,
    }
    result, _ = job.work.stage("profile", inputs, compute)
    return from_json(result, rewritten(job.opened.model) if job.rewrite else job.opened.model)
