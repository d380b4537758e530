"""An NVIDIA GPU's clocks, heat and power, as its driver's management library (NVML) tells.

Called through ctypes: the library comes with the driver, a Python package for it need not be there. Signatures and
numbers: NVIDIA's NVML API reference.
"""

from __future__ import annotations

import ctypes
from typing import Any

from targets.conditions.source import Findings, Lock, Place, Readings, Source

LIBRARY = "libnvidia-ml.so.1"
SM, MEMORY = 1, 2  # nvmlClockType_t
POWER, THERMAL = 0, 1  # nvmlPerfPolicyType_t

# What holds the clocks down. Idle (0x1), the setting of application clocks (0x2), synchronised boards (0x10) and the
# display's clocks (0x100) do not count: they are not of heat or power.
REASONS = (
    (0x4, "its power limit"),
    (0x8, "a slowdown in hardware"),
    (0x20, "its heat"),
    (0x40, "its heat, in hardware"),
    (0x80, "the supply's power brake"),
)
HOT = 0x20 | 0x40 | 0x80  # that also count before a session; the others come and go as clocks change
MAX_HELD = 0.01  # of the session, by the counters of time held down


class Violation(ctypes.Structure):
    """nvmlViolationTime_t."""

    _fields_ = (("reference_us", ctypes.c_ulonglong), ("held_ns", ctypes.c_ulonglong))


class Nvidia(Source):
    name = "nvidia"

    def read(self, place: Place) -> Readings:
        if not place.gpu:
            return {}
        try:
            library = ctypes.CDLL(LIBRARY)
            if library.nvmlInit_v2() != 0:
                return {}
        except (OSError, AttributeError):
            return {}
        device = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByPciBusId_v2(place.gpu.encode(), ctypes.byref(device)) != 0:
            return {}
        return {"gpu": place.gpu, **values(library, device)}

    def judge(self, before: Readings, after: Readings) -> Findings:
        bits = after.get("reasons", 0) | before.get("reasons", 0) & HOT
        causes = [cause for bit, cause in REASONS if bits & bit]
        for name, cause in (("power", "its power limit"), ("thermal", "its heat")):
            held, spent = (
                after.get(f"{name}_{what}", 0) - before.get(f"{name}_{what}", 0) for what in ("held_ns", "reference_us")
            )
            if spent > 0 and held > MAX_HELD * 1000 * spent and cause not in causes:
                causes.append(cause)
        reasons = (f"The GPU was held down by {', '.join(causes)}.",) if causes else ()
        return Findings(throttled=reasons)

    def lock(self, readings: Readings) -> Lock | None:
        """Application clocks can be read; clocks locked by `nvidia-smi -lgc` cannot."""
        own, default = readings.get("application_sm_mhz"), readings.get("default_sm_mhz")
        highest, memory = readings.get("max_sm_mhz"), readings.get("max_memory_mhz")
        base = f"sudo nvidia-smi -i {readings['gpu']}"
        if own is not None and default is not None:
            seen = f"the GPU's application clocks are {own} MHz"
            if own != default:
                return Lock(True, seen, "", by_hand=True)
            if highest and memory and default < highest:
                return Lock(False, f"{seen}, their default", f"{base} -ac {memory},{highest}")
        return Lock(None, "the GPU does not tell", f"{base} -lgc {highest},{highest}" if highest else "")


def values(library: Any, device: ctypes.c_void_p) -> Readings:
    """All that this driver and this GPU know; the rest is left out."""
    found: Readings = {}

    def ask(name: str, function: str, into: Any, *arguments: Any) -> bool:
        try:
            status = getattr(library, function)(device, *arguments, ctypes.byref(into))
        except AttributeError:  # of another driver's version
            return False
        if status == 0 and hasattr(into, "value"):
            found[name] = int(into.value)
        return bool(status == 0)

    def number() -> ctypes.c_uint:
        return ctypes.c_uint()

    reasons = ctypes.c_ulonglong()
    if not ask("reasons", "nvmlDeviceGetCurrentClocksEventReasons", reasons):
        ask("reasons", "nvmlDeviceGetCurrentClocksThrottleReasons", reasons)  # as it was called before 535
    ask("sm_mhz", "nvmlDeviceGetClockInfo", number(), ctypes.c_int(SM))
    ask("memory_mhz", "nvmlDeviceGetClockInfo", number(), ctypes.c_int(MEMORY))
    ask("max_sm_mhz", "nvmlDeviceGetMaxClockInfo", number(), ctypes.c_int(SM))
    ask("max_memory_mhz", "nvmlDeviceGetMaxClockInfo", number(), ctypes.c_int(MEMORY))
    ask("application_sm_mhz", "nvmlDeviceGetApplicationsClock", number(), ctypes.c_int(SM))
    ask("default_sm_mhz", "nvmlDeviceGetDefaultApplicationsClock", number(), ctypes.c_int(SM))
    ask("temperature_c", "nvmlDeviceGetTemperature", number(), ctypes.c_int(0))
    ask("power_mw", "nvmlDeviceGetPowerUsage", number())
    ask("power_limit_mw", "nvmlDeviceGetEnforcedPowerLimit", number())
    ask("persistence", "nvmlDeviceGetPersistenceMode", number())
    for name, policy in (("power", POWER), ("thermal", THERMAL)):
        violation = Violation()
        if ask(name, "nvmlDeviceGetViolationStatus", violation, ctypes.c_int(policy)):
            found[f"{name}_held_ns"] = violation.held_ns
            found[f"{name}_reference_us"] = violation.reference_us
    return found
