"""What a phone says of itself to a plain shell: its fingerprint, its cores, and whether anything disturbed a session
(host side)."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from targets import probe
from targets.adb.client import Adb
from targets.errors import TargetError
from targets.load import Cores, cores_of
from targets.watch import CLOCK_DROP, COOLS_CPU, neighbours

PROPERTIES = (
    "ro.product.manufacturer", "ro.product.model", "ro.soc.manufacturer", "ro.soc.model", "ro.board.platform",
    "ro.build.version.release", "ro.build.version.sdk", "ro.serialno", "ro.kernel.qemu", "ro.boot.qemu",
)  # fmt: skip

# Everything that changes only with the device.
DEVICE = f"""
for name in {" ".join(PROPERTIES)}; do echo "$name=$(getprop "$name")"; done
echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"
while read -r name kib _; do [ "$name" != MemTotal: ] || echo "memory_kib=$kib"; done </proc/meminfo
echo "clock_sources=$(cat /sys/devices/system/clocksource/clocksource0/available_clocksource 2>/dev/null)"
for core in /sys/devices/system/cpu/cpu[0-9]*; do
  echo "core=${{core##*/cpu}} $(cat "$core/cpu_capacity" 2>/dev/null || echo 0) \\
$(cat "$core/cpufreq/cpuinfo_max_freq" 2>/dev/null || echo 0)"
done
echo "governor=$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null)"
echo cpuinfo
cat /proc/cpuinfo
"""

# Everything that may change within a session.
STATE = """
echo "thermal=$(dumpsys thermalservice 2>/dev/null | sed -n 's/^ *Thermal Status: *//p' | head -n 1)"
for core in /sys/devices/system/cpu/cpu[0-9]*; do
  echo "limit=${core##*/cpu} $(cat "$core/cpufreq/scaling_max_freq" 2>/dev/null || echo 0) \
$(cat "$core/cpufreq/cpuinfo_max_freq" 2>/dev/null || echo 0)"
done
for cooler in /sys/class/thermal/cooling_device*; do
  echo "cooler=$(cat "$cooler/cur_state" 2>/dev/null || echo 0) $(cat "$cooler/type" 2>/dev/null)"
done
for zone in /sys/class/thermal/thermal_zone*; do echo "zone=$(cat "$zone/temp" 2>/dev/null)"; done
echo "battery=$(dumpsys battery 2>/dev/null | sed -n 's/^ *level: *//p' | head -n 1)"
echo stat
cat /proc/stat 2>/dev/null
true
"""

# Of android.os.PowerManager, THERMAL_STATUS_*.
THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


@dataclass(frozen=True)
class Facts:
    """`capacities`: of each core by number; 0 is unknown."""

    properties: Mapping[str, str]
    values: Mapping[str, str]
    capacities: Mapping[int, int]
    cpuinfo: str


@dataclass(frozen=True)
class State:
    """`thermal`: of Android's thermal service; None where it does not say. `limits_khz`: the highest clock that each
    core may have just now. `cooling`: how far coolers hold processors down."""

    thermal: int | None
    limits_khz: Mapping[int, int]
    cooling: int
    temperature_c: float | None
    battery: int | None
    cores: Cores


def read_facts(adb: Adb) -> Facts:
    head, _, cpuinfo = adb.shell(DEVICE, []).decode(errors="replace").partition("\ncpuinfo\n")
    pairs = [line.partition("=")[::2] for line in head.splitlines()]
    values = {name: printable(value) for name, value in pairs if name != "core"}
    if "machine" not in values:
        raise TargetError(f"{adb.name} does not say what it is. Is it an Android phone?")
    capacities = {}
    for _, value in (pair for pair in pairs if pair[0] == "core"):
        core, capacity, clock = numbers(value, 3)
        capacities[core] = capacity or clock
    return Facts({name: values.get(name, "") for name in PROPERTIES}, values, capacities, cpuinfo)


def read_state(adb: Adb) -> State:
    head, _, stat = adb.shell(STATE, []).decode(errors="replace").partition("\nstat\n")
    pairs = [line.partition("=")[::2] for line in head.splitlines()]
    thermal = [value.strip() for name, value in pairs if name == "thermal"]
    coolers = [value.partition(" ")[::2] for name, value in pairs if name == "cooler"]
    zones = [int(value) for name, value in pairs if name == "zone" and re.fullmatch(r"-?[0-9]{1,9}", value)]
    battery = [int(value) for name, value in pairs if name == "battery" and re.fullmatch(r"[0-9]{1,3}", value)]
    limits = [numbers(value, 3) for name, value in pairs if name == "limit"]
    try:
        cores = cores_of(stat)
    except (ValueError, IndexError):
        cores = {}
    return State(
        thermal=int(thermal[0]) if thermal and re.fullmatch(r"[0-9]", thermal[0]) else None,
        limits_khz={core: limit for core, limit, _ in limits if limit},
        cooling=sum(int(state) for state, kind in coolers if kind.startswith(COOLS_CPU) and state.isdigit()),
        temperature_c=max((zone / 1000 for zone in zones if zone > 0), default=None),
        battery=battery[0] if battery else None,
        cores=cores,
    )


def compare(before: State, after: State, pinned: Sequence[int]) -> tuple[list[str], list[str]]:
    """(doubts, reasons to void) of a session between the two."""
    doubts, voided = [], []
    worst = max((state.thermal for state in (before, after) if state.thermal is not None), default=None)
    if worst is None:
        doubts.append("Android's thermal service does not say whether the phone was throttled.")
    elif worst > 0:
        grade = THERMAL[min(worst, len(THERMAL) - 1)]
        voided.append(f"Android's thermal service says that the phone is throttled ({grade}). Let it cool.")
    for core in pinned:
        first, last = before.limits_khz.get(core, 0), after.limits_khz.get(core, 0)
        if 0 < last < CLOCK_DROP * first:
            voided.append(f"The highest clock of core {core} fell from {first / 1e6:.2f} to {last / 1e6:.2f} GHz.")
            break
    if before.cooling or after.cooling:
        voided.append("The system held the processor's clock down for heat.")
    if not before.cores or not pinned:
        doubts.append("This phone does not let us see the load of its cores: other work may have disturbed it.")
    else:
        doubts += neighbours(before.cores, after.cores, list(pinned))
    return doubts, voided


def choose_cores(facts: Facts, count: int) -> list[int]:
    """The `count` fastest cores, of one kind as far as there are enough; empty where the phone names none."""
    ordered = sorted(facts.capacities, key=lambda core: (-facts.capacities[core], core))
    return sorted(ordered[:count]) if count <= len(ordered) else []


def mask_of(cores: Sequence[int]) -> str:
    """As `taskset` wants it; "" is any core."""
    return format(sum(1 << core for core in cores), "x") if cores else ""


def fingerprint(facts: Facts, state: State, stack: Mapping[str, Any], threads: int, pinned: bool) -> dict[str, Any]:
    """The parts of a `targets.device.Device`."""
    of = facts.properties
    machine, kinds = facts.values["machine"], sorted(set(facts.capacities.values()), reverse=True)
    emulated = "1" in (of["ro.kernel.qemu"], of["ro.boot.qemu"]) or probe.is_emulated(
        machine, facts.cpuinfo, facts.values.get("clock_sources", "")
    )
    chip = " ".join(part for part in (of["ro.soc.manufacturer"], of["ro.soc.model"] or of["ro.board.platform"]) if part)
    observed = {
        "host": f"{of['ro.product.manufacturer']} {of['ro.product.model']}".strip(),
        "serial": of["ro.serialno"],
        "kernel": facts.values.get("kernel", ""),
        "temperature_c": state.temperature_c,
        "thermal_status": state.thermal,
        "battery_percent": state.battery,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    (memory_kib,) = numbers(facts.values.get("memory_kib", "0"), 1)
    return {
        "device_class": {
            "cpu": chip or (probe.fields(facts.cpuinfo, "Hardware") or ["unknown processor"])[0],
            "arch": machine,
            "cores": len(facts.capacities),
            # big.LITTLE: how many cores of each speed, the fastest first
            "kinds": [sum(each == kind for each in facts.capacities.values()) for kind in kinds],
            "memory_gib": round(memory_kib / 2**20),
            "features": probe.features(facts.cpuinfo),
            **({"emulated": True} if emulated else {}),
        },
        "stack": {"os": f"Android {of['ro.build.version.release']}", **stack},
        "regime": {"threads": threads, "pinned": pinned, "governor": facts.values.get("governor") or None},
        "observed": {name: value for name, value in observed.items() if value not in (None, "")},
        "emulated": emulated,
    }


def numbers(text: str, count: int) -> list[int]:
    """The first so many; 0 for what is none."""
    found = [int(word) if re.fullmatch(r"[0-9]{1,12}", word) else 0 for word in text.split()[:count]]
    return found + [0] * (count - len(found))


def printable(text: str) -> str:
    return "".join(each for each in text if each.isprintable()).strip()[:200]
