"""What a source of conditions is (device side)."""

from __future__ import annotations

import abc
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from targets.sysfs import ROOT

Readings = Dict[str, Any]  # JSON

ASK_LIMIT_S = 5.0  # a service that hangs must not hold a measurement


def ask(command: Sequence[str]) -> str:
    """What a program of the device says; "" where it is not there, fails, or takes too long."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


class Place(NamedTuple):
    """Where is looked. `cores`: that the session is pinned to; empty: all. `gpu`: the PCI address of the GPU that the
    runtime uses; "" for none. `root`: of the file system. `ask`: runs an argument vector, see `ask`."""

    cores: Tuple[int, ...] = ()
    gpu: str = ""
    root: Path = ROOT
    ask: Callable[[Sequence[str]], str] = ask


class Findings(NamedTuple):
    """Sentences. `voided`: why a session should not count; `throttled`: the same, where heat or power is the reason and
    waiting helps."""

    doubts: Tuple[str, ...] = ()
    voided: Tuple[str, ...] = ()
    throttled: Tuple[str, ...] = ()


class Lock(NamedTuple):
    """Whether clocks are held where they are; None: that cannot be read. `seen`: what says so. `how`: the command that
    holds them on this kind of device. `by_hand`: held clocks are not what such a device is delivered with."""

    held: Optional[bool]
    seen: str
    how: str
    by_hand: bool = False


class Source(abc.ABC):
    """One place in which a device tells of its clocks, its heat or its power. It holds no state, and raises nothing for
    what a system does not have or does not allow to be read: that is left out."""

    name: str

    @abc.abstractmethod
    def read(self, place: Place) -> Readings:
        """What it says now, as JSON; empty where this device has no such source. `temperature_c`, where there is one,
        is the hottest."""

    @abc.abstractmethod
    def judge(self, before: Readings, after: Readings) -> Findings:
        """What happened between two readings. Of a reading with itself: what holds just now."""

    def lock(self, readings: Readings) -> Lock | None:
        """None: this source says nothing about it."""
        return None
