"""What /proc says of processes: whose children they are, whether they live, which one is at work."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

AT_WORK_S = 0.6  # of processor time: more than an agent's worker takes for its own start


def command_line(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def stat_of(pid: int) -> tuple[str, int] | None:
    """State and parent."""
    with contextlib.suppress(OSError):
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return state, int(parent)
    return None


def alive(pid: int) -> bool:
    found = stat_of(pid)
    return found is not None and found[0] != "Z"


def parents() -> dict[int, int]:
    """Parent by process, of all that live."""
    found = {int(path.name): stat_of(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    return {pid: stat[1] for pid, stat in found.items() if stat is not None and stat[0] != "Z"}


def children(pid: int) -> list[int]:
    return [child for child, parent in parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    above = parents()
    known, new = [], [pid]
    while new:
        new = [child for child, parent in above.items() if parent in new]
        known += new
    return known


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `condition` gives, once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def at_work(workers: Callable[[], Iterable[int]]) -> int:
    """The first of `workers`, asked for again and again, that has used the processor for more than its own start."""

    def found() -> int | None:
        for pid in workers():
            with contextlib.suppress(OSError):
                ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]
                if int(ticks) > AT_WORK_S * os.sysconf("SC_CLK_TCK"):
                    return pid
        return None

    return int(wait_for(found))
