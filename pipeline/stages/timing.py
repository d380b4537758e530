"""The measurements that a compression stands on: is a rewrite worth it, and is the goal met in the end?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.goal import Bound
from pipeline.graph.model import save
from pipeline.graph.rewrite import rewritten
from pipeline.job import Job
from pipeline.stages.building import Built
from pipeline.stages.trying import pooled
from targets.measure import measure
from targets.measurement import Measurement, Ratio, ratio

# The upper end of the final interval may be this much over the goal: an interval is wider than what it is about.
ALLOWED_OVER_GOAL = 1.02
MOST_ATTEMPTS = 4
WORTH_A_REWRITE = 1.01
REWRITE_SESSIONS = 6


@dataclass(frozen=True)
class Timing:
    """Uncut and cut engine, timed in the same run, and `others` of the cut network. `attempts`: how many times sessions
    were added until it was sure whether the goal is met; all of them count."""

    before: Measurement
    after: Measurement
    ratio: Ratio
    attempts: int
    others: tuple[Measurement, ...] = ()


def compare(job: Job, base: Built, built: Built, others: Sequence[Built] = ()) -> Timing:
    """The final comparison. Where the interval holds the goal, nobody can tell whether it is met: sessions are added
    until it does not, and the report says so. All sessions count: each batch holds all engines."""
    bound = job.goal.bound("latency")
    taken: list[Measurement] = []
    for attempt in range(MOST_ATTEMPTS):
        more = measure(
            [each.engine for each in (base, built, *others)],
            job.connection,
            shapes=job.opened.model.bound,
            sessions=job.recipe.sessions,
            quick=job.recipe.quick,
            seed=job.recipe.seed + attempt,
            on_progress=job.on_progress,
        )
        taken = [pooled(one, other) for one, other in zip(taken, more, strict=True)] if taken else more
        before, after, *rest = taken
        timing = Timing(before, after, ratio(before, after), attempt + 1, tuple(rest))
        if bound is None or over(bound, timing) <= ALLOWED_OVER_GOAL or under(bound, timing) > 1:
            break
    return timing


def over(bound: Bound, timing: Timing) -> float:
    """The upper end of the interval as a share of the goal."""
    return (1 / timing.ratio.low if bound.relative else timing.after.interval_ns()[1]) / bound.limit


def under(bound: Bound, timing: Timing) -> float:
    """The lower end of the interval as a share of the goal."""
    return (1 / timing.ratio.high if bound.relative else timing.after.interval_ns()[0]) / bound.limit


def time_rewrites(job: Job, folder: Path) -> Mapping[str, Any]:
    """The uncut network with every exact rewrite, beside itself: `used` where that is faster, `speed_up` how much."""
    paths = [folder / "as-given.onnx", folder / "rewritten.onnx"]
    for model, path in zip((job.opened.model, rewritten(job.opened.model)), paths, strict=True):
        save(model, path)
    plain, other = measure(
        paths,
        job.connection,
        shapes=job.opened.model.bound,
        sessions=REWRITE_SESSIONS,
        quick=True,
        seed=job.recipe.seed,
        on_progress=job.on_progress,
    )
    compared = ratio(plain, other)
    return {"used": compared.value > WORTH_A_REWRITE, "speed_up": asdict(compared)}
