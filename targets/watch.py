"""Whether anything disturbed a session, as the system tells (device side): other work on the pinned cores, time that a
hypervisor or a container's quota took, a falling clock. What clocks, heat and power say: `targets.conditions`.

What takes time from the session itself voids it. What may only have slowed it (busy other cores, a high load average)
is a doubt: a device that always has neighbours would never be measured, and what they cost, the speed probe shows.
Nothing here looks at the model's times: choosing sessions by their result would bias it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from targets.load import MIN_TICKS, Cores, read_cores
from targets.sysfs import read_int

# Shares of the pinned cores' time. Kernel housekeeping stays well under them; a neighbour that computes does not.
MAX_STEAL = 0.05
MAX_OTHERS = 0.10
MAX_WAITED = 0.05  # undisturbed sessions wait for 0.3 to 0.5 % of their time, those that share their core for a quarter
MAX_STOPPED = 0.05
BUSY_NEIGHBOURS = 0.5  # of the cores that are not ours: shared caches, memory and clocks suffer
CLOCK_DROP = 0.9  # of the frequency at the start: the samples are then of two clocks, and have no one median

SYSTEM = Path("/sys")
PROCESS = Path("/proc/self")


class State(NamedTuple):
    """What is counted, at one moment."""

    cores: Cores
    own_s: float
    waited_ns: int | None
    stopped_ns: int
    clock_khz: int
    load_average: float
    now_ns: int


def look(pinned: list[int]) -> State:
    return State(
        cores=read_cores(),
        own_s=time.process_time(),
        waited_ns=waited_ns(),
        stopped_ns=stopped_ns(),
        clock_khz=clocks(pinned),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        now_ns=time.perf_counter_ns(),
    )


class Watch:
    """Looks at the pinned cores from its making until `stop`."""

    def __init__(self, cores: list[int]) -> None:
        self._pinned = cores
        self._before = look(cores)

    def stop(self) -> tuple[list[str], list[str]]:
        """(doubts, reasons to void the session), as sentences."""
        return compare(self._before, look(self._pinned), self._pinned)


def compare(before: State, after: State, pinned: list[int]) -> tuple[list[str], list[str]]:
    """(doubts, reasons to void) of what lies between the two."""
    doubts, voided = [], []
    if not before.cores or not pinned:
        doubts.append("This system does not let us pin cores or see their load: other work may have disturbed it.")
    else:
        own_ticks = (after.own_s - before.own_s) * os.sysconf("SC_CLK_TCK")
        voided += disturbances(before.cores, after.cores, pinned, own_ticks)
        doubts += neighbours(before.cores, after.cores, pinned)
    spent = max(1, after.now_ns - before.now_ns) * max(1, len(pinned))
    if before.waited_ns is not None and after.waited_ns is not None and not voided:
        share = (after.waited_ns - before.waited_ns) / spent
        if share > MAX_WAITED:
            voided.append(f"It waited {share:.0%} of its time for a core that something else had.")
    share = (after.stopped_ns - before.stopped_ns) / spent
    if share > MAX_STOPPED:
        voided.append(f"The container's quota of processor time stopped it for {share:.0%} of its time.")
    if after.clock_khz and before.clock_khz and after.clock_khz < CLOCK_DROP * before.clock_khz:
        voided.append(f"The clock fell from {before.clock_khz / 1e6:.2f} to {after.clock_khz / 1e6:.2f} GHz.")
    return doubts + crowded(after.load_average, os.cpu_count() or 1), voided


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


def crowded(load_average: float, cores: int) -> list[str]:
    """A doubt where more wants to run than there are cores. The average looks back over a minute, most of which is
    before the session: it proves nothing, and is all there is where the load of single cores may not be read."""
    if load_average <= cores + 0.5:
        return []
    return [f"The load average was {load_average:.1f} on {cores} cores: more wanted to run than fits."]


def waited_ns() -> int | None:
    """How long this process's threads were ready to run and did not, since they began; None where that is not kept."""
    ran = waited = 0
    try:
        for path in (PROCESS / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
                counts = (path / "schedstat").read_text(encoding="ascii").split()
                ran, waited = ran + int(counts[0]), waited + int(counts[1])
    except (OSError, ValueError, IndexError):
        return None
    return waited if ran else None  # a kernel that does not count says 0 for both


def stopped_ns() -> int:
    """How long the quota of this process's control group, or of one above it, has stopped it; 0 where there is none."""
    total = 0
    with contextlib.suppress(OSError, ValueError):
        lines = (PROCESS / "cgroup").read_text(encoding="utf-8").splitlines()
        groups = [line.split(":", 2) for line in lines if line.count(":") >= 2]
        for _, controllers, name in groups:
            if controllers and "cpu" not in controllers.split(","):
                continue
            base = SYSTEM / "fs/cgroup" / (controllers or ".")
            inside = Path(name.lstrip("/"))
            for group in (inside, *inside.parents):
                total += throttled_in(base / group / "cpu.stat")
    return total


def throttled_in(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        counts = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        return int(counts.get("throttled_time", 0)) or 1000 * int(counts.get("throttled_usec", 0))
    return 0


def clocks(cores: list[int]) -> int:
    """The slowest pinned core's frequency in kHz; 0 where unreadable."""
    found = [read_int(str(SYSTEM / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq")) for core in cores]
    return min((clock for clock in found if clock), default=0)
