"""Cores: which to pin to, and whether anything else used them while we timed (device side).

Everything is read from /proc and /sys; where a system has none, nothing is pinned and a doubt says what is unknown.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Dict, NamedTuple

from targets.errors import BadInput

# Shares of the pinned cores' time. Kernel housekeeping stays well under them; a neighbour that computes does not.
MAX_STEAL = 0.05
MAX_OTHERS = 0.10
MIN_TICKS = 4  # the kernel counts in ticks (10 ms mostly): below this a share is rounding, not load
BUSY_NEIGHBOURS = 0.5  # of the cores that are not ours: shared caches, memory and clocks suffer
CLOCK_DROP = 0.9  # of the frequency at the start


class Core(NamedTuple):
    """Ticks since boot."""

    busy: int
    steal: int
    total: int


Cores = Dict[int, Core]


def read_cores() -> Cores:
    """Per-core ticks from /proc/stat; empty where there is none."""
    try:
        text = Path("/proc/stat").read_text(encoding="ascii")
    except OSError:
        return {}
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu") and line[3].isdigit()]
    cores = {}
    for name, *columns in lines:
        user, nice, system, idle, wait, irq, soft, steal = (int(column) for column in columns[:8])
        busy = user + nice + system + irq + soft
        cores[int(name[3:])] = Core(busy, steal, busy + idle + wait + steal)
    return cores


def choose_cores(count: int, before: Cores) -> list[int]:
    """The `count` cores to pin to: of the fastest kind where kinds differ, those least busy since `before` was read.

    Empty where the system cannot pin. `BadInput` when the device has fewer cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(allowed):
        raise BadInput(f"The target asks for {count} threads; this device offers 1 to {len(allowed)}. Change threads.")
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


def capacity(core: int) -> int:
    """How fast a core is beside its siblings: the scheduler's capacity, else its top frequency, else 0."""
    base = f"/sys/devices/system/cpu/cpu{core}"
    return read_int(f"{base}/cpu_capacity") or read_int(f"{base}/cpufreq/cpuinfo_max_freq") or 0


def pin(cores: list[int]) -> bool:
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
        return True
    return False


def read_int(path: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(path).read_text(encoding="ascii"))
    return None


class Watch:
    """Looks at the pinned cores from its making until `stop`."""

    def __init__(self, cores: list[int]) -> None:
        self._pinned = cores
        self._clocks = clocks(cores)
        self._throttled = throttle_count(cores)
        self._own_s = time.process_time()
        self._before = read_cores()

    def stop(self) -> tuple[list[str], list[str]]:
        """(doubts, reasons to void the session), as sentences."""
        after = read_cores()
        own_ticks = (time.process_time() - self._own_s) * os.sysconf("SC_CLK_TCK")
        doubts, voided = [], []
        if not self._before or not self._pinned:
            doubts.append("This system does not let us pin cores or see their load: other work may have disturbed it.")
        else:
            voided += disturbances(self._before, after, self._pinned, own_ticks)
            doubts += neighbours(self._before, after, self._pinned)
        now = clocks(self._pinned)
        if self._clocks and now and now < CLOCK_DROP * self._clocks:
            doubts.append(f"The clock fell from {self._clocks / 1e6:.2f} to {now / 1e6:.2f} GHz.")
        if throttle_count(self._pinned) > self._throttled:
            voided.append("The processor throttled itself for heat.")
        return doubts, voided


def disturbances(before: Cores, after: Cores, pinned: list[int], own_ticks: float) -> list[str]:
    """What else used the pinned cores, as reasons to void a session."""
    total = sum(after[core].total - before[core].total for core in pinned)
    steal = sum(after[core].steal - before[core].steal for core in pinned)
    others = sum(after[core].busy - before[core].busy for core in pinned) - own_ticks
    voided = []
    if steal >= MIN_TICKS and steal > MAX_STEAL * total:
        voided.append(f"The hypervisor took {steal / total:.0%} of the pinned cores' time.")
    if others >= MIN_TICKS and others > MAX_OTHERS * total:
        voided.append(f"Other processes took {others / total:.0%} of the pinned cores' time.")
    return voided


def neighbours(before: Cores, after: Cores, pinned: list[int]) -> list[str]:
    rest = [core for core in after if core in before and core not in pinned]
    total = sum(after[core].total - before[core].total for core in rest)
    busy = sum(after[core].busy - before[core].busy for core in rest)
    if total >= MIN_TICKS and busy > BUSY_NEIGHBOURS * total:
        return [f"The other cores were {busy / total:.0%} busy: shared caches, memory and clocks may have slowed it."]
    return []


def clocks(cores: list[int]) -> int:
    """The slowest pinned core's frequency in kHz; 0 where unreadable."""
    found = [read_int(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in cores]
    return min((clock for clock in found if clock), default=0)


def throttle_count(cores: list[int]) -> int:
    folders = [Path(f"/sys/devices/system/cpu/cpu{core}/thermal_throttle") for core in cores]
    return sum(read_int(str(path)) or 0 for folder in folders for path in folder.glob("*_count"))
