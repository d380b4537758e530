"""What a phone's files and services say, brought here in one command: what reads a device then reads the phone, from a
folder that is laid out like its root (host side)."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from targets.adb.client import Adb
from targets.conditions.android import BATTERY, PROPERTIES, SAVING, THERMAL
from targets.conditions.source import Place
from targets.load import Cores, cores_of
from targets.sysfs import read

MOST_FILES = 5000  # a phone with nine cores and a hundred thermal zones shows some three hundred
PATH = re.compile(r"/(proc|sys)(/[A-Za-z0-9_:-][A-Za-z0-9_.:-]*)+")

# Read by the shell itself: a process for each of hundreds of files would take seconds. A file's name stands behind "=",
# a command behind "!", and each of their lines behind "|".
SCRIPT = f"""
show() {{
  [ -r "$1" ] || return
  echo "=$1"
  while IFS= read -r line || [ -n "$line" ]; do echo "|$line"; line=; done <"$1" 2>/dev/null
}}
ask() {{
  echo "!$1"
  shift
  "$@" </dev/null 2>/dev/null | while IFS= read -r line; do echo "|$line"; done
}}
ask "{" ".join(THERMAL)}" {" ".join(THERMAL)}
ask "{" ".join(BATTERY)}" {" ".join(BATTERY)}
ask "{" ".join(SAVING)}" cmd {" ".join(SAVING)}
for file in /proc/cpuinfo /proc/meminfo /proc/stat \\
  /sys/devices/system/clocksource/clocksource0/available_clocksource \\
  /sys/devices/system/cpu/cpu[0-9]*/cpu_capacity \\
  /sys/devices/system/cpu/cpu[0-9]*/cpufreq/*_freq /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor \\
  /sys/class/thermal/thermal_zone*/temp /sys/class/thermal/thermal_zone*/type \\
  /sys/class/thermal/cooling_device*/cur_state /sys/class/thermal/cooling_device*/type; do
  show "$file"
done
true
"""


@final
class Snapshot:
    """`root`: a folder of our own here, that becomes the phone's root as of the last `take`."""

    def __init__(self, adb: Adb, root: Path) -> None:
        self._adb = adb
        self.root = root
        self._said: dict[str, str] = {}

    def take(self) -> None:
        files, self._said = parsed(self._adb.shell(SCRIPT, []).decode(errors="replace"))
        shutil.rmtree(self.root, ignore_errors=True)
        for name, content in {**files, f"/{PROPERTIES}": ""}.items():  # the last says that it is an Android
            path = self.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")

    def place(self, cores: Sequence[int]) -> Place:
        """For what reads the conditions of a session on these cores; as of the last `take`, whenever it is asked."""
        return Place(tuple(cores), "", self.root, lambda command: self._said.get(" ".join(command), ""))

    def cores(self) -> Cores:
        """How busy they were; empty where the phone does not tell."""
        try:
            return cores_of(read(self.root / "proc/stat"))
        except (ValueError, IndexError):
            return {}


def parsed(text: str) -> tuple[Mapping[str, str], dict[str, str]]:
    """(files by their paths, what commands said). What is no file of /proc or /sys is left out."""
    files: dict[str, list[str]] = {}
    said: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("|"):
            lines.append(line[1:])
            continue
        lines = []
        if line.startswith("!"):
            said[line[1:]] = lines
        elif line.startswith("=") and PATH.fullmatch(line[1:]) and len(files) < MOST_FILES:
            files[line[1:]] = lines
    return {name: joined(each) for name, each in files.items()}, {name: joined(each) for name, each in said.items()}


def joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
