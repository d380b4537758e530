"""A phone's fingerprint, the cores that a program gets, and what disturbed a session, from what its shell tells
(host side)."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from targets import conditions, probe
from targets.adb.client import Adb
from targets.adb.snapshot import Snapshot
from targets.conditions import Conditions
from targets.cores import capacity, chosen, described, kinds
from targets.errors import BadInput, TargetError
from targets.load import Cores
from targets.sysfs import read
from targets.watch import neighbours

PROPERTIES = (
    "ro.product.manufacturer", "ro.product.model", "ro.soc.manufacturer", "ro.soc.model", "ro.board.platform",
    "ro.build.version.release", "ro.build.version.sdk", "ro.serialno", "ro.kernel.qemu", "ro.boot.qemu",
)  # fmt: skip

SCRIPT = f"""
for name in {" ".join(PROPERTIES)}; do echo "$name=$(getprop "$name")"; done
echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"
"""

NO_STATUS = "Android's thermal service does not say whether the phone was throttled."
NO_LOAD = "This phone does not let us see the load of its cores: other work may have disturbed it."


class State(NamedTuple):
    """Of one moment."""

    conditions: Conditions
    cores: Cores


def read_facts(adb: Adb) -> dict[str, str]:
    """`PROPERTIES`, `machine` and `kernel`; "" where the phone has none."""
    pairs = [line.partition("=")[::2] for line in adb.shell(SCRIPT, []).decode(errors="replace").splitlines()]
    found = {name: "".join(each for each in value if each.isprintable()).strip()[:200] for name, value in pairs}
    if not found.get("machine"):
        raise TargetError(f"{adb.name} does not say what it is. Is it an Android phone?")
    return {name: found.get(name, "") for name in (*PROPERTIES, "machine", "kernel")}


def read_state(snapshot: Snapshot, pinned: Sequence[int]) -> State:
    snapshot.take()
    return State(conditions.read(snapshot.place(pinned)), snapshot.cores())


def compare(before: State, after: State, pinned: Sequence[int]) -> dict[str, Any]:
    """`doubts`, `voided` and `conditions` of a session between the two."""
    found = conditions.judge(before.conditions, after.conditions)
    doubts = list(found.doubts)
    if "status" not in after.conditions.get("android", {}):
        doubts.append(NO_STATUS)
    if before.cores and pinned:
        doubts += neighbours(before.cores, after.cores, list(pinned))
    else:
        doubts.append(NO_LOAD)
    document = {
        "before": before.conditions,
        "after": after.conditions,
        "throttled": list(found.throttled),
        "lock": conditions.lock_of(after.conditions)._asdict(),
    }
    return {"doubts": doubts, "voided": [*found.voided, *found.throttled], "conditions": document}


def choose_cores(root: Path, count: int, choice: str) -> list[int]:
    """The `count` fastest cores, or of the kind that `choice` names. `BadInput` where there are fewer."""
    known = numbers_of(root)
    allowed = [core for core in known if core in chosen(kinds(root), choice)] if choice else known
    if not 1 <= count <= len(allowed):
        what = f"{count} threads on {choice} cores" if choice else f"{count} threads"
        raise BadInput(f"The target asks for {what}; this phone offers 1 to {len(allowed)}. Change threads.")
    return sorted(sorted(allowed, key=lambda core: (-capacity(core, root), core))[:count])


def numbers_of(root: Path) -> list[int]:
    """Of the cores that the phone names."""
    folders = (folder.name[3:] for folder in (root / "sys/devices/system/cpu").glob("cpu*"))
    told = (number.strip() for number in probe.fields(read(root / "proc/cpuinfo"), "processor"))
    return sorted({int(number) for number in (*folders, *told) if re.fullmatch(r"[0-9]{1,3}", number)})


def mask_of(cores: Sequence[int]) -> str:
    """As `taskset` wants it; "" is any core."""
    return format(sum(1 << core for core in cores), "x") if cores else ""


def fingerprint(
    facts: Mapping[str, str], root: Path, state: State, stack: Mapping[str, Any], threads: int, cores: Sequence[int]
) -> dict[str, Any]:
    """What `targets.probe.device` tells of the machine that it runs on, of the phone whose files are at `root`.
    `cores`: those that programs are held on; empty where they are not."""
    cpuinfo, found = read(root / "proc/cpuinfo"), kinds(root)
    clock_sources = read(root / probe.CLOCK_SOURCES.lstrip("/"))
    emulated = "1" in (facts["ro.kernel.qemu"], facts["ro.boot.qemu"]) or probe.is_emulated(
        facts["machine"], cpuinfo, clock_sources, arch_status=False
    )
    maker, model = facts["ro.soc.manufacturer"], facts["ro.soc.model"] or facts["ro.board.platform"]
    unequal = len(found) > 1
    hottest = [each["temperature_c"] for each in state.conditions.values() if "temperature_c" in each]
    observed = {
        "host": f"{facts['ro.product.manufacturer']} {facts['ro.product.model']}".strip(),
        "serial": facts["ro.serialno"],
        "kernel": facts["kernel"],
        "temperature_c": max(hottest, default=None),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {
        "device_class": {
            "cpu": " ".join(filter(None, (maker, model))) or (probe.fields(cpuinfo, "Hardware") or ["unknown"])[0],
            "arch": facts["machine"],
            "cores": len(numbers_of(root)),
            "memory_gib": round(memory_kib(read(root / "proc/meminfo")) / 2**20),
            "features": probe.features(cpuinfo),
            **({"emulated": True} if emulated else {}),
            **({"core_kinds": described(found)} if unequal else {}),
        },
        "stack": {"os": f"Android {facts['ro.build.version.release']}", **stack},
        "regime": {
            "threads": threads,
            "pinned": bool(cores),
            "governor": probe.governor(cores[0] if unequal and cores else 0, root),
            **({"core_kind": described(found, cores) if cores else "any"} if unequal else {}),
        },
        "observed": {name: value for name, value in observed.items() if value not in (None, "")},
        "emulated": emulated,
        "conditions": state.conditions,
        "lock": conditions.lock_of(state.conditions)._asdict(),
    }


def memory_kib(meminfo: str) -> int:
    found = re.search(r"^MemTotal:\s+([0-9]{1,12}) kB", meminfo, re.MULTILINE)
    return int(found[1]) if found else 0
