"""Staircases: how a kernel's time climbs with one of its widths.

Time over width is a staircase whose steps differ by runtime, precision and device. Many widths of many kernels are
timed in one build, as parallel branches of a small graph. Widths are chosen as they are needed: some far apart, a
dense stretch that shows the grain, then a few where that grain says steps should be, and dense stretches where they
are not.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pipeline.latency.alone import Sweep, profile_branches
from pipeline.latency.grain import Curve, find_curve
from pipeline.latency.keys import STAIRCASE, in_gauges_of, key_of, observed_in
from targets.connection import Connection
from targets.kernels import in_gauges
from targets.profiles.key import digest_of
from targets.profiles.store import Profiles, Row

Progress = Callable[[int, int, str], None]
Name = TypeVar("Name", bound=Hashable)  # of a sweep

FEW_WIDTHS = 40  # so many or fewer are all measured
DENSE = 36  # widths in a row: two blocks of sixteen with both their ends
DENSE_FROM = 30  # where a block is a good part of the whole: wide kernels hide their stairs in noise
LANDMARKS = (96, 128, 192, 256, 384, 512, 768, 1024, 2048)  # with their upper neighbours: where wider blocks would end
CHECKS = 3  # edges that the grain foretells, each with its upper neighbour
SURPRISE = 0.08  # relative error at a check from which on the stretch around it is looked at closely
MOST_ROUNDS = 3
SAME_STAIR = 1.05  # two measured times that differ by less than this factor are the same
MOST_BYTES = 256_000_000  # of weights in one build


@dataclass(frozen=True)
class Staircase:
    """Times at widths, ascending, and the widths worth having."""

    op: Mapping[str, Any]
    widths: tuple[int, ...]
    times_ns: tuple[float, ...]
    edges: tuple[int, ...] = ()


def right_edges(widths: Sequence[int], times: Sequence[float], same: float = SAME_STAIR) -> tuple[int, ...]:
    """The widths that no larger edge matches in time; times that differ by less than the factor `same` are the same.
    Compared with edges alone: from one width to the next a wide kernel's time climbs too little to count."""
    edges, cheapest_edge = [], float("inf")
    for width, time in sorted(zip(widths, times, strict=True), reverse=True):
        if cheapest_edge > time * same:
            edges.append(width)
            cheapest_edge = time
    return tuple(reversed(edges))


def find_curves(
    sweeps: Mapping[Name, Sweep],
    connection: Connection,
    store: Profiles | None,
    session_id: str,
    on_progress: Progress | None = None,
) -> dict[Name, Curve]:
    """The curve of every sweep (same names), from as few widths as show its grain."""
    wanted = {name: first_widths(sweep.full, sweep.step) for name, sweep in sweeps.items()}
    times: dict[Name, dict[int, float]] = {name: {} for name in sweeps}
    curves: dict[Name, Curve] = {}
    for round_ in range(MOST_ROUNDS):
        if on_progress:
            on_progress(round_, MOST_ROUNDS, "looking for the steps of the stairs")
        asked = {name: (sweeps[name], sorted(set(widths) - set(times[name]))) for name, widths in wanted.items()}
        for name, found in measure_sweeps(asked, connection, store, session_id).items():
            times[name].update(found)
        surprised = {
            name: [w for w in wanted[name] if round_ and _surprise(curves[name], w, times[name])] for name in wanted
        }
        curves.update((name, find_curve(times[name])) for name in wanted if times[name])
        if round_ == 0:
            wanted = {name: checks(curves[name], sweeps[name], times[name]) for name in curves}
        else:
            wanted = {name: around(widths, sweeps[name]) for name, widths in surprised.items() if widths}
        wanted = {name: widths for name, widths in wanted.items() if set(widths) - set(times[name])}
        if not wanted:
            break
    return curves


def measure_sweeps(
    asked: Mapping[Name, tuple[Sweep, Sequence[int]]],
    connection: Connection,
    store: Profiles | None,
    session_id: str,
) -> dict[Name, dict[int, float]]:
    """Times by name and width, in gauges: from the database where they are known, else timed now and recorded."""
    keys = {
        (name, width): key_of(connection, {**sweep.op, "width": width}, STAIRCASE)
        for name, (sweep, widths) in asked.items()
        for width in widths
    }
    known = store.find([key.digest for key in keys.values()]) if store else {}
    found: dict[Name, dict[int, float]] = {name: {} for name in asked}
    missing = []
    for (name, width), key in keys.items():
        if rows := known.get(key.digest):
            found[name][width] = float(np.median([in_gauges_of(row) for row in rows]))
        else:
            missing.append((name, width))
    for chunk in _chunks(asked, missing):
        # A session has one gauge: what is timed together is a session of its own.
        session = f"{session_id}-{digest_of({'branches': [keys[branch].digest for branch in chunk]})[:12]}"
        profile = profile_branches([(asked[name][0], width) for name, width in chunk], connection)
        by_output = {name: kernel for kernel in profile.kernels for name in kernel.outputs if kernel.nodes}
        rows, calm, observed = [], profile.calm, observed_in(profile)
        for index, (name, width) in enumerate(chunk):
            if kernel := by_output.get(f"y{index}"):
                found[name][width] = in_gauges(kernel.samples_ns, profile.gauge_ns, calm)
                rows.append(Row(keys[name, width], tuple(kernel.samples_ns), session, 0, observed))
        if store and rows:
            store.add(rows)
    return found


def first_widths(full: int, step: int) -> list[int]:
    """Where a staircase is looked at first: everywhere when it is short."""
    if full // step <= FEW_WIDTHS:
        return list(range(step, full + 1, step))
    dense = {step * (DENSE_FROM + k) for k in range(DENSE)}
    landmarks = {step * mark for mark in LANDMARKS}
    return sorted(w for w in dense | landmarks | {w + step for w in landmarks} | {full} if w <= full)


def checks(curve: Curve, sweep: Sweep, known: Mapping[int, float]) -> list[int]:
    """Edges that the curve's grain foretells where nothing was measured, each with its upper neighbour."""
    block = math.lcm(curve.grain.block, sweep.step)
    edges = [edge for edge in range(block, sweep.full, block) if edge not in known]
    if curve.grain.block == 1 or not edges:
        return []
    picked = {edges[round((len(edges) - 1) * k / (CHECKS + 1))] for k in range(1, CHECKS + 1)}
    return sorted(w for edge in picked for w in (edge, edge + sweep.step) if w <= sweep.full)


def around(widths: Sequence[int], sweep: Sweep) -> list[int]:
    """A dense stretch around the first of `widths`."""
    low = max(sweep.step, widths[0] - DENSE // 2 * sweep.step)
    return [w for w in range(low, low + DENSE * sweep.step, sweep.step) if w <= sweep.full]


def _surprise(curve: Curve, width: int, times: Mapping[int, float]) -> bool:
    return width in times and abs(curve.at(width) / times[width] - 1) > SURPRISE


def _chunks(
    asked: Mapping[Name, tuple[Sweep, Sequence[int]]], missing: Sequence[tuple[Name, int]]
) -> list[list[tuple[Name, int]]]:
    """As many branches together as their weights allow."""
    chunks: list[list[tuple[Name, int]]] = []
    room = 0
    for name, width in missing:
        size = 4 * math.prod(asked[name][0].weights(width))
        if not chunks or size > room:
            chunks.append([])
            room = MOST_BYTES
        chunks[-1].append((name, width))
        room -= size
    return chunks
