"""The device as it reports itself (device side). Each value is read where the system has it and left out where not."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import Any, Sequence

from targets.conditions import jetson
from targets.cores import described, kinds
from targets.sysfs import ROOT, read, read_int, text

# Instruction sets that decide which kernels a runtime picks; the other flags only make keys differ for nothing.
FEATURES = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "avx_vnni", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimdhp", "asimddp", "fphp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip

ARM = ("aarch64", "arm64", "armv7l", "armv8l")
X86 = ("x86_64", "amd64", "i686", "i386")


def device(
    stack: dict[str, Any], *, threads: int, pinned: bool, cores: Sequence[int] = (), root: Path = ROOT
) -> dict[str, Any]:
    """The four parts of a fingerprint and whether the machine is emulated; see `targets.device.Device`. `cores`: those
    that are pinned to. `root`: of what is read of power modes, governors and kinds of cores."""
    cpuinfo = read("/proc/cpuinfo")
    emulated = is_emulated(platform.machine(), cpuinfo, read(CLOCK_SOURCES), Path(ARCH_STATUS).exists())
    device_class = {
        "cpu": cpu_name(cpuinfo),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes() / 2**30),
        "features": features(cpuinfo),
    }
    if emulated:
        device_class["emulated"] = True
    found = kinds(root)
    unequal = len(found) > 1
    if unequal:
        device_class["core_kinds"] = described(found)
    return {
        "device_class": device_class,
        "stack": {"os": os_name(), **stack},
        "regime": {
            "threads": threads,
            "pinned": pinned,
            "governor": governor(cores[0] if unequal and cores else 0, root),
            **({"core_kind": described(found, cores) if pinned else "any"} if unequal else {}),
            **power_mode(root),
        },
        "observed": observed(),
        "emulated": emulated,
    }


CLOCK_SOURCES = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
ARCH_STATUS = "/proc/self/arch_status"  # only kernels for x86 have it; there without /sys, as in a bare root


def is_emulated(machine: str, cpuinfo: str, clock_sources: str, arch_status: bool) -> bool:
    """Whether programs of `machine` run translated. The emulator changes what `uname` says; the kernel's own files
    still speak of the processor underneath."""
    x86_below = arch_status or "GenuineIntel" in cpuinfo or "AuthenticAMD" in cpuinfo or "tsc" in clock_sources.split()
    arm_below = "CPU implementer" in cpuinfo and "arch_sys_counter" in clock_sources.split()
    if machine.lower() in ARM:
        return x86_below
    if machine.lower() in X86:
        return arm_below and not x86_below
    return x86_below or arm_below


def power_mode(root: Path) -> dict[str, str]:
    """Of boards that have such modes; nothing on others, whose keys would all change for it."""
    found = jetson.power_mode(root)
    return {"power_mode": found} if found else {}


def governor(core: int, root: Path) -> str | None:
    return text(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")


def cpu_name(cpuinfo: str) -> str:
    board = text("/proc/device-tree/model")
    parts = sorted({*fields(cpuinfo, "CPU part")})  # some Arm kernels name every processor "ARMv8 Processor"
    for field in ("model name", "Hardware", "cpu model", "uarch"):
        found = fields(cpuinfo, field)
        if found:
            family, model = fields(cpuinfo, "cpu family"), fields(cpuinfo, "model")
            # hypervisors shorten names to "AMD EPYC": the numbers tell the generations apart
            numbers = f" (family {family[0]}, model {model[0]})" if family and model else ""
            return found[0] + numbers + (f" (part {', '.join(parts)})" if parts else "")
    return board or (f"Arm part {', '.join(parts)}" if parts else platform.processor() or platform.machine())


def features(cpuinfo: str) -> list[str]:
    found = set(" ".join(fields(cpuinfo, "flags") or fields(cpuinfo, "Features")).split())
    return [name for name in FEATURES if name in found]


def fields(cpuinfo: str, name: str) -> list[str]:
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def os_name() -> str:
    pairs = dict(line.partition("=")[::2] for line in read("/etc/os-release").splitlines())
    name = f"{pairs.get('ID', '')} {pairs.get('VERSION_ID', '')}".replace('"', "").strip()
    return name or f"{platform.system()} {platform.release()}"


def memory_bytes() -> int:
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def observed() -> dict[str, Any]:
    """What differs between two boards of a kind, or between two hours: kept beside the timings, not in their key."""
    zones = [read_int(str(path)) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    found = {
        "host": platform.node(),
        "serial": text("/proc/device-tree/serial-number") or text("/sys/class/dmi/id/product_serial"),
        "kernel": platform.release(),
        "memory_bytes": memory_bytes(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "temperature_c": max((zone / 1000 for zone in zones if zone), default=None),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}
