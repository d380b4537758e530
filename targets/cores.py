"""Cores of unequal size: which kinds there are, what they are called, and which are which (device side).

Where all cores are equal there is one kind, and nothing of it stands in a key.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence, Tuple

from targets.errors import BadInput
from targets.sysfs import ROOT, read, read_int

CHOICES = ("big", "little", "prime")  # what a target may ask for; nothing: the fastest

# Cores of one name whose speed differs by less are one kind: their clocks were set chip by chip.
MAX_DIFFERENCE = 0.1

# (implementer, part) of /proc/cpuinfo, as Arm's manuals and lscpu have them: what is found in unequal pairs.
ARM_PARTS = {
    ("0x41", "0xc07"): "Cortex-A7", ("0x41", "0xc0d"): "Cortex-A17", ("0x41", "0xc0f"): "Cortex-A15",
    ("0x41", "0xd03"): "Cortex-A53", ("0x41", "0xd04"): "Cortex-A35", ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57", ("0x41", "0xd08"): "Cortex-A72", ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75", ("0x41", "0xd0b"): "Cortex-A76", ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd41"): "Cortex-A78", ("0x41", "0xd42"): "Cortex-A78AE", ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510", ("0x41", "0xd47"): "Cortex-A710", ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd4b"): "Cortex-A78C", ("0x41", "0xd4c"): "Cortex-X1C", ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4e"): "Cortex-X3", ("0x41", "0xd80"): "Cortex-A520", ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4", ("0x41", "0xd85"): "Cortex-X925", ("0x41", "0xd87"): "Cortex-A725",
    ("0x4e", "0x003"): "Denver 2", ("0x51", "0x800"): "Kryo 2xx Gold", ("0x51", "0x801"): "Kryo 2xx Silver",
    ("0x51", "0x802"): "Kryo 3xx Gold", ("0x51", "0x803"): "Kryo 3xx Silver", ("0x51", "0x804"): "Kryo 4xx Gold",
    ("0x51", "0x805"): "Kryo 4xx Silver",
}  # fmt: skip

# x86 processors of several kinds, fastest first: the counters that the kernel keeps for each tell their cores.
X86_KINDS = (("cpu_core", "performance"), ("cpu_atom", "efficient"), ("cpu_lowpower", "low-power"))


class Kind(NamedTuple):
    """Cores that are alike. `cores`: their numbers, ascending."""

    name: str
    cores: Tuple[int, ...]


def kinds(root: Path = ROOT) -> list[Kind]:
    """Fastest first; empty where the system does not tell."""
    hybrid = [Kind(name, tuple(listed(read(root / f"sys/devices/{unit}/cpus")))) for unit, name in X86_KINDS]
    found = [kind for kind in hybrid if kind.cores]
    return found or arm_kinds(root)


def arm_kinds(root: Path) -> list[Kind]:
    groups: list[tuple[tuple[str, str], int, list[int]]] = []  # part, speed of the fastest, cores
    cores = parts(read(root / "proc/cpuinfo"))
    for core in sorted(cores, key=lambda core: (-capacity(core, root), core)):
        speed = capacity(core, root)
        for part, fastest, members in groups:
            if part == cores[core] and fastest - speed <= MAX_DIFFERENCE * fastest:
                members.append(core)
                break
        else:
            groups.append((cores[core], speed, [core]))
    names = [ARM_PARTS.get(part, f"Arm core {part[0]}/{part[1]}") for part, _, _ in groups]
    return [
        Kind(name if names.count(name) == 1 else f"{name} ({clock(members[0], root)})", tuple(sorted(members)))
        for name, (_, _, members) in zip(names, groups)  # noqa: B905 -- strict= is newer than 3.8
    ]


def parts(cpuinfo: str) -> dict[int, tuple[str, str]]:
    """(implementer, part) of each Arm core that is on; empty elsewhere."""
    found = {}
    for block in cpuinfo.split("\n\n"):
        pairs = [line.partition(":") for line in block.splitlines()]
        told = {key.strip(): value.strip() for key, _, value in pairs}
        if "CPU part" in told and told.get("processor", "").isdigit():
            found[int(told["processor"])] = (told.get("CPU implementer", ""), told["CPU part"])
    return found


def capacity(core: int, root: Path = ROOT) -> int:
    """How fast a core is beside its siblings: the scheduler's capacity, else its top frequency, else 0."""
    base = root / f"sys/devices/system/cpu/cpu{core}"
    return read_int(base / "cpu_capacity") or read_int(base / "cpufreq/cpuinfo_max_freq") or 0


def clock(core: int, root: Path) -> str:
    highest = read_int(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq")
    return f"{highest / 1e6:.2f} GHz" if highest else f"capacity {capacity(core, root)}"


def described(found: Sequence[Kind], cores: Sequence[int] | None = None) -> str:
    """Such as "4x Cortex-A76 + 4x Cortex-A55"; of these cores only, where they are given."""
    counts = [(sum(cores is None or core in cores for core in kind.cores), kind.name) for kind in found]
    return " + ".join(f"{count}x {name}" for count, name in counts if count)


def named(found: Sequence[Kind]) -> dict[str, Kind]:
    """The kinds by what a target calls them. Of two: big and little. Of three and more the fastest is prime, the next
    big, the slowest little."""
    if len(found) < 2:
        return {}
    if len(found) == 2:
        return {"big": found[0], "little": found[1]}
    return {"prime": found[0], "big": found[1], "little": found[-1]}


def chosen(found: Sequence[Kind], choice: str) -> Tuple[int, ...]:
    """The cores that a target asks for by `choice`. `BadInput` says what there is."""
    by_name = named(found)
    if choice in by_name:
        return by_name[choice].cores
    if not by_name:
        raise BadInput(f"The target asks for {choice} cores; this device's are all of one kind. Leave out cores.")
    known = ", ".join(f"{name} ({len(kind.cores)}x {kind.name})" for name, kind in by_name.items())
    raise BadInput(f"The target asks for {choice} cores; this device has {known}. Change cores.")


def listed(text: str) -> list[int]:
    """The kernel's way to write sets: "0-3,8"."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found += range(int(first), int(last if last.isdigit() else first) + 1)
    return found
