"""One round: score the network as it is, choose widths, cut and prove, recover. Frozen data in, frozen data out.

A compression is one round, or several on the way to the same goal. Widths are always those of the original network, on
its tables and its engines, whatever earlier rounds took: only scores, weights and the proof are of the network as it
is now.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.graph import cut as cutting
from pipeline.graph.channels import ChannelGroup, Kept
from pipeline.graph.model import Model, load, save
from pipeline.graph.writing import digest as graph_digest
from pipeline.job import Job, file_identity
from pipeline.latency.profiling import NetworkProfile, PlanSpace
from pipeline.plan import describe_plan
from pipeline.stages.absorbing import absorb_means
from pipeline.stages.allocating import Decision, decide_on_device, decide_on_paper
from pipeline.stages.building import Built
from pipeline.stages.cutting import CutNetwork, cut_and_prove
from pipeline.stages.evaluation import accuracy_of, metric_for
from pipeline.stages.lineage import Lineage, as_now, couple_again, of_original, still_free, untouched
from pipeline.stages.opening import Opened
from pipeline.stages.problem import even_candidates
from pipeline.stages.putting_back import folded
from pipeline.stages.scoring import Scores, best_channels, regularised, score_channels
from pipeline.stages.stepping import Step
from pipeline.stages.trial import NetworkTrial
from pipeline.training.config import RecoveryConfig
from pipeline.workspace import digest

Accuracy = Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class Stand:
    """The network as it is now: `kept` is what is left of the original, for every group."""

    opened: Opened
    kept: Kept
    lineage: Lineage


@dataclass(frozen=True, eq=False)
class Cut:
    """What a round made of it. `scores`: by group of the original, one for each channel that was left before. `plan` is
    of the original. `cut` and `recovered`: accuracies before and after recovery. `closed`: groups that this round could
    not cut further, since their channels go together otherwise than in the original."""

    step: Step
    before: Stand
    scores: Scores
    decision: Decision
    network: CutNetwork
    kept: Kept
    plan: Mapping[str, Any]
    trained: Model
    recovery: Mapping[str, Any] | None
    cut: Accuracy
    recovered: Accuracy
    made_of: Mapping[str, Any]
    closed: tuple[str, ...]


def uncut(opened: Opened) -> Stand:
    """Before the first round."""
    return Stand(opened, cutting.whole(opened.channels, {}), untouched(opened.channels))


def after(job: Job, cut: Cut) -> Stand:
    """Where the next round starts."""
    channels, lineage = couple_again(cut.trained, job.trained.channels, cut.kept)
    opened = Opened(cut.trained, channels, job.opened.source, graph_digest(cut.trained.proto))
    return Stand(opened, cut.kept, lineage)


def cut_once(
    job: Job, stand: Stand, step: Step, base: Built, profile: NetworkProfile | None, tensors: tuple[str, ...]
) -> Cut:
    """Every stage of the round, each kept in the job's workspace. `base`: the uncut engine that plans are timed beside;
    `tensors`: those that batch-norm was put back behind."""
    original = job.trained.channels
    own, decidable = still_free(
        stand.lineage, stand.opened.channels, stand.kept, [group.id for group in job.groups],
        inexact=job.recipe.cuts_inexact,
    )  # fmt: skip
    scores = _scores(job, stand, own, decidable, profile)
    decision = _decide(job, stand, step, scores, decidable, base, profile)
    chosen = best_channels(scores, {name: decision.channels[name] for name in decidable})
    stays = {name: tuple(stand.kept[name][index] for index in chosen[name]) for name in decidable}
    kept = cutting.whole(original, {**stand.kept, **stays})
    network = cut_and_prove(
        stand.opened, as_now(stand.lineage, own, kept), constants=job.constants, rewrite=job.rewrite and step.last,
        seed=job.recipe.seed,
    )  # fmt: skip
    plan = describe_plan(job.opened.model, job.opened.channels, kept, folded(network.model, tensors), job.constants)
    start = network.model
    if job.recipe.absorb and job.data is not None:
        start = absorb_means(
            stand.opened.model, start, stand.opened.channels, as_now(stand.lineage, own, kept), job.data
        )
    made_of = {
        "plan": digest(plan), "absorb": job.recipe.absorb and job.recovering["data"], **job.settling,
        **_place(stand, step),
    }  # fmt: skip
    cut = accuracy_stage(job, "accuracy-cut", start, made_of)
    trained, recovery = _recover(job, start, step.recovery, made_of)
    spent = {**job.recovering, "recovery": asdict(step.recovery) if step.recovery else None}
    recovered = None if step.last else accuracy_stage(job, "accuracy-recovered", trained, {**made_of, **spent})
    closed = tuple(g.id for g in job.groups if g.id not in decidable and len(stand.kept[g.id]) > 1)
    return Cut(step, stand, scores, decision, network, kept, plan, trained, recovery, cut, recovered, made_of, closed)


def accuracy_stage(job: Job, name: str, model: Model, inputs: Mapping[str, Any]) -> Accuracy:
    """Accuracy on the validation samples, measured once; None where there are none."""
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


def _place(stand: Stand, step: Step) -> dict[str, Any]:
    """What a stage of a later round depends on besides: the network that it starts from."""
    return {"round": step.number, "start": stand.opened.sha256} if step.number else {}


def _scores(
    job: Job,
    stand: Stand,
    own: tuple[ChannelGroup, ...],
    decidable: frozenset[str],
    profile: NetworkProfile | None,
) -> Scores:
    recipe = job.recipe

    def compute(folder: Path) -> Mapping[str, Any]:
        scores = score_channels(
            stand.opened.model, stand.opened.channels, own, criterion=recipe.criterion,
            normalisation=recipe.normalisation, samples=job.data, count=recipe.samples_for_scoring, seed=recipe.seed,
            on_progress=job.on_progress,
        )  # fmt: skip
        # Costs are those of the network as it will be delivered, not of the one with batch-norm put back.
        weighed = regularised(
            of_original(stand.lineage, scores, stand.kept, decidable),
            (job.opened.model, job.opened.channels), [group for group in job.groups if group.id in decidable],
            recipe.regularisation.cost, recipe.regularisation.strength,
            latency_tables=profile.latency.cost_tables() if profile else None,
        )  # fmt: skip
        return {"scores": {group: values.tolist() for group, values in weighed.items()}}

    inputs = {**job.scoring, "start": stand.opened.sha256, "decidable": sorted(decidable)}
    result, _ = job.work.stage("score", inputs, compute)
    found = {group: np.asarray(values, np.float64) for group, values in result["scores"].items()}
    return {group.id: found[group.id] for group in job.groups if group.id in found}


def _decide(
    job: Job,
    stand: Stand,
    step: Step,
    scores: Scores,
    decidable: frozenset[str],
    base: Built,
    profile: NetworkProfile | None,
) -> Decision:
    recipe, goal = job.recipe, step.goal
    # A group that earlier rounds closed keeps what it has, whatever that is worth.
    worth = {g.id: scores.get(g.id, np.zeros(len(stand.kept[g.id]))) for g in job.groups}
    measured = goal.bound("latency") is not None and profile is not None
    offered = profile.candidates.channels if measured and profile else even_candidates(job.groups)
    candidates = {g.id: tuple(offered[g.id]) if g.id in decidable else (len(stand.kept[g.id]),) for g in job.groups}
    asked: dict[str, Any] = {"allocator": recipe.allocator, "floor": recipe.floor, "floors": recipe.floors,
                              "vanish": recipe.allow_vanish}  # fmt: skip
    samples = job.data
    widths = {**asked, "trials": None}
    if samples is not None:
        opened = stand.opened
        widths["trials"] = partial(NetworkTrial, opened.model, opened.channels, worth, samples, seed=recipe.seed)

    def compute(folder: Path) -> Mapping[str, Any]:
        if profile is None or not measured:
            decision = decide_on_paper(job.opened, job.groups, worth, goal, candidates=candidates, **widths)
        else:
            space = PlanSpace(job.groups, candidates, job.constants, job.rewrite)
            decision = decide_on_device(
                job.opened, job.groups, worth, goal, profile.latency, space, base.engine, job.connection, job.store,
                folder, quick=recipe.quick, seed=recipe.seed, on_progress=job.on_progress, **widths,
            )  # fmt: skip
        return decision.as_json()

    inputs = {**job.scoring, "goal": goal.text, **asked, "target": asdict(job.connection.target), **job.settling,
              "quick": recipe.quick, **_place(stand, step)}  # fmt: skip
    result, _ = job.work.stage("allocate", inputs, compute)
    return Decision.from_json(result)


def _recover(
    job: Job, start: Model, config: RecoveryConfig | None, made_of: Mapping[str, Any]
) -> tuple[Model, Mapping[str, Any] | None]:
    if config is None or job.data is None:
        return start, None
    samples = job.data

    def compute(folder: Path) -> Mapping[str, Any]:
        from pipeline.stages.recovering import recover_model

        trained, record = recover_model(start, job.opened.model, samples, config, folder, job.on_progress)
        save(trained, folder / "recovered.onnx")
        return record

    spent = {**job.recovering, "recovery": asdict(config)}
    record, folder = job.work.stage("recover", {**job.network, **made_of, **spent}, compute)
    return load(folder / "recovered.onnx", job.opened.model.bound), record


def recovered_with(cut: Cut, value: Accuracy) -> Cut:
    """The last round, with the accuracy of what is delivered."""
    return replace(cut, recovered=value)
