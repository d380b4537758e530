"""One profile, many budgets: what each keeps and what it is predicted to take; on request built and measured."""

import datetime as dt
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from calibration.batches import Samples
from calibration.preprocessing import Preprocessing
from pipeline.goal import parse_goal
from pipeline.graph.labels import Blocks
from pipeline.graph.model import save
from pipeline.graph.rewrite import rewritten
from pipeline.importance import default_criterion, default_normalisation
from pipeline.latency.profiling import PlanSpace, cut_to, profile_network
from pipeline.lowering import connect
from pipeline.profile import describe_stairs
from pipeline.report import write_report
from pipeline.stages.building import needs_rewrites
from pipeline.stages.cutting import cut_and_prove
from pipeline.stages.evaluation import accuracy_of, metric_for
from pipeline.stages.opening import Opened, groups_to_cut, open_model, open_samples
from pipeline.stages.reporting import describe_model
from pipeline.stages.scoring import Scores, best_channels, score_channels
from pipeline.stages.sweeping import SHARES, Point, named, sweep_budgets
from pipeline.stages.trial import NetworkTrial
from targets.connection import Connection, Tell, silent
from targets.measure import measure as measure_sessions
from targets.measurement import ratio
from targets.profiles.store import ProfileStore
from targets.target import find_target

Progress = Callable[[int, int, str], None]
Key = tuple[tuple[str, int], ...]


def sweep(
    model: str,
    *,
    budgets: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    target: str = "local",
    data: str | None = None,
    validation: str | None = None,
    preprocessing: Preprocessing | None = None,
    metric: str = "top1",
    criterion: str | None = None,
    normalisation: str | None = None,
    allocators: Sequence[str] = ("exact",),
    floor: float = 0.1,
    floors: Sequence[tuple[str, float]] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    vanish: bool = True,
    inexact: bool = False,
    blocks: Blocks = "auto",
    measure: bool = False,
    sessions: int = 10,
    quick: bool = False,
    seed: int = 0,
    db: str | None = None,
    output: Path | None = None,
    on_progress: Progress | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """The report's document, with `sweep`: {"uncut_ms", "asked", "points": one for each allocator and budget}.

    `budgets` are latencies (`8ms`) or shares of the uncut network's (`0.5x`); none: SHARES. A point has the share of
    importance `kept`, `predicted_ms` with its interval, `gap`, `flops` and `params`; with `measure`, what all distinct
    plans took in one interleaved run with the uncut network; with `validation`, accuracy before any recovery. Where no
    plan is within a budget, `least_ms` is the least that is predicted possible. Writes the report into `output`.
    """
    asked = tuple(budgets) or tuple(f"{share:g}x" for share in SHARES)
    bounds = [parse_goal(f"latency<={text}").bounds[0] for text in asked]
    opened = open_model(model, shapes or {}, blocks=blocks)
    groups = groups_to_cut(opened.channels, include=include, exclude=exclude, inexact=inexact)
    samples = open_samples(opened.model, data, preprocessing) if data else None
    judged = open_samples(opened.model, validation, preprocessing) if validation else None
    named_criterion = criterion or default_criterion(bool(data))
    full = {group.id: group.channels for group in opened.channels.groups}
    with connect(find_target(target), tell=tell) as connection:
        rewrite = needs_rewrites(opened.model, connection)
        profile = profile_network(
            opened.model, opened.channels, groups, connection, ProfileStore(db), rewrite=rewrite, seed=seed,
            on_progress=on_progress,
        )  # fmt: skip
        scores = score_channels(
            opened.model, opened.channels, groups, criterion=named_criterion,
            normalisation=normalisation or default_normalisation(named_criterion), samples=samples, seed=seed,
            on_progress=on_progress,
        )  # fmt: skip
        space = PlanSpace(tuple(groups), profile.candidates.channels, rewrite=rewrite)
        uncut_ns = profile.latency.predict_ns(full)
        trials = partial(NetworkTrial, opened.model, opened.channels, scores, samples, seed=seed) if samples else None
        points = sweep_budgets(
            opened, groups, scores, profile.latency, space, [bound.against(uncut_ns) for bound in bounds],
            {name: named(name, trials) for name in allocators}, floor=floor, floors=floors, vanish=vanish,
            on_progress=on_progress,
        )  # fmt: skip
        plans = {_key(point): point.channels for point in points if point.channels is not None}
        timed = _measured(opened, plans, space, connection, sessions, quick, seed, on_progress) if measure else {}
        judgements = _judged(opened, plans, scores, judged, metric, seed, on_progress) if judged else {}
        device = connection.device.as_dict()
        found_target = asdict(connection.target)
    report = {
        "cutback": version("cutback"),
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": "cutback " + shlex.join(sys.argv[1:]),
        "model": describe_model(opened),
        "target": found_target,
        "device": device,
        "latency": {"heldout": asdict(profile.heldout)},
        "sweep": {
            "asked": list(asked),
            "uncut_ms": uncut_ns / 1e6,
            "uncut_measured_ms": timed[()]["measured_ms"] if timed else None,
            "uncut_accuracy": judgements.get(()),
            "metric": metric_for(judged, metric) if judged else None,
            "points": [_describe(point, timed, judgements) for point in points],
        },
        "stairs": describe_stairs(profile, {}),
        "criterion": {
            "name": named_criterion,
            "normalisation": normalisation or default_normalisation(named_criterion),
        },
        "doubts": [*profile.doubts, *(timed[()]["doubts"] if timed else ())],
    }
    if output is not None:
        write_report(report, output)
    return report


def _describe(point: Point, timed: Mapping[Key, Mapping[str, Any]], judged: Mapping[Key, float]) -> dict[str, Any]:
    key = _key(point)
    measured = {name: value for name, value in timed.get(key, {}).items() if name != "doubts"}
    own = {"accuracy": judged[key]} if key in judged else {}
    channels = dict(point.channels) if point.channels is not None else None
    return {**point.as_json(), **(measured if channels else {}), **(own if channels else {}), "channels": channels}


def _key(point: Point) -> Key:
    return tuple(sorted((point.channels or {}).items()))


def _measured(
    opened: Opened,
    plans: Mapping[Key, Mapping[str, int]],
    space: PlanSpace,
    connection: Connection,
    sessions: int,
    quick: bool,
    seed: int,
    on_progress: Progress | None,
) -> dict[Key, dict[str, Any]]:
    """All plans and the uncut network, key (), built and timed in one interleaved run."""
    with tempfile.TemporaryDirectory(prefix="cutback-sweep-") as folder:
        models = [
            rewritten(opened.model) if space.rewrite else opened.model,
            *(
                cut_to(opened.model, opened.channels, plan, space.constants, rewrite=space.rewrite)
                for plan in plans.values()
            ),
        ]
        engines = []
        for number, each in enumerate(models):
            if on_progress:
                on_progress(number, len(models), "building")
            path = Path(folder, f"{number}.onnx")
            save(each, path)
            engines.append(connection.build(path, Path(folder, f"{number}-engine"), shapes=opened.model.bound))
        taken = measure_sessions(
            engines, connection, shapes=opened.model.bound, sessions=sessions, quick=quick, seed=seed,
            on_progress=on_progress,
        )  # fmt: skip
    found = {}
    for key, timed in zip(((), *plans), taken, strict=True):
        low, high = timed.interval_ns()
        compared = ratio(taken[0], timed)
        found[key] = {
            "measured_ms": timed.median_ns / 1e6,
            "measured_low_ms": low / 1e6,
            "measured_high_ms": high / 1e6,
            "speed_up": {"value": compared.value, "low": compared.low, "high": compared.high},
            "doubts": timed.doubts,
        }
    return found


def _judged(
    opened: Opened,
    plans: Mapping[Key, Mapping[str, int]],
    scores: Scores,
    samples: Samples,
    metric: str,
    seed: int,
    on_progress: Progress | None,
) -> dict[Key, float]:
    """Accuracy of the uncut network, key (), and of every plan with its best channels: cut, proven, not trained."""
    name = metric_for(samples, metric)
    found: dict[Key, float] = {(): accuracy_of(opened.model, samples, name, opened.model, on_progress).value}
    for number, (key, plan) in enumerate(plans.items()):
        if on_progress:
            on_progress(number, len(plans), "accuracy before recovery")
        kept = best_channels(scores, {group: plan[group] for group in scores})
        network = cut_and_prove(opened, kept, constants="kept", seed=seed)
        found[key] = accuracy_of(network.model, samples, name, opened.model).value
    return found
