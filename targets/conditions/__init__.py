"""The conditions of a session: clocks, heat and power, as far as the device tells (device side).

Adding a source: a file here with a `Source`, a line in `SOURCES`, a line in the lists of `targets.archive`, a test.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Tuple

from targets.conditions.android import Android
from targets.conditions.cpufreq import CpuFreq
from targets.conditions.heat import Heat
from targets.conditions.jetson import Jetson
from targets.conditions.nvidia import Nvidia
from targets.conditions.raspberry import Raspberry
from targets.conditions.source import Findings, Lock, Place, Readings, Source

# The GPU first: what holds it down is over as soon as it rests. Boards before what all processors have: their own
# command holds all of their clocks.
SOURCES: Tuple[Source, ...] = (Nvidia(), Jetson(), Raspberry(), Android(), CpuFreq(), Heat())

Conditions = Dict[str, Readings]  # by the names of the sources that are here


def read(place: Place) -> Conditions:
    found = ((source.name, source.read(place)) for source in SOURCES)
    return {name: readings for name, readings in found if readings}


def judge(before: Mapping[str, Readings], after: Mapping[str, Readings]) -> Findings:
    """Of all sources that could be read both times."""
    found = [
        source.judge(before[source.name], after[source.name])
        for source in SOURCES
        if source.name in before and source.name in after
    ]
    return Findings(
        tuple(doubt for each in found for doubt in each.doubts),
        tuple(reason for each in found for reason in each.voided),
        tuple(reason for each in found for reason in each.throttled),
    )


def lock_of(conditions: Mapping[str, Readings]) -> Lock:
    """Of all clocks together: one that is not held counts for all, then one that cannot be read."""
    told = [source.lock(conditions[source.name]) for source in SOURCES if source.name in conditions]
    locks = [lock for lock in told if lock is not None]
    for wanted in (False, None, True):
        for lock in locks:
            if lock.held is wanted:
                return lock
    return Lock(None, "", "")


class Seen(NamedTuple):
    """`document`: what is kept with the session; empty where the device has no source."""

    doubts: Tuple[str, ...]
    voided: Tuple[str, ...]
    document: Dict[str, Any]


class Observation:
    """From its making until `end`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._before = read(place)

    def end(self) -> Seen:
        after = read(self._place)
        found = judge(self._before, after)
        document = {
            "before": self._before,
            "after": after,
            "throttled": list(found.throttled),
            "lock": lock_of(after)._asdict(),
        }
        here = self._before or after
        return Seen(found.doubts, found.voided + found.throttled, document if here else {})
