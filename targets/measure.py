"""Measure models against each other: fresh sessions, interleaved in random order."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from targets.connection import Connection, Engine
from targets.errors import BadInput
from targets.measurement import Measurement, Session

Shapes = Mapping[str, Sequence[int]]

MAX_REPEATS = 3  # of one session that was disturbed; past this the disturbance is how the device is


def measure(
    models: Sequence[Engine | Path],
    connection: Connection,
    *,
    shapes: Shapes | Sequence[Shapes] | None = None,
    sessions: int = 10,
    quick: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> list[Measurement]:
    """One measurement a model, in their order. Each round times every model once, in random order, so that a drift of
    the device meets all of them. A voided session is repeated; what stays disturbed is kept and says so. `shapes` binds
    free dimensions of inputs (unset batch: 1), for all models alike or one mapping a model.

    `on_progress(done, total, note)` counts sessions.
    """
    if sessions < 1:
        raise BadInput(f"{sessions} sessions measure nothing. Ask for at least 1.")
    bound = list(shapes) if isinstance(shapes, Sequence) else [shapes] * len(models)
    if len(bound) != len(models):
        raise BadInput(f"There are shapes for {len(bound)} of {len(models)} models. Give one mapping a model.")
    order = random.Random(seed)
    taken: list[list[Session]] = [[] for _ in models]
    total = sessions * len(models)
    spare = max(MAX_REPEATS, total)  # a device that is always busy is measured busy, in at most twice the time
    for round_ in range(sessions):
        for done, index in enumerate(order.sample(range(len(models)), len(models)), round_ * len(models)):
            if on_progress is not None:
                on_progress(done, total, f"timing {name(models[index])}")
            tried = settle(models[index], connection, bound[index], quick, min(MAX_REPEATS, spare))
            spare -= len(tried) - 1
            taken[index].append(min(tried, key=lambda session: (bool(session.voided), session.median_ns)))
    if on_progress is not None:
        on_progress(total, total, "timed")
    return [Measurement(tuple(every), connection.device, doubts_of(every)) for every in taken]


def settle(
    model: Engine | Path,
    connection: Connection,
    shapes: Shapes | None,
    quick: bool,
    repeats: int,
) -> list[Session]:
    """Sessions up to and including the first undisturbed one; at most 1 + `repeats`."""
    tried = [connection.time(model, shapes=shapes, quick=quick)]
    while tried[-1].voided and len(tried) <= repeats:
        tried.append(connection.time(model, shapes=shapes, quick=quick))
    return tried


def doubts_of(sessions: Sequence[Session]) -> tuple[str, ...]:
    """Each distinct kind of doubt once, with the number of sessions that had it and one of them as the example."""
    doubts = []
    voided = [session for session in sessions if session.voided]
    if voided:
        doubts.append(
            f"{len(voided)} of {len(sessions)} sessions stayed disturbed after repeats. For one: {voided[0].voided[0]}"
        )
    doubted = [session for session in sessions if session.doubts]
    if doubted:
        doubts.append(f"{len(doubted)} of {len(sessions)} sessions are doubtful. For one: {doubted[0].doubts[0]}")
    if any(session.protocol == "quick" for session in sessions):
        doubts.append("Measured by the quick protocol: short sessions, looser medians.")
    return tuple(doubts)


def name(model: Engine | Path) -> str:
    return (model.path if isinstance(model, Engine) else model).name
