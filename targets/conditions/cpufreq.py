"""The processor's clock, as cpufreq governs it: governor, limits, and what is left of them."""

from __future__ import annotations

import re

from targets.conditions.source import Findings, Lock, Place, Readings, Source
from targets.sysfs import read_int, text

HOLD = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
POWER_MODE = "var/lib/nvpmodel/status"  # whose limits are meant, and stand in the key


class CpuFreq(Source):
    name = "cpufreq"

    def read(self, place: Place) -> Readings:
        """`clocks`: one entry for each clock of the pinned cores, by its first core."""
        system = place.root / "sys/devices/system/cpu"
        cores = sorted(place.cores) or sorted(
            int(folder.name[3:]) for folder in system.glob("cpu*") if re.fullmatch(r"cpu\d+", folder.name)
        )
        clocks, seen = {}, set()
        for core in cores:
            folder = (system / f"cpu{core}/cpufreq").resolve()  # cores of one clock have one folder
            governor = text(folder / "scaling_governor")
            if folder in seen or governor is None:
                continue
            seen.add(folder)
            found = {
                "governor": governor,
                "min_khz": read_int(folder / "scaling_min_freq"),
                "max_khz": read_int(folder / "scaling_max_freq"),
                "highest_khz": read_int(folder / "cpuinfo_max_freq"),
                "now_khz": read_int(folder / "scaling_cur_freq"),
            }
            clocks[f"cpu{core}"] = {name: value for name, value in found.items() if value is not None}
        if not clocks:
            return {}
        return {"clocks": clocks, "limits_meant": (place.root / POWER_MODE).exists()}

    def judge(self, before: Readings, after: Readings) -> Findings:
        reasons, doubts = [], []
        for name, clock in after["clocks"].items():
            limit, earlier = clock.get("max_khz"), before["clocks"].get(name, {}).get("max_khz")
            if limit and earlier and limit != earlier:
                reasons.append(f"The system moved the limit of its clock from {ghz(earlier)} to {ghz(limit)}.")
                continue
            highest = clock.get("highest_khz")
            if limit and highest and limit < highest and not held(clock) and not after["limits_meant"]:
                doubts.append(f"Its clock is limited to {ghz(limit)} of {ghz(highest)}, by a setting or for heat.")
        return Findings(doubts=tuple(doubts[:1]), throttled=tuple(reasons[:1]))

    def lock(self, readings: Readings) -> Lock | None:
        free = [f"{name} {shown(clock)}" for name, clock in readings["clocks"].items() if not held(clock)]
        if free:
            return Lock(False, free[0], HOLD)
        first = next(f"{name} {shown(clock)}" for name, clock in readings["clocks"].items())
        return Lock(True, first, HOLD)


def held(clock: Readings) -> bool:
    """Whether it may not fall with the load."""
    return clock["governor"] == "performance" or (
        clock.get("min_khz") is not None and clock.get("min_khz") == clock.get("max_khz")
    )


def shown(clock: Readings) -> str:
    limits = (clock.get("min_khz"), clock.get("max_khz"))
    span = f", {ghz(limits[0])} to {ghz(limits[1])}" if limits[0] and limits[1] else ""
    return f"has the governor {clock['governor']}{span}"


def ghz(khz: int) -> str:
    return f"{khz / 1e6:.2f} GHz"
