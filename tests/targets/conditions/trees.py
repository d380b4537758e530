"""Fake /sys, /proc and /etc trees for boards that are not here. Their forms are written from documentation and public
sources (named at each), not recorded on a device; the numbers are made up."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from targets.conditions.source import Place


def tree(root: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def answering(**answers: str) -> "Asked":
    return Asked(answers)


class Asked:
    """A device whose commands answer with fixed text, by their words joined with underscores; others are not there."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = dict(answers)
        self.commands: list[tuple[str, ...]] = []

    def __call__(self, command: Sequence[str]) -> str:
        self.commands.append(tuple(command))
        return self.answers.get("_".join(command), "")


def place(root: Path, *cores: int, asked: Asked | None = None) -> Place:
    return Place(cores=cores, root=root, ask=asked or Asked({}))


def cpufreq(
    core: int, governor: str = "schedutil", low: int = 600_000, high: int = 2_400_000, highest: int = 2_400_000
) -> dict[str, object]:
    """Linux, Documentation/admin-guide/pm/cpufreq.rst."""
    base = f"sys/devices/system/cpu/cpu{core}/cpufreq"
    return {
        f"{base}/scaling_governor": governor, f"{base}/scaling_min_freq": low, f"{base}/scaling_max_freq": high,
        f"{base}/cpuinfo_max_freq": highest, f"{base}/scaling_cur_freq": low,
    }  # fmt: skip


def jetson(low_khz: int = 729_600, gpu_low: int = 306_000_000, gpu: str = "17000000.gpu") -> dict[str, object]:
    """An Orin Nano of JetPack 6 (GPU's folder "17000000.gpu"; "17000000.ga10b" with JetPack 5), from NVIDIA's Jetson
    Linux Developer Guide, r35 and r36, and public listings of these files."""
    policy, memory = "sys/devices/system/cpu/cpufreq/policy0", "sys/kernel/debug/bpmp/debug/clk/emc"
    return {
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
        "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
        "etc/nvpmodel.conf": MODES,
        f"{policy}/scaling_min_freq": low_khz, f"{policy}/scaling_max_freq": 1_728_000,
        f"{policy}/scaling_cur_freq": 1_728_000,
        f"sys/class/devfreq/{gpu}/min_freq": gpu_low, f"sys/class/devfreq/{gpu}/max_freq": 1_020_000_000,
        f"sys/class/devfreq/{gpu}/cur_freq": 1_020_000_000,
        "sys/class/devfreq/15340000.vic/min_freq": 1, "sys/class/devfreq/15340000.vic/max_freq": 2,
        "sys/class/hwmon/hwmon3/name": "soctherm_oc",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": 0, "sys/class/hwmon/hwmon3/oc2_event_cnt": 4,
        "sys/class/hwmon/hwmon3/oc3_event_cnt": 27,
        "sys/class/hwmon/hwmon1/name": "ina3221", "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
        "sys/class/hwmon/hwmon1/in1_input": 5016, "sys/class/hwmon/hwmon1/curr1_input": 1856,
        f"{memory}/rate": 3_199_000_000, f"{memory}/min_rate": 204_000_000, f"{memory}/max_rate": 3_199_000_000,
        f"{memory}/mrq_rate_locked": 0,
    }  # fmt: skip


MODES = """# a comment with < POWER_MODEL ID=2 NAME=WRONG > in it
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1

< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1

< PM_CONFIG DEFAULT=0 >
"""

PI = {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"}

# ThermalManagerService.dump of AOSP.
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=99.9, mType=0, mName=CPU0, mStatus=0}}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
\tTemperature{{mValue=44.8, mType=0, mName=CPU0, mStatus=0}}
\tTemperature{{mValue=38.0, mType=3, mName=SKIN, mStatus={status}}}
\tTemperature{{mValue=55.5, mType=2, mName=BAT, mStatus=0}}
\tTemperature{{mValue=NaN, mType=4, mName=USB, mStatus=0}}
Current cooling devices from HAL:
\tCoolingDevice{{mValue=0, mType=2, mName=cpu0}}
"""

# BatteryService.dump of AOSP.
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: {usb}
  Wireless powered: false
  Max charging current: 500000
  status: {charge}
  health: 2
  present: true
  level: {level}
  scale: 100
  voltage: 4159
  temperature: 310
  technology: Li-ion
"""
