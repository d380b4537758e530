"""Run one input in a process of its own, so that a crash, a hang or a blow-up of memory is seen and named.

Only for a process without threads: every input is a fork of it. Limits: 20 s of processor time a phase, 300 s on the
clock (for what waits without working), 2 GiB of address space beyond what the process has to begin with.
"""

import json
import math
import os
import resource
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CPU_SECONDS = 20
WALL_SECONDS = 300
GROWTH_BYTES = 2**31
# Phases that run the file as it came, or compare outputs: what happens there is none of ours.
NOT_OURS_CPU_SECONDS = 3  # a file may well tell the runtime to work for years
NOT_OURS = ("original", "comparison")

Judge = Callable[[Callable[[str], None]], tuple[str, str]]


@dataclass(frozen=True)
class Outcome:
    """`grown_bytes`: the most resident memory the input added."""

    verdict: str
    detail: str
    cpu_seconds: float
    grown_bytes: int

    @property
    def failed(self) -> bool:
        return self.verdict.startswith("FAILED")


def run_alone(judge: Judge, cpu_seconds: int = CPU_SECONDS) -> Outcome:
    before = _resident_bytes()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(judge, writer, cpu_seconds)
    os.close(writer)
    lines, timed_out = _read_lines(reader, child)
    _, status, usage = os.wait4(child, 0)
    phases = [line["phase"] for line in lines if "phase" in line]
    phase = phases[-1] if phases else "start"
    end = lines[-1] if lines and "verdict" in lines[-1] else None
    used = usage.ru_utime + usage.ru_stime
    if end is not None:
        verdict, detail = end["verdict"], end["detail"]
    elif timed_out:
        verdict, detail = "FAILED: hang", f"{WALL_SECONDS} s on the clock in {phase}"
    elif os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        verdict, detail = "FAILED: hang", f"{cpu_seconds} s of processor time in {phase}"
    else:
        verdict, detail = "FAILED: crash", f"status {status} in {phase}"
    if end is None and phase in NOT_OURS:
        verdict, detail = "loaded", f"the runtime does not survive the file: {detail}"
    return Outcome(verdict, detail, used, max(0, usage.ru_maxrss * 1024 - before))


def _in_child(judge: Judge, writer: int, cpu_seconds: int) -> None:
    """Never returns."""

    def tell(entry: dict[str, str]) -> None:
        os.write(writer, json.dumps(entry).encode() + b"\n")

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _allow_cpu(cpu_seconds)
    limit = _address_space_bytes() + GROWTH_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    phases = ["start"]

    def begin(phase: str) -> None:
        phases.append(phase)
        _allow_cpu(min(cpu_seconds, NOT_OURS_CPU_SECONDS) if phase in NOT_OURS else cpu_seconds)
        tell({"phase": phase})

    try:
        verdict, detail = judge(begin)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
        if phases[-1] in NOT_OURS:
            verdict, detail = "loaded", f"{type(error).__name__} in the file as it came"
        else:
            verdict, detail = f"FAILED: {type(error).__name__}", f"in {phases[-1]}: {where(error)}"
    tell({"verdict": verdict, "detail": detail[:3000]})
    os._exit(0)


def _allow_cpu(seconds: int) -> None:
    """So much from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def where(error: BaseException) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "/pipeline/" in frame.filename]
    return f"{' '.join(str(error).split())[:300]} at {' > '.join(ours[-4:])}"


def _read_lines(reader: int, child: int) -> tuple[list[dict[str, str]], bool]:
    """What the child said until it ended, and whether it had to be ended."""
    data = b""
    deadline_left = WALL_SECONDS
    while True:
        ready, _, _ = select.select([reader], [], [], 1)
        if ready:
            chunk = os.read(reader, 65536)
            if not chunk:
                break
            data += chunk
        else:
            deadline_left -= 1
            if deadline_left <= 0:
                os.kill(child, signal.SIGKILL)
                os.close(reader)
                return _parsed(data), True
    os.close(reader)
    return _parsed(data), False


def _parsed(data: bytes) -> list[dict[str, str]]:
    return [json.loads(line) for line in data.split(b"\n") if line]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
