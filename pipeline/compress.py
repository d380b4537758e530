"""From a trained network and a goal to a bundle: every stage in order, each kept as it finishes."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.goal import parse_goal
from pipeline.graph.model import Model, load, save
from pipeline.graph.rewrite import rewritten
from pipeline.job import Job, Progress, file_identity
from pipeline.latency.profiling import NetworkProfile, PlanSpace, profile_network
from pipeline.latency.stored import from_json, to_json
from pipeline.plan import describe_plan
from pipeline.recipe import Recipe
from pipeline.stages.absorbing import absorb_means
from pipeline.stages.allocating import Decision, decide_on_device, decide_on_paper
from pipeline.stages.building import Built, build_and_check
from pipeline.stages.bundling import write_bundle
from pipeline.stages.cutting import cut_and_prove
from pipeline.stages.evaluation import accuracy_of, metric_for
from pipeline.stages.opening import Opened, groups_to_cut, open_model, open_samples
from pipeline.stages.problem import even_candidates
from pipeline.stages.putting_back import as_opened, fold_again, folded, put_back, to_put_back
from pipeline.stages.reporting import Outcome, describe
from pipeline.stages.scoring import Scores, best_channels, score_channels
from pipeline.stages.timing import compare, time_rewrites
from pipeline.workspace import Workspace, digest
from targets.connection import connect
from targets.profiles.store import ProfileStore
from targets.target import find_target


def compress(recipe: Recipe, *, on_progress: Progress | None = None) -> dict[str, Any]:
    """Meet the goal as measured on the target, and write the bundle to `recipe.output`. Returns the report.

    Stages that finished in an earlier, killed run of the same recipe are read back from `recipe.output`/.work. Raises
    GoalNotMet when no plan reaches the goal; a final measurement or accuracy that misses is in the report as `met`
    False with `failures`.
    """
    goal = parse_goal(recipe.goal)
    opened = open_model(recipe.model, recipe.shapes, recipe.example_inputs, blocks=recipe.blocks)
    groups = groups_to_cut(opened.channels, include=recipe.include, exclude=recipe.exclude, inexact=recipe.cuts_inexact)
    data = open_samples(opened.model, recipe.data, recipe.preprocessing) if recipe.data else None
    validation = open_samples(opened.model, recipe.validation, recipe.preprocessing) if recipe.validation else None
    target = find_target(recipe.target)
    with ExitStack() as stack:
        connection = stack.enter_context(connect(target))
        job = Job(
            recipe, goal, opened, groups, data, validation, connection, ProfileStore(recipe.db),
            Workspace(recipe.output / ".work"), on_progress,
        )  # fmt: skip
        return _compress(job)


def _compress(job: Job) -> dict[str, Any]:
    base = build_and_check(
        job.opened.model, job.work.folder / "uncut.onnx", job.work.folder / "uncut-engine.onnx", job.connection
    )
    before = _accuracy(job, "accuracy-before", job.opened.model, {})
    rewriting = _rewriting(job)
    batchnorm, normalised = _put_back(job)
    job = replace(job, rewrite=rewriting["used"], normalised=normalised)
    profile = _profile(job) if job.goal.bound("latency") or job.recipe.regularisation.cost == "latency" else None
    scores = _scores(job, profile)
    decision = _decide(job, profile, scores, base)
    kept = best_channels(scores, {group.id: decision.channels[group.id] for group in job.groups})
    network = cut_and_prove(job.trained, kept, constants=job.constants, rewrite=job.rewrite, seed=job.recipe.seed)
    delivered = folded(network.model, batchnorm["tensors"])
    plan = describe_plan(job.opened.model, job.opened.channels, kept, delivered, job.constants)
    start = network.model
    if job.recipe.absorb and job.data is not None:
        start = absorb_means(job.trained.model, start, job.trained.channels, kept, job.data)
    cut_inputs = {"plan": digest(plan), "absorb": job.recipe.absorb and job.recovering["data"], **job.settling}
    cut_accuracy = _accuracy(job, "accuracy-cut", start, cut_inputs)
    trained, recovery = _recover(job, start, cut_inputs)
    final, folding = fold_again(trained, batchnorm["tensors"], job.recipe.seed)
    after = _accuracy(job, "accuracy-after", final, {**cut_inputs, **job.recovering})
    built = build_and_check(
        final, job.work.folder / "final.onnx", job.work.folder / "final-engine.onnx", job.connection
    )
    outcome = Outcome(
        base, built, profile, scores, decision, network, plan, recovery, rewriting, {**batchnorm, **folding},
        compare(job, base, built), (before, cut_accuracy, after),
    )  # fmt: skip
    report = describe(job, outcome)
    write_bundle(job.recipe.output, final, plan, built, report)
    return report


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


def _scores(job: Job, profile: NetworkProfile | None) -> Scores:
    recipe = job.recipe

    def compute(folder: Path) -> Mapping[str, Any]:
        scores = score_channels(
            job.trained.model, job.trained.channels, job.groups_of_trained, criterion=recipe.criterion,
            normalisation=recipe.normalisation, cost=recipe.regularisation.cost,
            strength=recipe.regularisation.strength,
            latency_tables=profile.latency.cost_tables() if profile else None,
            priced=(job.opened.model, job.opened.channels), samples=job.data,
            count=recipe.samples_for_scoring, seed=recipe.seed, on_progress=job.on_progress,
        )  # fmt: skip
        return {"scores": {group: values.tolist() for group, values in scores.items()}}

    result, _ = job.work.stage("score", job.scoring, compute)
    return {group: np.asarray(values, np.float64) for group, values in result["scores"].items()}


def _decide(job: Job, profile: NetworkProfile | None, scores: Scores, base: Built) -> Decision:
    recipe = job.recipe

    def compute(folder: Path) -> Mapping[str, Any]:
        if job.goal.bound("latency") is None or profile is None:
            decision = decide_on_paper(
                job.opened, job.groups, scores, job.goal, candidates=even_candidates(job.groups),
                allocator=recipe.allocator, floor=recipe.floor, vanish=recipe.allow_vanish,
            )  # fmt: skip
        else:
            space = PlanSpace(job.groups, profile.candidates.channels, job.constants, job.rewrite)
            decision = decide_on_device(
                job.opened, job.groups, scores, job.goal, profile.latency, space, base.engine, job.connection,
                job.store, folder, allocator=recipe.allocator, floor=recipe.floor, vanish=recipe.allow_vanish,
                quick=recipe.quick, seed=recipe.seed, on_progress=job.on_progress,
            )  # fmt: skip
        return decision.as_json()

    inputs = {**job.scoring, "goal": job.goal.text, "allocator": recipe.allocator, "floor": recipe.floor,
              "vanish": recipe.allow_vanish, "target": asdict(job.connection.target), **job.settling,
              "quick": recipe.quick}  # fmt: skip
    result, _ = job.work.stage("allocate", inputs, compute)
    return Decision.from_json(result)


def _recover(job: Job, start: Model, made_of: Mapping[str, Any]) -> tuple[Model, Mapping[str, Any] | None]:
    config = job.recipe.recovery
    if config is None or job.data is None:
        return start, None
    samples = job.data

    def compute(folder: Path) -> Mapping[str, Any]:
        from pipeline.stages.recovering import recover_model

        trained, record = recover_model(start, job.opened.model, samples, config, folder, job.on_progress)
        save(trained, folder / "recovered.onnx")
        return record

    record, folder = job.work.stage("recover", {**job.network, **made_of, **job.recovering}, compute)
    return load(folder / "recovered.onnx", job.opened.model.bound), record


def _accuracy(job: Job, name: str, model: Model, inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if job.validation is None:
        return None
    samples = job.validation
    metric = metric_for(samples, job.recipe.metric)

    def compute(folder: Path) -> Mapping[str, Any]:
        return asdict(accuracy_of(model, samples, metric, job.opened.model, job.on_progress))

    asked = {
        **job.network,
        "metric": metric,
        "validation": file_identity(job.recipe.validation),
        "preprocessing": job.preprocessing,
        **inputs,
    }
    return job.work.stage(name, asked, compute)[0]
