"""Measure models against each other: fresh sessions, interleaved in random order, disturbed ones taken again.

Which sessions count is decided by what the system and the speed probe say, never by the times of the models themselves:
leaving out slow sessions because they are slow would make every interval too narrow and every claim too easy.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from targets.connection import Connection, Engine
from targets.device import EMULATED, Device
from targets.errors import BadInput
from targets.measurement import Measurement, Session

Shapes = Mapping[str, Sequence[int]]

MAX_REPEATS = 3  # of one session that was disturbed; past this the disturbance is how the device is


# Over the median probe of all sessions of a measurement. Sessions that nothing disturbs lie within 5 % of each other
# (the clock), a core that is shared throughout makes it 1.9 times. In 131 sessions of a network of 0.8 ms on a busy
# host, drawn ten a side, 1.15 narrows the interval from 9.7 % to 5.7 % for 45 % more sessions; 1.10: 5.4 % for 55 %.
MAX_SLOWDOWN = 1.15


def measure(
    models: Sequence[Engine | Path],
    connection: Connection | Sequence[Connection],
    *,
    shapes: Shapes | Sequence[Shapes] | None = None,
    sessions: int = 10,
    quick: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> list[Measurement]:
    """One measurement a model, in their order; `connection`: to the device of them all, or one for each. Each round
    times every model once, in random order, so that a drift of the device meets all of them. A voided session is
    repeated, one that was throttled after the device has cooled down; and at the end also every session whose core was
    slower than usual by the speed probe; what stays disturbed is kept and says so. `shapes` binds free dimensions of
    inputs (unset batch: 1), for all models alike or one mapping a model.

    `on_progress(done, total, note)` counts sessions.
    """
    if sessions < 1:
        raise BadInput(f"{sessions} sessions measure nothing. Ask for at least 1.")
    bound = one_a_model(shapes, len(models))
    connections = list(connection) if isinstance(connection, Sequence) else [connection] * len(models)
    if len(connections) != len(models):
        raise BadInput(f"There are connections for {len(connections)} of {len(models)} models. Give one a model.")
    report = on_progress or (lambda done, total, note: None)
    order = random.Random(seed)
    taken: list[list[Session]] = [[] for _ in models]
    repeats = [0] * len(models)
    total = sessions * len(models)
    # a device that is always busy is measured busy, in at most twice the time; an emulated one is not worth any
    spare = 0 if any(each.device.emulated for each in connections) else max(MAX_REPEATS, total)
    hot: set[int] = set()  # those that were waited for in vain: the device is then as cool as it gets here

    def settle(index: int, repeats_left: int, done: int) -> Session:
        """The first undisturbed session, or the last of 1 + `repeats_left`."""
        session = connections[index].time(models[index], shapes=bound[index], quick=quick)
        for _ in range(repeats_left):
            if not session.voided:
                break
            repeats[index] += 1
            if session.throttled and index not in hot:
                cooled = connections[index].cool(lambda waiting: report(done, total, waiting))
                hot.update(() if cooled else {index})
            session = connections[index].time(models[index], shapes=bound[index], quick=quick)
        return session

    for round_ in range(sessions):
        for done, index in enumerate(order.sample(range(len(models)), len(models)), round_ * len(models)):
            report(done, total, f"timing {name(models[index])}")
            taken[index].append(settle(index, min(MAX_REPEATS, spare - sum(repeats)), done))
    limits_ns = limits_of(taken, [each.device for each in connections])
    slow = slow_ones(taken, limits_ns)
    while slow and sum(repeats) < spare:
        order.shuffle(slow)
        for index, position in slow:
            if sum(repeats) >= spare:
                break
            report(total - len(slow), total, f"timing {name(models[index])} again: the core was slow")
            repeats[index] += 1
            taken[index][position] = settle(index, min(MAX_REPEATS, spare - sum(repeats)), total - len(slow))
        slow = slow_ones(taken, limits_ns)
    for index, position in slow_ones(taken, limits_ns):
        taken[index][position] = with_reason(taken[index][position], limits_ns[index])
    report(total, total, "timed")
    return [
        Measurement(tuple(every), each.device, doubts_of(every, each.device), repeated)
        for every, each, repeated in zip(taken, connections, repeats, strict=True)
    ]


def one_a_model(shapes: Shapes | Sequence[Shapes] | None, count: int) -> list[Shapes | None]:
    bound: list[Shapes | None] = list(shapes) if isinstance(shapes, Sequence) else [shapes] * count
    if len(bound) != count:
        raise BadInput(f"There are shapes for {len(bound)} of {count} models. Give one mapping a model.")
    return bound


def slow_from_ns(taken: Sequence[Sequence[Session]]) -> float:
    """The probe time from which a session counts as slow: one limit for all models, from the first sessions of all of
    them, so that a session's fate hangs on its probe alone. Infinite where no session has a probe."""
    probes = [session.probe_ns for every in taken for session in every if session.probe_ns is not None]
    return MAX_SLOWDOWN * statistics.median(probes) if probes else math.inf


def limits_of(taken: Sequence[Sequence[Session]], devices: Sequence[Device]) -> list[float]:
    """For each model, `slow_from_ns` over all models of its device: other devices' cores are slower or faster."""
    places = [(device.device_class, device.observed.get("host"), device.observed.get("serial")) for device in devices]
    return [
        slow_from_ns([every for every, other in zip(taken, places, strict=True) if other == place]) for place in places
    ]


def slow_ones(taken: Sequence[Sequence[Session]], limits_ns: Sequence[float]) -> list[tuple[int, int]]:
    """(model, session) of those whose probe took longer than the model's limit."""
    return [
        (index, position)
        for index, every in enumerate(taken)
        for position, session in enumerate(every)
        if session.probe_ns is not None and session.probe_ns > limits_ns[index]
    ]


def with_reason(session: Session, limit_ns: float) -> Session:
    assert session.probe_ns is not None
    slower = session.probe_ns / (limit_ns / MAX_SLOWDOWN)
    reason = f"Its core computed {slower:.2f} times slower than usual, by the speed probe."
    return replace(session, voided=(*session.voided, reason))


def doubts_of(sessions: Sequence[Session], device: Device) -> tuple[str, ...]:
    """Each distinct kind of doubt once, with the number of sessions that had it and one of them as the example."""
    doubts = [EMULATED] if device.emulated else []
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
