"""From a trained network and a goal to a bundle: every stage in order, each kept as it finishes."""

import datetime as dt
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calibration.batches import Samples
from pipeline.goal import Bound, Goal, parse_goal
from pipeline.graph.channels import ChannelGroup
from pipeline.graph.model import Model, input_specs, load, save
from pipeline.latency.profiling import NetworkProfile, PlanSpace, profile_network
from pipeline.latency.stored import from_json, to_json
from pipeline.measure import in_ms
from pipeline.plan import describe_plan
from pipeline.profile import describe_stairs
from pipeline.recipe import Recipe
from pipeline.stages.absorbing import absorb_means
from pipeline.stages.allocating import Decision, decide_on_device, decide_on_paper
from pipeline.stages.building import Built, build_and_check
from pipeline.stages.bundling import write_bundle
from pipeline.stages.cutting import CutNetwork, cut_and_prove
from pipeline.stages.evaluation import accuracy_of, metric_for
from pipeline.stages.opening import Opened, groups_to_cut, open_model, open_samples
from pipeline.stages.problem import even_candidates
from pipeline.stages.scoring import Scores, best_channels, score_channels
from pipeline.workspace import Workspace, digest
from targets.connection import Connection, connect
from targets.measure import measure
from targets.measurement import Measurement, Ratio, ratio
from targets.profiles.store import ProfileStore
from targets.target import find_target

Progress = Callable[[int, int, str], None]

# The upper end of the final interval may be this much over the goal: an interval is wider than what it is about.
ALLOWED_OVER_GOAL = 1.02


@dataclass(frozen=True, eq=False)
class Job:
    """What all stages of one compression share: what was asked for, opened once."""

    recipe: Recipe
    goal: Goal
    opened: Opened
    groups: tuple[ChannelGroup, ...]
    data: Samples | None
    validation: Samples | None
    connection: Connection
    store: ProfileStore
    work: Workspace
    on_progress: Progress | None

    @property
    def constants(self) -> str:
        """A network that is trained afterwards does without the constants that vanished branches leave."""
        return "dropped" if self.recipe.recovery is not None else "kept"

    @property
    def network(self) -> dict[str, Any]:
        """What identifies the graph and the groups that may be cut, for the stages' digests."""
        return {
            "model": self.opened.sha256,
            "shapes": dict(self.opened.model.bound),
            "groups": [g.id for g in self.groups],
        }


def compress(recipe: Recipe, *, on_progress: Progress | None = None) -> dict[str, Any]:
    """Meet the goal as measured on the target, and write the bundle to `recipe.output`. Returns the report.

    Stages that finished in an earlier, killed run of the same recipe are read back from `recipe.output`/.work. Raises
    GoalNotMet when no plan reaches the goal; a final measurement or accuracy that misses is in the report as `met`
    False with `failures`.
    """
    goal = parse_goal(recipe.goal)
    opened = open_model(recipe.model, recipe.shapes, recipe.example_inputs)
    groups = groups_to_cut(
        opened.channels, include=recipe.include, exclude=recipe.exclude, inexact=recipe.include_inexact
    )
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
    profile = _profile(job) if job.goal.bound("latency") or job.recipe.regularisation.cost == "latency" else None
    scores = _scores(job, profile)
    decision = _decide(job, profile, scores, base)
    kept = best_channels(scores, {group.id: decision.channels[group.id] for group in job.groups})
    network = cut_and_prove(job.opened, kept, constants=job.constants, seed=job.recipe.seed)
    plan = describe_plan(job.opened.model, job.opened.channels, kept, network.model, job.constants)
    start = network.model
    if job.recipe.absorb and job.data is not None:
        start = absorb_means(job.opened.model, start, job.opened.channels, kept, job.data)
    cut_accuracy = _accuracy(job, "accuracy-cut", start, {"plan": digest(plan), "absorb": job.recipe.absorb})
    final, recovery = _recover(job, start, plan)
    after = _accuracy(job, "accuracy-after", final, {"plan": digest(plan), "recovery": _recovery_settings(job)})
    built = build_and_check(
        final, job.work.folder / "final.onnx", job.work.folder / "final-engine.onnx", job.connection
    )
    timing = _measure(job, base, built)
    report = _report(
        job, base, built, profile, scores, decision, network, plan, recovery, timing, (before, cut_accuracy, after)
    )
    write_bundle(job.recipe.output, final, plan, built, report)
    return report


def _profile(job: Job) -> NetworkProfile:
    def compute(folder: Path) -> Mapping[str, Any]:
        return to_json(
            profile_network(
                job.opened.model, job.opened.channels, job.groups, job.connection, job.store, constants=job.constants,
                seed=job.recipe.seed, on_progress=job.on_progress,
            )
        )  # fmt: skip

    device = job.connection.device
    inputs = {
        **job.network,
        "target": asdict(job.connection.target),
        "stack": dict(device.stack),
        "device": dict(device.device_class),
        "constants": job.constants,
        "seed": job.recipe.seed,
    }
    result, _ = job.work.stage("profile", inputs, compute)
    return from_json(result, job.opened.model)


def _score_inputs(job: Job) -> dict[str, Any]:
    recipe = job.recipe
    return {
        **job.network,
        **{key: getattr(recipe, key) for key in ("criterion", "normalisation", "data", "samples_for_scoring", "seed")},
        "regularisation": recipe.regularisation.model_dump(),
        "preprocessing": asdict(recipe.preprocessing) if recipe.preprocessing else None,
    }


def _scores(job: Job, profile: NetworkProfile | None) -> Scores:
    recipe = job.recipe

    def compute(folder: Path) -> Mapping[str, Any]:
        scores = score_channels(
            job.opened.model, job.opened.channels, job.groups, criterion=recipe.criterion,
            normalisation=recipe.normalisation, cost=recipe.regularisation.cost,
            strength=recipe.regularisation.strength,
            latency_tables=profile.latency.cost_tables() if profile else None, samples=job.data,
            count=recipe.samples_for_scoring, seed=recipe.seed, on_progress=job.on_progress,
        )  # fmt: skip
        return {"scores": {group: values.tolist() for group, values in scores.items()}}

    result, _ = job.work.stage("score", _score_inputs(job), compute)
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
            space = PlanSpace(job.groups, profile.candidates.channels, job.constants)
            decision = decide_on_device(
                job.opened, job.groups, scores, job.goal, profile.latency, space, base.engine, job.connection,
                job.store, folder, allocator=recipe.allocator, floor=recipe.floor, vanish=recipe.allow_vanish,
                quick=recipe.quick, seed=recipe.seed, on_progress=job.on_progress,
            )  # fmt: skip
        return decision.as_json()

    inputs = {**_score_inputs(job), "goal": job.goal.text, "allocator": recipe.allocator, "floor": recipe.floor,
              "vanish": recipe.allow_vanish, "target": asdict(job.connection.target), "constants": job.constants,
              "quick": recipe.quick}  # fmt: skip
    result, _ = job.work.stage("allocate", inputs, compute)
    return Decision.from_json(result)


def _recover(job: Job, start: Model, plan: Mapping[str, Any]) -> tuple[Model, Mapping[str, Any] | None]:
    config = job.recipe.recovery
    if config is None or job.data is None:
        return start, None
    samples = job.data

    def compute(folder: Path) -> Mapping[str, Any]:
        from pipeline.stages.recovering import recover_model

        trained, record = recover_model(start, job.opened.model, samples, config, folder, job.on_progress)
        save(trained, folder / "recovered.onnx")
        return record

    inputs = {
        **job.network,
        "plan": digest(plan),
        "constants": job.constants,
        "absorb": job.recipe.absorb,
        **_recovery_settings(job),
    }
    record, folder = job.work.stage("recover", inputs, compute)
    return load(folder / "recovered.onnx", job.opened.model.bound), record


def _recovery_settings(job: Job) -> dict[str, Any]:
    recipe = job.recipe
    return {
        "recovery": asdict(recipe.recovery) if recipe.recovery else None,
        "data": recipe.data,
        "preprocessing": asdict(recipe.preprocessing) if recipe.preprocessing else None,
    }


def _accuracy(job: Job, name: str, model: Model, inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if job.validation is None:
        return None
    samples = job.validation
    metric = metric_for(samples, job.recipe.metric)

    def compute(folder: Path) -> Mapping[str, Any]:
        return asdict(accuracy_of(model, samples, metric, job.opened.model, job.on_progress))

    preprocessing = asdict(job.recipe.preprocessing) if job.recipe.preprocessing else None
    asked = {
        **job.network,
        "metric": metric,
        "validation": job.recipe.validation,
        "preprocessing": preprocessing,
        **inputs,
    }
    return job.work.stage(name, asked, compute)[0]


@dataclass(frozen=True)
class Timing:
    """Uncut and cut engine, timed in the same run."""

    before: Measurement
    after: Measurement
    ratio: Ratio


def _measure(job: Job, base: Built, built: Built) -> Timing:
    """The final comparison; repeated once with twice the sessions where the centre meets a goal that the interval's end
    does not."""
    bound = job.goal.bound("latency")
    sessions = job.recipe.sessions
    for attempt in range(2):
        before, after = measure(
            [base.engine, built.engine],
            job.connection,
            shapes=job.opened.model.bound,
            sessions=sessions * (1 + attempt),
            quick=job.recipe.quick,
            seed=job.recipe.seed + attempt,
            on_progress=job.on_progress,
        )
        timing = Timing(before, after, ratio(before, after))
        if bound is None or _over(bound, timing) <= ALLOWED_OVER_GOAL or _centre(bound, timing) > 1:
            break
    return timing


def _over(bound: Bound, timing: Timing) -> float:
    """The upper end of the interval as a share of the goal."""
    return (1 / timing.ratio.low if bound.relative else timing.after.interval_ns()[1]) / bound.limit


def _centre(bound: Bound, timing: Timing) -> float:
    return (1 / timing.ratio.value if bound.relative else timing.after.median_ns) / bound.limit


def _report(
    job: Job, base: Built, built: Built, profile: NetworkProfile | None, scores: Scores, decision: Decision,
    network: CutNetwork, plan: Mapping[str, Any], recovery: Mapping[str, Any] | None, timing: Timing,
    accuracies: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None, Mapping[str, Any] | None],
) -> dict[str, Any]:  # fmt: skip
    recipe, opened = job.recipe, job.opened
    accuracy = _describe_accuracy(accuracies)
    failures = _failures(job, timing, plan, accuracy)
    kernels = job.connection.profile(job.work.folder / "final.onnx", shapes=opened.model.bound).kernels
    return {
        "cutback": version("cutback"),
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": "cutback " + shlex.join(sys.argv[1:]),
        "model": {
            "path": recipe.model,
            "sha256": opened.sha256,
            "inputs": [
                {"name": s.name, "shape": list(opened.model.bound[s.name]), "dtype": s.dtype}
                for s in input_specs(opened.model.proto)
            ],
        },
        "target": asdict(job.connection.target),
        "device": job.connection.device.as_dict(),
        "goal": job.goal.text,
        "met": not failures,
        "failures": failures,
        "latency": {
            "before": in_ms(timing.before),
            "after": in_ms(timing.after),
            "ratio": asdict(timing.ratio),
            "predicted_ms": decision.rounds[-1].predicted_ns / 1e6 if decision.rounds else None,
            "measured_ms": timing.after.median_ns / 1e6,
            "rounds": [
                {
                    "budget_ms": done.budget_ns / 1e6,
                    "predicted_ms": done.predicted_ns / 1e6,
                    "measured_ms": done.measured_ns / 1e6,
                    "low_ms": done.low_ns / 1e6,
                    "high_ms": done.high_ns / 1e6,
                }
                for done in decision.rounds
            ],
            "heldout": asdict(profile.heldout) if profile else None,
        },
        "flops": plan["flops"],
        "params": plan["params"],
        "accuracy": accuracy,
        "proof": dict(network.proof),
        "groups": [
            {
                **{key: entry[key] for key in ("id", "width", "kept", "step")},
                "exact": group.exact,
                "locked": group.locked_because,
                "importance": scores[group.id].tolist() if group.id in scores else [],
                "kept_channels": entry["channels"],
            }
            for entry, group in zip(plan["groups"], opened.channels.groups, strict=True)
        ],
        "kernels": {
            "before": list(profile.base_kernels) if profile else [],
            "after": [
                {"name": k.outputs[0] if k.outputs else k.name, "op": "+".join(k.fused) or k.op, "us": k.mean_ns / 1e3}
                for k in kernels
            ],
        },
        "stairs": describe_stairs(profile, decision.channels) if profile else [],
        "recovery": dict(recovery) if recovery else None,
        "solver": {
            "name": decision.solver,
            "allocator": recipe.allocator,
            "gap": decision.gap,
            "status": decision.status,
            "seconds": decision.seconds,
        },
        "criterion": {
            "name": recipe.criterion,
            "normalisation": recipe.normalisation,
            "regularisation": recipe.regularisation.model_dump(),
        },
        "engines": [
            {
                "path": "engine.onnx",
                "sha256": built.engine.sha256,
                "runtime": built.engine.runtime,
                "precision": job.connection.target.precision,
                "bytes": built.engine.path.stat().st_size,
                "difference": built.difference,
            }
        ],
        "doubts": [*_doubts(timing), *base.doubts, *built.doubts, *(["timed in quick mode"] if recipe.quick else [])],
    }


def _describe_accuracy(
    accuracies: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None, Mapping[str, Any] | None],
) -> dict[str, Any] | None:
    before, cut, after = accuracies
    if before is None or cut is None or after is None:
        return None
    return {
        "metric": before["metric"],
        "count": before["count"],
        "before": before["value"],
        "cut": cut["value"],
        "after": after["value"],
        "drop": before["value"] - after["value"],
    }


def _failures(job: Job, timing: Timing, plan: Mapping[str, Any], accuracy: Mapping[str, Any] | None) -> list[str]:
    """A sentence for every part of the goal, and every gate, that was missed."""
    found = []
    for bound in job.goal.bounds:
        if bound.quantity == "latency":
            if _over(bound, timing) > ALLOWED_OVER_GOAL:
                end = 1 / timing.ratio.low
                found.append(
                    f"latency: the upper end of the measured interval is {end:.3f}x ({job.goal.text} was asked)"
                )
        elif plan[bound.quantity]["after"] > bound.against(plan[bound.quantity]["before"]) * (1 + 1e-9):
            found.append(f"{bound.quantity}: {plan[bound.quantity]['after']} is over {job.goal.text}")
    if job.recipe.max_drop is not None and accuracy and accuracy["drop"] > job.recipe.max_drop:
        found.append(f"accuracy fell by {accuracy['drop']:.2f} points; --max-drop allows {job.recipe.max_drop:g}")
    return found


def _doubts(timing: Timing) -> list[str]:
    return [
        f"{which}: {doubt}"
        for which, side in (("uncut", timing.before), ("cut", timing.after))
        for doubt in side.doubts
    ]
