"""The report: one document that says what was asked, done, measured, and doubted. HTML and Markdown are made of it."""

import datetime as dt
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from pipeline.graph.model import input_specs
from pipeline.job import Job
from pipeline.latency.profiling import NetworkProfile
from pipeline.measure import in_ms
from pipeline.profile import describe_stairs
from pipeline.round import Accuracy, Cut
from pipeline.stages.building import Built, engine_name
from pipeline.stages.lineage import spread_out
from pipeline.stages.opening import Opened
from pipeline.stages.precisions import PLAIN, Variant, describe_variants, recommend
from pipeline.stages.steering import Round
from pipeline.stages.timing import ALLOWED_OVER_GOAL, Timing, over
from targets.kernels import Kernel


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the stages made. `cuts`: every round, the last with the accuracy of what is delivered; `before`: the uncut
    network's accuracy; `variants`: the delivered network in other precisions, `uncut_rows`: what became of the uncut
    one in them."""

    base: Built
    built: Built
    profile: NetworkProfile | None
    cuts: tuple[Cut, ...]
    rewriting: Mapping[str, Any]
    batchnorm: Mapping[str, Any]
    timing: Timing
    before: Accuracy
    sweep: Mapping[str, Any] | None
    variants: tuple[Variant, ...] = ()
    uncut_rows: tuple[Mapping[str, Any], ...] = ()

    @property
    def last(self) -> Cut:
        return self.cuts[-1]

    @property
    def accuracies(self) -> tuple[Accuracy, Accuracy, Accuracy]:
        """Of the uncut network, the cut one, and the recovered one."""
        return self.before, self.last.cut, self.last.recovered


def describe(job: Job, outcome: Outcome) -> dict[str, Any]:
    """The report's document; its schema is the one that pipeline.report reads."""
    accuracy = describe_accuracy(outcome.accuracies)
    failures = failures_of(job, outcome, accuracy)
    return {
        "cutback": version("cutback"),
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": "cutback " + shlex.join(sys.argv[1:]),
        "model": describe_model(job.opened),
        "preprocessing": job.preprocessing,
        "target": asdict(job.connection.target),
        "device": job.connection.device.as_dict(),
        "goal": job.goal.text,
        "met": not failures,
        "failures": failures,
        "latency": _latency(outcome),
        "flops": outcome.last.plan["flops"],
        "params": outcome.last.plan["params"],
        "memory": outcome.last.plan["memory"],
        "accuracy": accuracy,
        "proof": dict(outcome.last.network.proof),
        "rewrites": dict(outcome.rewriting),
        "batchnorm": {name: value for name, value in outcome.batchnorm.items() if name != "tensors"},
        "cuts": [_cut(cut) for cut in outcome.cuts],
        "sweep": outcome.sweep,
        "groups": _groups(job, outcome),
        "kernels": _kernels(job, outcome),
        "stairs": describe_stairs(outcome.profile, outcome.last.decision.channels) if outcome.profile else [],
        "recovery": dict(outcome.last.recovery) if outcome.last.recovery else None,
        "solver": {
            "name": outcome.last.decision.solver,
            "allocator": job.recipe.allocator,
            "gap": outcome.last.decision.gap,
            "status": outcome.last.decision.status,
            "seconds": outcome.last.decision.seconds,
        },
        "criterion": {
            "name": job.recipe.criterion,
            "normalisation": job.recipe.normalisation,
            "regularisation": job.recipe.regularisation.model_dump(),
        },
        "precisions": _precisions(job, outcome, accuracy),
        "engines": [
            _engine(outcome.built, PLAIN),
            *(_engine(each.built, each.precision, f"-{each.precision}") for each in outcome.variants if each.built),
        ],
        "doubts": _doubts(job, outcome),
    }


def describe_accuracy(accuracies: tuple[Accuracy, Accuracy, Accuracy]) -> dict[str, Any] | None:
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


def failures_of(job: Job, outcome: Outcome, accuracy: Accuracy) -> list[str]:
    """A sentence for every part of the goal, and every gate, that was missed."""
    found = []
    for bound in job.goal.bounds:
        if bound.quantity == "latency":
            if over(bound, outcome.timing) > ALLOWED_OVER_GOAL:
                share, high = 1 / outcome.timing.ratio.low, outcome.timing.after.interval_ns()[1] / 1e6
                end = f"{share:.3f}x" if bound.relative else f"{high:.3g} ms"
                found.append(f"latency: the upper end of the measured interval is {end}; asked was {job.goal.text}")
        else:
            cost = outcome.last.plan[bound.quantity]
            if cost["after"] > bound.against(cost["before"]) * (1 + 1e-9):
                found.append(f"{bound.quantity}: {cost['after']} is over {job.goal.text}")
    most = job.recipe.max_drop
    if most is not None and accuracy and accuracy["drop"] > most:
        found.append(f"accuracy fell by {accuracy['drop']:.2f} points; --max-drop allows {most:g}")
    return found


def describe_model(opened: Opened) -> dict[str, Any]:
    model = opened.model
    inputs = [{"name": s.name, "shape": list(model.bound[s.name]), "dtype": s.dtype} for s in input_specs(model.proto)]
    return {"path": opened.source, "sha256": opened.sha256, "inputs": inputs}


def _latency(outcome: Outcome) -> dict[str, Any]:
    timing, decision = outcome.timing, outcome.last.decision
    chosen = decision.chosen
    return {
        "before": in_ms(timing.before),
        "after": in_ms(timing.after),
        "ratio": asdict(timing.ratio),
        "predicted_ms": chosen.predicted_ns / 1e6 if chosen else None,
        "predicted_low_ms": chosen.predicted_low_ns / 1e6 if chosen else None,
        "predicted_high_ms": chosen.predicted_high_ns / 1e6 if chosen else None,
        "measured_ms": timing.after.median_ns / 1e6,
        "rounds": [describe_round(done) for done in decision.rounds],
        "heldout": asdict(outcome.profile.heldout) if outcome.profile else None,
    }


def describe_round(done: Round) -> dict[str, Any]:
    """One plan as it was predicted and then measured."""
    return {
        "budget_ms": done.budget_ns / 1e6,
        "predicted_ms": done.predicted_ns / 1e6,
        "predicted_low_ms": done.predicted_low_ns / 1e6,
        "predicted_high_ms": done.predicted_high_ns / 1e6,
        "measured_ms": done.measured_ns / 1e6,
        "low_ms": done.low_ns / 1e6,
        "high_ms": done.high_ns / 1e6,
        "share": done.share,
        "sessions": done.sessions,
    }


def _cut(cut: Cut) -> dict[str, Any]:
    """One round of score, cut and recover; its latency is that of its widths, measured beside the uncut network."""
    return {
        "goal": cut.step.goal.text.partition(" (")[0],
        "latency": describe_round(cut.decision.chosen) if cut.decision.chosen else None,
        "plans": len(cut.decision.rounds),
        "flops": cut.plan["flops"]["after"],
        "params": cut.plan["params"]["after"],
        "accuracy_cut": cut.cut["value"] if cut.cut else None,
        "accuracy": cut.recovered["value"] if cut.recovered else None,
        "epochs": len(cut.recovery["epochs"]) if cut.recovery else 0,
        "gap": cut.decision.gap,
        "proof": dict(cut.network.proof),
    }


def _groups(job: Job, outcome: Outcome) -> list[dict[str, Any]]:
    cut = outcome.last
    return [
        {
            **{key: entry[key] for key in ("id", "width", "kept", "step")},
            "exact": group.exact,
            "locked": group.locked_because,
            "importance": spread_out(cut.scores[group.id], cut.before.kept[group.id], group.channels)
            if group.id in cut.scores
            else [],
            "kept_channels": entry["channels"],
        }
        for entry, group in zip(cut.plan["groups"], job.opened.channels.groups, strict=True)
    ]


def _kernels(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Both networks profiled here and now, one after the other."""
    folder, shapes = job.work.folder, job.opened.model.bound
    return {
        side: _describe_kernels(job.connection.profile(folder / name, shapes=shapes).kernels)
        for side, name in (("before", "uncut.onnx"), ("after", "final.onnx"))
    }


def _describe_kernels(kernels: Sequence[Kernel]) -> list[dict[str, Any]]:
    return [
        {"name": k.outputs[0] if k.outputs else k.name, "op": "+".join(k.fused) or k.op, "us": k.mean_ns / 1e3}
        for k in kernels
    ]


def _precisions(job: Job, outcome: Outcome, accuracy: Accuracy) -> dict[str, Any] | None:
    """The delivered network in every precision that was built, fp32 first, and the one that is recommended."""
    if not outcome.variants:
        return None
    timing, after = outcome.timing, outcome.last.recovered
    plain = Variant("fp32", None, outcome.built, after)
    rows = describe_variants((plain, *outcome.variants), timing.before, (timing.after, *timing.others), outcome.before)
    name, why = recommend(rows, accuracy["drop"] if accuracy else None, job.recipe.max_drop)
    return {"uncut": list(outcome.uncut_rows), "cut": rows, "recommended": name, "because": why}


def _engine(built: Built, precision: str, after_name: str = "") -> dict[str, Any]:
    return {
        "path": engine_name(built, after_name),
        "sha256": built.engine.sha256,
        "runtime": built.engine.runtime,
        "precision": precision,
        "bytes": built.engine.path.stat().st_size,
        "difference": built.difference,
    }


def _doubts(job: Job, outcome: Outcome) -> list[str]:
    sides = (("uncut", outcome.timing.before), ("cut", outcome.timing.after))
    timed = [f"{which}: {doubt}" for which, side in sides for doubt in side.doubts]
    if outcome.timing.attempts > 1:
        timed.append(
            f"timed in {outcome.timing.attempts} batches of sessions, all of which count: after fewer, the interval "
            "was too wide to tell"
        )
    proof = list(dict.fromkeys(cut.network.proof["doubt"] for cut in outcome.cuts if cut.network.proof["doubt"]))
    closed = [
        f"round {cut.step.number + 1} could not cut {', '.join(cut.closed)} any further: after the round before, "
        "channels go together otherwise there"
        for cut in outcome.cuts
        if cut.closed
    ]
    quick = ["timed in quick mode"] if job.recipe.quick else []
    profiled = outcome.profile.doubts if outcome.profile else ()
    return [*profiled, *proof, *closed, *timed, *outcome.base.doubts, *outcome.built.doubts, *quick]
