"""Cores of unequal size: named, chosen, in the key; and keys of equal cores as they were. Boards are fake trees,
written from the forms of /proc/cpuinfo and /sys that Linux documents."""

import os
from pathlib import Path

import pytest

from targets import cores, load, probe
from targets.cores import Kind, chosen, described, kinds, listed
from targets.errors import BadInput
from targets.target import find_target
from tests.targets.conditions.trees import tree

LITTLE, BIG, PRIME = "0xd05", "0xd0b", "0xd44"


def board(root: Path, *parts: tuple[str, int, int]) -> Path:
    """One core for each (part, capacity, highest kHz)."""
    blocks = [
        f"processor\t: {core}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n" for core, (part, _, _) in enumerate(parts)
    ]
    files: dict[str, object] = {"proc/cpuinfo": "\n".join(blocks)}
    for core, (_, capacity, highest) in enumerate(parts):
        base = f"sys/devices/system/cpu/cpu{core}"
        files[f"{base}/cpufreq/cpuinfo_max_freq"] = highest
        files[f"{base}/cpufreq/scaling_governor"] = f"governor-of-{core}"
        if capacity:
            files[f"{base}/cpu_capacity"] = capacity
    return tree(root, files)


def rock(root: Path) -> Path:
    """As an RK3588 has them; its fast cores come in two groups whose clocks differ from chip to chip."""
    return board(root, *[(LITTLE, 530, 1_800_000)] * 4, *[(BIG, 1024, 2_304_000)] * 2, *[(BIG, 1003, 2_256_000)] * 2)


def test_unequal_cores_are_named_fastest_first(tmp_path: Path) -> None:
    found = kinds(rock(tmp_path))
    assert found == [Kind("Cortex-A76", (4, 5, 6, 7)), Kind("Cortex-A55", (0, 1, 2, 3))]
    assert described(found) == "4x Cortex-A76 + 4x Cortex-A55"
    assert described(found, [5, 6, 1]) == "2x Cortex-A76 + 1x Cortex-A55"


def test_cores_of_one_name_and_two_speeds_are_told_apart_by_their_clock(tmp_path: Path) -> None:
    found = kinds(
        board(tmp_path, *[(LITTLE, 250, 1_800_000)] * 4, *[(BIG, 871, 2_420_000)] * 3, (BIG, 1024, 2_840_000))
    )
    assert described(found) == "1x Cortex-A76 (2.84 GHz) + 3x Cortex-A76 (2.42 GHz) + 4x Cortex-A55"


def test_without_capacities_the_highest_clock_orders_them_and_unknown_parts_keep_their_numbers(tmp_path: Path) -> None:
    found = kinds(board(tmp_path, (LITTLE, 0, 1_800_000), ("0xfff", 0, 2_000_000)))
    assert described(found) == "1x Arm core 0x41/0xfff + 1x Cortex-A55"


def test_x86_processors_of_two_kinds_are_told_by_the_kernels_counters(tmp_path: Path) -> None:
    tree(tmp_path, {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-7,9"})
    assert described(kinds(tmp_path)) == "4x performance + 5x efficient"


@pytest.mark.parametrize(("text", "found"), [("0-2,5", [0, 1, 2, 5]), ("3", [3]), ("", []), ("x", [])])
def test_sets_of_cores_are_read_as_the_kernel_writes_them(text: str, found: list[int]) -> None:
    assert listed(text) == found


def test_keys_of_equal_cores_are_as_they_were(tmp_path: Path) -> None:
    """A board of four equal cores, and this machine: not one entry more than before there were kinds."""
    old = {"cpu", "arch", "cores", "memory_gib", "features"}
    equal = board(tmp_path, *[(BIG, 1024, 2_400_000)] * 4)
    for root in (equal, tmp_path / "nothing"):
        found = probe.device({}, threads=1, pinned=True, cores=[2], root=root)
        assert set(found["device_class"]) == old
        assert set(found["regime"]) == {"threads", "pinned", "governor"}
    assert probe.device({}, threads=1, pinned=True, cores=[2], root=equal)["regime"]["governor"] == "governor-of-0"


def test_this_machines_key_is_what_its_own_files_say() -> None:
    here = probe.device({}, threads=1, pinned=True, cores=[0])
    if len(kinds()) > 1:
        pytest.skip("this machine has cores of unequal size")
    assert set(here["device_class"]) == {"cpu", "arch", "cores", "memory_gib", "features"}
    assert set(here["regime"]) - {"power_mode"} == {"threads", "pinned", "governor"}


def test_keys_of_unequal_cores_say_what_there_is_and_what_was_pinned_to(tmp_path: Path) -> None:
    root = rock(tmp_path)
    found = probe.device({}, threads=2, pinned=True, cores=[1, 2], root=root)
    assert found["device_class"]["core_kinds"] == "4x Cortex-A76 + 4x Cortex-A55"
    assert found["regime"]["core_kind"] == "2x Cortex-A55"
    assert found["regime"]["governor"] == "governor-of-1"
    assert probe.device({}, threads=2, pinned=True, cores=[4, 6], root=root)["regime"]["core_kind"] == "2x Cortex-A76"
    assert probe.device({}, threads=2, pinned=False, root=root)["regime"]["core_kind"] == "any"


TWO = [Kind("Cortex-A76", (4, 5)), Kind("Cortex-A55", (0, 1))]
FOUR = [Kind("Cortex-X1", (7,)), Kind("Cortex-A78", (5, 6)), Kind("Cortex-A76", (4,)), Kind("Cortex-A55", (0, 1))]


@pytest.mark.parametrize(
    ("found", "choice", "numbers"),
    [
        (TWO, "big", (4, 5)),
        (TWO, "little", (0, 1)),
        (FOUR, "prime", (7,)),
        (FOUR, "big", (5, 6)),
        (FOUR, "little", (0, 1)),
    ],
)
def test_a_target_chooses_a_kind(found: list[Kind], choice: str, numbers: tuple[int, ...]) -> None:
    assert chosen(found, choice) == numbers


def test_a_kind_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadInput, match=r"this device has big \(2x Cortex-A76\), little \(2x Cortex-A55\)"):
        chosen(TWO, "prime")
    with pytest.raises(BadInput, match=r"all of one kind\. Leave out cores"):
        chosen(TWO[:1], "big")


def test_cores_are_pinned_to_the_kind_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "kinds", lambda: TWO)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 4, 5})
    assert load.choose_cores(2, {}, "little") == [0, 1]
    assert load.choose_cores(2, {}, "big") == [4, 5]
    with pytest.raises(BadInput, match="3 threads on little cores; this device offers 1 to 2"):
        load.choose_cores(3, {}, "little")


def test_a_target_names_the_kind_and_nothing_else() -> None:
    assert find_target("local:cores=little,threads=2").cores == "little"
    with pytest.raises(BadInput, match="cores 'small' is none of big, little, prime"):
        find_target("local:cores=small")
    assert set(cores.named(FOUR)) == set(cores.CHOICES)
