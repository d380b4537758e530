"""Waiting until a device that was throttled has gone back (device side)."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping, Sequence

from targets import conditions
from targets.conditions.source import Place, Readings

EVERY_S = 1.0
LEAST_S = 5.0  # an event for current leaves nothing that could be seen to go back
MOST_S = 60.0  # past this it is as cool as it gets here
COOLER_C = 8.0  # below where it was throttled: enough for some seconds of work, a session's length
STEADY_S = 10.0  # in which a temperature that falls no more
STEADY_C = 0.5  # has changed by less than this


def cool(
    place: Place, on_progress: Callable[[Dict[str, Any]], None], sleep: Callable[[float], None] = time.sleep
) -> Dict[str, Any]:
    """Wait until nothing holds the device down and it is cooler, or no longer falls, for `MOST_S` at most. Returns
    `waited_s` and `left`: what still holds it down, as sentences."""
    temperatures: list[float] = []
    waited_s = 0.0
    while True:
        now = conditions.read(place)
        left = conditions.judge(now, now).throttled
        hottest = hottest_c(now)
        if hottest is not None:
            temperatures.append(hottest)
        if waited_s >= MOST_S or (waited_s >= LEAST_S and not left and settled(temperatures)):
            return {"waited_s": waited_s, "left": list(left)}
        event = {"stage": "cool", "waited_s": waited_s, "most_s": MOST_S}
        on_progress(event if hottest is None else {**event, "temperature_c": hottest})
        sleep(EVERY_S)
        waited_s += EVERY_S


def settled(temperatures: Sequence[float]) -> bool:
    """Of one reading every second, the first of them hot."""
    if not temperatures or temperatures[-1] <= temperatures[0] - COOLER_C:
        return True
    window = temperatures[-1 - round(STEADY_S / EVERY_S) :]
    return len(window) > STEADY_S / EVERY_S and window[0] - window[-1] < STEADY_C


def hottest_c(found: Mapping[str, Readings]) -> float | None:
    return max((readings["temperature_c"] for readings in found.values() if "temperature_c" in readings), default=None)
