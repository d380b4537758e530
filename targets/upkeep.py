"""What can be asked of a device's agent with no runtime there: what it is, how far away, and to empty its cache
(host side)."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

from targets import answers
from targets.channel import Channel
from targets.errors import TargetError
from targets.target import Target
from targets.transports import open_link

ROUND_TRIPS = 9  # their median is told
CLEAN_S = 600.0  # the longest silence over a cache of gigabytes on a slow card


@dataclass(frozen=True)
class About:
    """The agent on a device. `python`: the version of the interpreter that has the runtime, `executable`: its path
    there. `sha256`: of the agent's archive, "" where it is this installation. `busy_for`: who has the device just now.
    `round_trip_ns`: from a request to its answer, over a link that stands."""

    protocol: int
    sha256: str
    python: str
    executable: str
    folder: str
    free_bytes: int
    keeps: bool
    busy_for: str | None
    round_trip_ns: int


@dataclass(frozen=True)
class Cleaned:
    """`root`: the agent's folder on the device; what was removed and what is left there, in bytes."""

    root: str
    removed: int
    left: int


def ask_about(target: Target) -> About:
    """`TargetError` where the device cannot be reached, with what to do about it."""
    with open_link(target) as link:
        told = ask(link.channel, target)
        taken_ns = []
        for _ in range(ROUND_TRIPS):
            begun = time.perf_counter_ns()
            ask(link.channel, target)
            taken_ns.append(time.perf_counter_ns() - begun)
    try:
        sha256, python, executable, folder = (
            answers.text(answers.part_of(told, part), part) for part in ("sha256", "python", "executable", "folder")
        )
        busy_for = answers.part_of(told, "busy_for")
        return About(
            answers.number(answers.part_of(told, "protocol"), 0, 1000, "protocol"), sha256, python, executable, folder,
            answers.number(answers.part_of(told, "free_bytes"), 0, answers.LARGEST_NUMBER, "free_bytes"),
            answers.part_of(told, "keeps") is True, None if busy_for is None else answers.text(busy_for, "busy_for"),
            int(statistics.median(taken_ns)),
        )  # fmt: skip
    except ValueError as failure:
        raise senseless(target) from failure


def clean(target: Target) -> Cleaned | None:
    """Remove what the agent keeps on the device for the next time; None where it keeps nothing."""
    with open_link(target) as link:
        if not ask(link.channel, target).get("keeps"):
            return None
        found, _ = link.channel.ask("clean", {}, silence_s=CLEAN_S)
    try:
        removed, left = (
            answers.number(answers.part_of(found, part), 0, answers.LARGEST_NUMBER, part)
            for part in ("removed", "left")
        )
        return Cleaned(answers.path_from(found, "root"), removed, left)
    except ValueError as failure:
        raise senseless(target) from failure


def ask(channel: Channel, target: Target) -> dict[str, Any]:
    told, _ = channel.ask("about", {})
    if not isinstance(told, dict):
        raise senseless(target)
    return told


def senseless(target: Target) -> TargetError:
    return TargetError(
        f"The agent on {target.name} answered with what makes no sense. Is that device what you think it is?"
    )
