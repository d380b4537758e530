"""The same network in other precisions, built and checked: is one of them faster and still good enough?

Asked twice: of the network as it was given, where int8 alone may already meet the goal, and of the one that was cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.batches import take
from pipeline.graph.model import Model, load, save
from pipeline.graph.rewrite import rewritten
from pipeline.job import Job, file_identity
from pipeline.measure import in_ms
from pipeline.recipe import Recipe
from pipeline.round import Accuracy, accuracy_stage
from pipeline.stages.building import Built, build_and_check
from pipeline.stages.quantizing import in_sixteen_bits, quantise, scheme_for
from pipeline.stages.timing import ALLOWED_OVER_GOAL
from targets.errors import BadInput, TargetError
from targets.measure import measure
from targets.measurement import Measurement, ratio
from targets.runtimes import Facts

PLAIN = "fp32"
SESSIONS = 6  # at most, of the first look, which decides nothing
FLOOR = 0.5  # points of accuracy that a precision may cost, where no --max-drop says otherwise


@dataclass(frozen=True, eq=False)
class Variant:
    """A network in one precision. `refused` says why there is no engine of it, `unseen` why its accuracy is unknown."""

    precision: str
    model: Model | None
    built: Built | None
    accuracy: Accuracy
    refused: str | None = None
    unseen: str | None = None


def wanted(recipe: Recipe, facts: Facts, usual: str = "") -> tuple[str, ...]:
    """The precisions besides fp32: those asked for, else the target's `usual` one, else those that the runtime has
    kernels for; int8 where there is data."""
    asked = (usual,) if recipe.precisions is None and usual else recipe.precisions
    if asked is not None:
        return tuple(each for each in dict.fromkeys(asked) if each != PLAIN)
    return tuple(each for each in facts.precisions if each != PLAIN and (each != "int8" or recipe.data is not None))


def variants_of(job: Job, model: Model, name: str, made_of: Mapping[str, Any]) -> tuple[Variant, ...]:
    """`model` in every wanted precision. `made_of`: what identifies it."""
    asked = wanted(job.recipe, job.connection.facts, job.connection.target.precision)
    return tuple(_variant(job, model, precision, name, made_of) for precision in asked)


def _variant(job: Job, model: Model, precision: str, name: str, made_of: Mapping[str, Any]) -> Variant:
    folder = job.work.folder
    try:
        made = in_precision(job, model, precision, name, made_of)
        built = build_and_check(
            made, folder / f"{name}-{precision}.onnx", folder / f"{name}-{precision}-engine", job.connection
        )
    except (BadInput, TargetError) as refusal:
        return Variant(precision, None, None, None, str(refusal))
    try:
        accuracy = accuracy_stage(job, f"accuracy-{name}-{precision}", made, {**made_of, "precision": precision})
    except BadInput as refusal:  # this host has no kernels for it; the device has
        return Variant(precision, made, built, None, unseen=str(refusal))
    return Variant(precision, made, built, accuracy)


def in_precision(job: Job, model: Model, precision: str, name: str, made_of: Mapping[str, Any]) -> Model:
    """BadInput where there is no data to calibrate int8 with."""
    if precision != "int8":
        return in_sixteen_bits(model, precision)
    if job.data is None:
        raise BadInput("int8 needs data to calibrate with. Give --data.")
    wants = job.recipe.calibration
    samples = take(job.data, wants.samples, seed=job.recipe.seed)
    scheme = scheme_for(job.connection.target.runtime, job.connection.device)

    def compute(folder: Path) -> Mapping[str, Any]:
        found = quantise(
            model, samples, scheme, method=wants.ranges, exclude=wants.exclude, on_progress=job.on_progress
        )
        save(found.model, folder / "int8.onnx")
        return {"ranges": found.ranges, "excluded": found.excluded}

    asked = {
        **job.network,
        **made_of,
        "scheme": asdict(scheme),
        "calibration": wants.model_dump(),
        "data": file_identity(job.recipe.data),
        "preprocessing": job.preprocessing,
        "seed": job.recipe.seed,
    }
    _, folder = job.work.stage(f"quantise-{name}", asked, compute)
    return load(folder / "int8.onnx", model.bound)


def first_look(job: Job, base: Built, before: Accuracy) -> list[dict[str, Any]]:
    """The uncut network in other precisions beside itself: whether that alone `meets` the latency goal, and `keeps` the
    accuracy (None: not measured). By the quick protocol; nothing hangs on it."""
    bound = job.goal.bound("latency")
    if bound is None:
        return []
    model = rewritten(job.opened.model) if job.rewrite else job.opened.model
    variants = variants_of(job, model, "uncut", {"rewrite": job.rewrite})
    if not variants:
        return []
    built = [variant.built.engine for variant in variants if variant.built]
    taken = measure(
        [base.engine, *built], job.connection, shapes=job.opened.model.bound,
        sessions=min(SESSIONS, job.recipe.sessions), quick=True, seed=job.recipe.seed, on_progress=job.on_progress,
    )  # fmt: skip
    rows = describe_variants(variants, taken[0], taken[1:], before)
    for row in rows:
        if row["refused"] is None:
            end = 1 / row["ratio"]["low"] if bound.relative else row["latency"]["high_ms"] * 1e6
            row["meets"] = end <= ALLOWED_OVER_GOAL * bound.limit
            row["keeps"] = None if row["drop"] is None else within(row, 0.0, job.recipe.max_drop)
    return rows


def describe_variants(
    variants: Sequence[Variant], uncut: Measurement, taken: Sequence[Measurement], before: Accuracy
) -> list[dict[str, Any]]:
    """A row a variant: latency, ratio to the uncut fp32 network, accuracy and what it lost, size; or why it is not
    there."""
    left = iter(taken)
    rows = []
    for variant in variants:
        row: dict[str, Any] = {
            "precision": variant.precision,
            "refused": variant.refused,
            "unseen": variant.unseen,
            "meets": None,
            "keeps": None,
        }
        if variant.built is not None:
            timed = next(left)
            row |= {
                "latency": in_ms(timed),
                "ratio": asdict(ratio(uncut, timed)),
                "accuracy": variant.accuracy["value"] if variant.accuracy else None,
                "drop": before["value"] - variant.accuracy["value"] if before and variant.accuracy else None,
                "bytes": variant.built.engine.path.stat().st_size,
                "difference": variant.built.difference,
            }
        rows.append(row)
    return rows


def recommend(rows: Sequence[Mapping[str, Any]], plain_drop: float | None, max_drop: float | None) -> tuple[str, str]:
    """(precision, why). `rows` begin with fp32. Faster counts only where the interval of the ratios says so."""
    plain, *others = rows
    faster = [
        row
        for row in others
        if row["refused"] is None and within(row, plain_drop, max_drop) and row["ratio"]["low"] > plain["ratio"]["high"]
    ]
    if faster:
        best = max(faster, key=lambda row: float(row["ratio"]["value"]))
        lost = f"{best['drop'] - (plain_drop or 0.0):+.2f} points lost to it"
        return best["precision"], f"{best['ratio']['value'] / plain['ratio']['value']:.2f}x as fast as fp32, {lost}"
    reasons = [f"{row['precision']}: {_why_not(row, plain, plain_drop, max_drop)}" for row in others]
    return PLAIN, "; ".join(reasons) or "no other precision was built"


def within(row: Mapping[str, Any], plain_drop: float | None, max_drop: float | None) -> bool:
    """Whether what is lost stays within the floor: the whole drop where one is given, else what the precision adds.
    Where no accuracy was measured, nobody looked: no."""
    drop = row.get("drop")
    if drop is None:
        return False
    return bool(drop <= max_drop if max_drop is not None else drop - (plain_drop or 0.0) <= FLOOR)


def _why_not(row: Mapping[str, Any], plain: Mapping[str, Any], plain_drop: float | None, max_drop: float | None) -> str:
    if row["refused"] is not None:
        return str(row["refused"])
    if row.get("drop") is None:
        return row.get("unseen") or "its accuracy was not measured; give --validate"
    if not within(row, plain_drop, max_drop):
        return f"it loses {row['drop'] - (plain_drop or 0.0):.2f} points"
    return f"not faster than fp32 for certain ({row['ratio']['value'] / plain['ratio']['value']:.2f}x)"


def said_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for every precision of the uncut network."""
    found = []
    for row in rows:
        name = f"{row['precision']} alone, uncut"
        if row["refused"] is not None:
            found.append(f"{name}: {row['refused']}")
            continue
        lost = "accuracy not measured" if row["drop"] is None else f"{row['drop']:+.2f} points lost"
        verdict = "meets the latency goal" if row["meets"] else "does not meet the latency goal"
        verdict += ", and loses more than is allowed" if row["keeps"] is False else ""
        found.append(f"{name}: {row['ratio']['value']:.2f}x as fast, {lost}: {verdict}")
    return found
