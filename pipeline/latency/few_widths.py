"""Staircases from end-to-end times: where the runtime tells no kernel times, each width is a build of its own.

So there are few of them: only the kinds of kernels with most multiply-adds are swept, at the few widths that tell
grains apart. A build holds one kernel (`between`), several times over, so that what surrounds it counts for little.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.latency.alone import Sweep
from pipeline.latency.between import EDGE, profile_between
from pipeline.latency.grain import Curve, find_curve
from pipeline.latency.keys import STAIRCASE_END_TO_END, in_gauges_of, key_of, observed_in
from pipeline.latency.kinds import Kind
from targets.connection import Connection
from targets.kernels import in_gauges
from targets.profiles.key import KernelKey
from targets.profiles.store import Profiles, Row

Progress = Callable[[int, int, str], None]

MOST_BUILDS = 27  # three sweeps: both sides of the heaviest kind, and one more
TOP = 64  # steps: wide enough for the blocks that processors have, narrow enough for one of them to show
ENOUGH_MACS = 20e6  # multiply-adds in a build, from which on calling a network is a small part of its time
MOST_COPIES = 8


def find_few_curves(
    sweeps: Mapping[Kind, Sweep],
    weights: Mapping[Kind, float],
    connection: Connection,
    store: Profiles | None,
    session_id: str,
    on_progress: Progress | None = None,
) -> dict[Kind, Curve]:
    """A curve for every kind. Those of most weight are measured; the others take that of the heaviest kind of their
    side that was, or of any side."""
    heaviest = sorted(sweeps, key=lambda kind: (-weights[kind], kind.side, str(kind)))
    widths: dict[Kind, list[int]] = {}
    for kind in heaviest:
        wanted = telling_widths(sweeps[kind].full, sweeps[kind].step)
        if sum(map(len, widths.values())) + len(wanted) > MOST_BUILDS:
            break
        widths[kind] = wanted
    total = sum(map(len, widths.values()))
    curves: dict[Kind, Curve] = {}
    done = 0
    for kind, wanted in widths.items():
        times: dict[int, float] = {}
        for width in wanted:
            if on_progress:
                on_progress(done, total, "looking for the steps of the stairs")
            times[width] = _time(sweeps[kind], width, connection, store, session_id)
            done += 1
        curves[kind] = find_curve(times)
    return {kind: curves[alike] for kind in heaviest for alike in [_alike(kind, list(curves))] if alike is not None}


def telling_widths(full: int, step: int) -> list[int]:
    """Widths, ascending, at which every two grains differ: below a power of two by each power of two, at it, half of it
    and the next; and `full`. Multiples of `step`."""
    most = full // step
    top = min(TOP, 2 ** int(math.log2(most)))
    below = {top - 2**power for power in range(int(math.log2(top)))}
    return sorted({step * width for width in (*below, top, top // 2 + 1)} | {step * most})


def copies_of(sweep: Sweep) -> int:
    """How often the kernel stands in a build, the same at every width."""
    width = min(sweep.full, TOP * sweep.step)
    spatial = math.prod(sweep.input_shape[2:])
    macs = sweep.input_shape[0] * spatial * math.prod(sweep.weights(width))
    return max(1, min(MOST_COPIES, math.ceil(ENOUGH_MACS / max(macs, 1))))


def _time(sweep: Sweep, width: int, connection: Connection, store: Profiles | None, session_id: str) -> float:
    """In gauges: from the database where it is known, else timed now and recorded."""
    copies = copies_of(sweep)
    key = key_of(connection, {**sweep.op, "width": width, "copies": copies, "edge": EDGE}, STAIRCASE_END_TO_END)
    if known := _known(key, store):
        return known
    profile = profile_between(sweep, width, copies, connection)
    samples = profile.end_to_end.samples_ns
    if store:
        store.add([Row(key, samples, f"{session_id}-{key.digest[:12]}", 0, observed_in(profile))])
    return in_gauges(samples, profile.gauge_ns)


def _known(key: KernelKey, store: Profiles | None) -> float | None:
    rows = store.find([key.digest]).get(key.digest) if store else None
    return float(np.median([in_gauges_of(row) for row in rows])) if rows else None


def _alike(kind: Kind, measured: Sequence[Kind]) -> Kind | None:
    """The kind whose curve stands for `kind`; `measured`: the heaviest first."""
    if kind in measured:
        return kind
    return next((other for other in measured if other.side == kind.side), measured[0] if measured else None)
