"""Heat, as the kernel keeps it for every kind of device: temperatures, throttle counters, cooling devices."""

from __future__ import annotations

from targets.conditions.source import Findings, Place, Readings, Source
from targets.sysfs import read_int, text

COOLS_CPU = ("thermal-cpufreq", "cpufreq-", "Processor")  # cooling devices that lower the processor's clock
SENSIBLE_C = (-40.0, 150.0)  # a zone that is off says -274 or 0 kelvin


class Heat(Source):
    name = "heat"

    def read(self, place: Place) -> Readings:
        thermal = place.root / "sys/class/thermal"
        zones = {}
        for zone in sorted(thermal.glob("thermal_zone*")):
            milli = read_int(zone / "temp")
            if milli is not None and SENSIBLE_C[0] < milli / 1000 < SENSIBLE_C[1]:
                zones[f"{zone.name.replace('thermal_zone', '')} {text(zone / 'type') or ''}".strip()] = milli / 1000
        readings: Readings = {}
        if zones:
            readings.update(zones_c=zones, temperature_c=max(zones.values()))
        counters = [
            read_int(path) or 0
            for core in place.cores
            for path in (place.root / f"sys/devices/system/cpu/cpu{core}/thermal_throttle").glob("*_count")
        ]
        if counters:
            readings["throttled"] = sum(counters)
        cooling = [
            max(0, read_int(device / "cur_state") or 0)
            for device in thermal.glob("cooling_device*")
            if (text(device / "type") or "").startswith(COOLS_CPU)
        ]
        if cooling:
            readings["held_down"] = sum(cooling)  # how far, in steps; 0 is not at all
        return readings

    def judge(self, before: Readings, after: Readings) -> Findings:
        reasons = []
        if after.get("throttled", 0) > before.get("throttled", 0):
            reasons.append("The processor throttled itself for heat.")
        if before.get("held_down", 0) > 0 or after.get("held_down", 0) > 0:
            reasons.append("The system held the processor's clock down for heat.")
        return Findings(throttled=tuple(reasons))
