"""Cores: how busy they are, and which to pin to (device side).

Everything is read from /proc and /sys; where a system has none, nothing is pinned and a doubt says what is unknown.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Dict, NamedTuple

from targets.cores import capacity, chosen, kinds
from targets.errors import BadInput

MIN_TICKS = 4  # the kernel counts in ticks (10 ms mostly): below this a share is rounding, not load


class Core(NamedTuple):
    """Ticks since boot."""

    busy: int
    steal: int
    total: int


Cores = Dict[int, Core]


def read_cores() -> Cores:
    """Per-core ticks from /proc/stat; empty where there is none."""
    try:
        return cores_of(Path("/proc/stat").read_text(encoding="ascii"))
    except OSError:
        return {}


def cores_of(text: str) -> Cores:
    """The same, of what /proc/stat says on any device."""
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu") and line[3].isdigit()]
    cores = {}
    for name, *columns in lines:
        user, nice, system, idle, wait, irq, soft, steal = (int(column) for column in columns[:8])
        busy = user + nice + system + irq + soft
        cores[int(name[3:])] = Core(busy, steal, busy + idle + wait + steal)
    return cores


def choose_cores(count: int, before: Cores, choice: str = "") -> list[int]:
    """The `count` cores to pin to: of the fastest kind where kinds differ, or of the kind that `choice` names (see
    `targets.cores`), those least busy since `before` was read.

    Empty where the system cannot pin. `BadInput` when the device has fewer cores, or no such kind.
    """
    own = chosen(kinds(), choice) if choice else ()
    if not hasattr(os, "sched_getaffinity"):
        return []
    allowed = sorted(core for core in os.sched_getaffinity(0) if not choice or core in own)
    if not 1 <= count <= len(allowed):
        what = f"{count} threads on {choice} cores" if choice else f"{count} threads"
        raise BadInput(f"The target asks for {what}; this device offers 1 to {len(allowed)}. Change threads.")
    now = read_cores()
    if not any(now[core].total - before[core].total >= MIN_TICKS for core in now if core in before):
        time.sleep(0.1)
        now = read_cores()

    def use(core: int) -> float:
        if core not in now or core not in before:
            return 0.0
        total = now[core].total - before[core].total
        return (total and (now[core].busy + now[core].steal - before[core].busy - before[core].steal) / total) or 0.0

    fastest = sorted(allowed, key=lambda core: (-capacity(core), round(use(core), 1), core))
    return sorted(fastest[:count])


def pin(cores: list[int]) -> bool:
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
        return True
    return False
