"""A Jetson's clocks and its supply: what nvpmodel and jetson_clocks have set, what tegrastats would show of the
board, and how often the supply made it throttle. From the files of JetPack 5 and 6; nothing is started.

Sources: NVIDIA's Jetson Linux Developer Guide, "Platform Power and Performance", r35 and r36.
"""

from __future__ import annotations

import re
from pathlib import Path

from targets.conditions.source import Findings, Lock, Place, Readings, Source
from targets.sysfs import is_board, read, read_int, text

STATUS = "var/lib/nvpmodel/status"  # such as "pmode:0002 fmode:quiet"
MODES = "etc/nvpmodel.conf"
MODE = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", re.MULTILINE)
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"  # the memory's clock; root alone reads it
# The GPU's clock under /sys/class/devfreq: 17000000.ga10b with JetPack 5, 17000000.gpu with 6; gv11b is Xavier's.
GPU = re.compile(r"\.(gpu|ga10b|gv11b|gp10b)$|^gpu-")
HOLD = "sudo jetson_clocks"
CURRENT = {
    "oc1": "the supply's voltage fell",
    "oc2": "it drew too much on average",
    "oc3": "it drew too much for a moment",
}  # of Orin; older boards number them otherwise


class Jetson(Source):
    name = "jetson"

    def read(self, place: Place) -> Readings:
        root = place.root
        if not is_board("nvidia,tegra", root):
            return {}
        readings: Readings = {"clocks": {**cpu_clocks(root), **gpu_clocks(root), **memory_clock(root)}}
        mode = power_mode(root)
        if mode:
            readings["power_mode"] = mode
        counts = {
            path.name[: path.name.index("_")]: read_int(path)
            for path in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
        }
        readings["over_current"] = {name: count for name, count in counts.items() if count is not None}
        readings["rails_mw"] = rails(root)
        return readings

    def judge(self, before: Readings, after: Readings) -> Findings:
        reasons, voided = [], []
        for name, count in after["over_current"].items():
            more = count - before["over_current"].get(name, count)
            if more > 0:
                why = CURRENT.get(name, "see its manual")
                reasons.append(f"The board throttled for its supply: {name} counted {more} events ({why}).")
        for name, clock in after["clocks"].items():
            now, lowest = clock.get("now_khz"), clock.get("min_khz")
            if name.startswith("gpu") and now and lowest and now < 0.9 * lowest:
                reasons.append(f"The GPU's clock was {now / 1e6:.2f} GHz where {lowest / 1e6:.2f} is the least set.")
        if before.get("power_mode") != after.get("power_mode"):
            voided.append(f"The power mode went from {before.get('power_mode')} to {after.get('power_mode')}.")
        return Findings(voided=tuple(voided), throttled=tuple(reasons))

    def lock(self, readings: Readings) -> Lock | None:
        clocks = readings["clocks"]
        for name, clock in clocks.items():
            if clock["min_khz"] != clock["max_khz"]:
                seen = f"{name} may go from {clock['min_khz'] / 1e6:.2f} to {clock['max_khz'] / 1e6:.2f} GHz"
                return Lock(False, seen, HOLD)
        return Lock(True, "jetson_clocks holds them", HOLD, by_hand=True) if clocks else Lock(None, "", HOLD)


def power_mode(root: Path) -> str | None:
    """As nvpmodel has set it, by its name where the board's file of modes has one: numbers change from release to
    release."""
    status = text(root / STATUS)
    if status is None:
        return None
    names = {int(number): name for number, name in MODE.findall(read(root / MODES))}
    words = []
    for word in status.split():
        kind, _, value = word.partition(":")
        known = kind == "pmode" and value.isdigit() and int(value) in names
        words.append(names[int(value)] if known else word)
    return " ".join(words)


def cpu_clocks(root: Path) -> dict[str, Readings]:
    """One entry a policy: cores of one clock."""
    folders = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    files = ("scaling_min_freq", "scaling_max_freq", "scaling_cur_freq")
    found = {folder.name.replace("policy", "cpu"): clock_of(folder, files, 1) for folder in folders}
    return {name: clock for name, clock in found.items() if clock}


def gpu_clocks(root: Path) -> dict[str, Readings]:
    folders = [path for path in sorted((root / "sys/class/devfreq").glob("*")) if GPU.search(path.name)]
    found = {f"gpu {folder.name}": clock_of(folder, ("min_freq", "max_freq", "cur_freq"), 1000) for folder in folders}
    return {name: clock for name, clock in found.items() if clock}


def memory_clock(root: Path) -> dict[str, Readings]:
    """jetson_clocks locks it at its present rate; then that rate is all that it may have."""
    rate, locked = read_int(root / EMC / "rate"), read_int(root / EMC / "mrq_rate_locked")
    clock = clock_of(root / EMC, ("min_rate", "max_rate", "rate"), 1000)
    if not clock or rate is None or locked is None:
        return {}
    return {"memory": {**clock, "min_khz": rate // 1000, "max_khz": rate // 1000} if locked else clock}


def clock_of(folder: Path, files: tuple[str, str, str], divisor: int) -> Readings:
    lowest, highest, now = (read_int(folder / file) for file in files)
    if lowest is None or highest is None:
        return {}
    present = {} if now is None else {"now_khz": now // divisor}
    return {"min_khz": lowest // divisor, "max_khz": highest // divisor, **present}


def rails(root: Path) -> dict[str, int]:
    """mW by the rail's name, from the board's power monitors."""
    found = {}
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if text(monitor / "name") != "ina3221":
            continue
        for label in sorted(monitor.glob("in*_label")):
            number = label.name[2:].partition("_")[0]
            millivolt, milliampere = (read_int(monitor / f"{kind}{number}_input") for kind in ("in", "curr"))
            if millivolt is not None and milliampere is not None:
                found[text(label) or number] = millivolt * milliampere // 1000
    return found
