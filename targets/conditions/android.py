"""Android's own view of its heat and its battery: the thermal service, the battery service, power saving.

The shell's user may ask for them; an app may not. Formats: ThermalManagerService and BatteryService of AOSP, `dump`.
"""

from __future__ import annotations

import re

from targets.conditions.source import Findings, Place, Readings, Source

THERMAL = ("dumpsys", "thermalservice")
BATTERY = ("dumpsys", "battery")
SAVING = ("settings", "get", "global", "low_power")
PROPERTIES = "system/build.prop"  # is on every Android

STATUS = re.compile(r"^\s*Thermal Status:\s*(\d+)\s*$", re.MULTILINE)
TEMPERATURE = re.compile(r"Temperature\{mValue=([-0-9.]+), mType=(-?\d+), mName=([^,}]*), mStatus=(\d+)\}")
POWERED = re.compile(r"^\s*(AC|USB|Wireless|Dock) powered:\s*true\s*$", re.MULTILINE)
CHARGING = 2  # BatteryManager.BATTERY_STATUS_CHARGING; a full battery on a cable is not charged, and is not warmed
NUMBER = r"^\s*{}:\s*(-?\d+)\s*$"

NAMES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")  # of PowerManager.THERMAL_STATUS_*
WARM = (0, 1, 3)  # types of temperature: processor, GPU, skin
LOW_PERCENT = 20  # below, many phones hold their clocks down


class Android(Source):
    name = "android"

    def read(self, place: Place) -> Readings:
        if not (place.root / PROPERTIES).exists():
            return {}
        return told(place.ask(THERMAL), place.ask(BATTERY), place.ask(SAVING))

    def judge(self, before: Readings, after: Readings) -> Findings:
        worst = max(before.get("status", 0), after.get("status", 0))
        reasons = [f"Android throttled for heat: its thermal status was {status_name(worst)}."] if worst else []
        doubts = []
        if after.get("saving"):
            doubts.append("Power saving was on, which holds clocks down.")
        if after.get("charge_status") == CHARGING:
            doubts.append(f"It was charging ({after.get('powered', 'from where, it does not say')}), which warms it.")
        elif not after.get("powered") and after.get("level", 100) <= LOW_PERCENT:
            doubts.append(f"The battery was at {after['level']} %, where phones may hold clocks down.")
        return Findings(doubts=tuple(doubts), throttled=tuple(reasons))


def told(thermal: str, battery: str, saving: str) -> Readings:
    """From what the three commands say; what is in none of them is left out."""
    readings: Readings = {}
    status = STATUS.search(thermal)
    if status:
        readings["status"] = int(status.group(1))
    _, _, now = thermal.partition("Current temperatures from HAL:")  # before it, those that were kept from earlier
    zones = {
        name.strip(): (float(value), int(kind))
        for value, kind, name, _ in TEMPERATURE.findall(now or thermal)
        if value.count(".") <= 1 and value.strip("-.")
    }
    if zones:
        readings["zones_c"] = {name: value for name, (value, _) in zones.items()}
        warm = [value for value, kind in zones.values() if kind in WARM]
        if warm:
            readings["temperature_c"] = max(warm)
    powered = POWERED.search(battery)
    if powered:
        readings["powered"] = powered.group(1)
    for name, field in (("level", "level"), ("charge_status", "status"), ("battery_decidegrees", "temperature")):
        found = re.search(NUMBER.format(field), battery, re.MULTILINE)
        if found:
            readings[name] = int(found.group(1))
    if saving.strip() == "1":
        readings["saving"] = True
    return readings


def status_name(status: int) -> str:
    return NAMES[status] if status < len(NAMES) else str(status)
