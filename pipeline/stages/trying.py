"""One plan, built and measured beside the uncut network, in as many sessions as it takes to be sure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.goal import Bound
from pipeline.graph.model import save
from pipeline.latency.predict import LatencyModel
from pipeline.latency.profiling import PlanSpace, cut_to
from pipeline.stages.opening import Opened
from pipeline.stages.steering import Round
from targets.connection import Connection, Engine
from targets.measure import Shapes, doubts_of, measure
from targets.measurement import Measurement, ratio

SESSIONS = 6  # a side and batch
MOST_BATCHES = 4  # past this, noise is how the device is
MOST_BATCHES_QUICK = 2
WIDE = 1.03  # an interval whose upper end is further above its centre than this says too little to conclude from
FAR = 1.15  # of the goal; the next round is another plan anyway, and the correction at this one is a rough one


@dataclass(frozen=True, eq=False)
class Bench:
    """What plans are measured with: the uncut engine beside them, the device, a folder to build in."""

    opened: Opened
    space: PlanSpace
    base: Engine
    connection: Connection
    folder: Path
    quick: bool
    seed: int


def try_plan(
    bench: Bench,
    plan: Mapping[str, int],
    bound: Bound,
    budget_ns: float,
    latency: LatencyModel,
    value: float,
    turn: int,
) -> Round:
    """Cut to `plan`, build, measure. `latency` says what is expected; `turn` parts the random order of one round from
    another's."""
    opened, space = bench.opened, bench.space
    path = bench.folder / "round.onnx"
    save(cut_to(opened.model, opened.channels, plan, space.constants, rewrite=space.rewrite), path)
    engine = bench.connection.build(path, bench.folder / "round-engine", shapes=opened.model.bound)
    most = MOST_BATCHES_QUICK if bench.quick else MOST_BATCHES
    before, after = measure_until_narrow(
        bench.base, engine, bench.connection, bound, opened.model.bound, most=most, quick=bench.quick,
        seed=bench.seed + turn * MOST_BATCHES,
    )  # fmt: skip
    compared = ratio(before, after)
    low, high = after.interval_ns()
    predicted_low, predicted_high = latency.interval_ns(plan)
    return Round(
        budget_ns, latency.predict_ns(plan), after.median_ns, low, high, 1 / compared.value, 1 / compared.low,
        dict(plan), predicted_low, predicted_high, len(after.sessions), value,
    )  # fmt: skip


def measure_until_narrow(
    base: Engine,
    engine: Engine,
    connection: Connection,
    bound: Bound,
    shapes: Shapes,
    *,
    most: int,
    quick: bool,
    seed: int,
) -> tuple[Measurement, Measurement]:
    """Uncut and cut engine, interleaved; a batch of sessions is added for as long as the interval is wide and not far
    from the goal, `most` batches in all. All sessions count: each batch holds both engines."""
    before, after = measure([base, engine], connection, shapes=shapes, sessions=SESSIONS, quick=quick, seed=seed)
    for batch in range(1, most):
        if tells(before, after, bound):
            break
        more = measure([base, engine], connection, shapes=shapes, sessions=SESSIONS, quick=quick, seed=seed + batch)
        before, after = pooled(before, more[0]), pooled(after, more[1])
    return before, after


def tells(before: Measurement, after: Measurement, bound: Bound) -> bool:
    """Whether the interval is narrow, or all of it so far from the goal that its width changes nothing."""
    low, centre, high = (end / bound.limit for end in interval_of(before, after, bound))
    return high <= WIDE * centre or low > FAR or high < 1 / FAR


def interval_of(before: Measurement, after: Measurement, bound: Bound) -> tuple[float, float, float]:
    """Lower end, centre and upper end of what the bound speaks of: a share of the uncut network's time, or ns."""
    if bound.relative:
        compared = ratio(before, after)
        return 1 / compared.high, 1 / compared.value, 1 / compared.low if compared.low > 0 else float("inf")
    low, high = after.interval_ns()
    return low, after.median_ns, high


def pooled(one: Measurement, other: Measurement) -> Measurement:
    """The sessions of both, and what is doubtful of all of them."""
    sessions = one.sessions + other.sessions
    return Measurement(sessions, one.device, doubts_of(sessions, one.device))
