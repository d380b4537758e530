"""Engines timed against each other by a device itself: fresh, interleaved sessions (device side)."""

from __future__ import annotations

import random
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from targets.timing import median

MAX_REPEATS = 3  # of one session that was disturbed; past this the disturbance is how the device is

Session = Mapping[str, Any]  # as `targets.timing.take_session` gives it


class Timed(NamedTuple):
    """Of one engine. `median_ns`, `fastest_ns`, `slowest_ns`: of its sessions' medians."""

    sessions: list[Session]

    @property
    def medians_ns(self) -> list[float]:
        return [median(list(session["samples_ns"])) for session in self.sessions]

    @property
    def median_ns(self) -> float:
        return median([round(value) for value in self.medians_ns])

    @property
    def disturbed(self) -> int:
        return sum(bool(session["voided"]) for session in self.sessions)


def take_rounds(
    take: Sequence[Callable[[], Session]],
    sessions: int,
    on_progress: Callable[[int, int], None],
    cool: Callable[[], bool],
    seed: int = 0,
) -> list[Timed]:
    """So many sessions of each; every round takes one of all, in random order, so that a drift of the device meets all
    of them. What was disturbed, as the system tells, is taken again, after `cool` where it was throttled, until that
    has been in vain once; what stays disturbed is kept and says so."""
    order = random.Random(seed)
    taken: list[list[Session]] = [[] for _ in take]
    cools = True
    total, spare = sessions * len(take), max(MAX_REPEATS, sessions * len(take))
    for round_ in range(sessions):
        for done, index in enumerate(order.sample(range(len(take)), len(take)), round_ * len(take)):
            on_progress(done, total)
            session = take[index]()
            repeats = 0
            while session["voided"] and repeats < MAX_REPEATS and spare > 0:
                if cools and session["conditions"].get("throttled"):
                    cools = cool()
                session, repeats, spare = take[index](), repeats + 1, spare - 1
            taken[index].append(session)
    on_progress(total, total)
    return [Timed(every) for every in taken]
