"""The fingerprint, from what real systems put into their files."""

from pathlib import Path

import pytest

from targets import probe

EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu sse2 avx avx2 fma f16c avx512f avx512_vnni

processor\t: 1
vendor_id\t: AuthenticAMD
"""

RASPBERRY = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""


def test_the_processor_is_named_with_the_numbers_that_hypervisors_leave_out() -> None:
    assert probe.cpu_name(EPYC) == "AMD EPYC (family 25, model 17)"


def test_arm_processors_of_one_name_are_told_apart_by_their_parts() -> None:
    jetson = "model name\t: ARMv8 Processor rev 1 (v8l)\n"
    assert probe.cpu_name(f"{jetson}CPU part\t: 0xd42\n" * 2) == "ARMv8 Processor rev 1 (v8l) (part 0xd42)"
    assert probe.cpu_name("CPU part\t: 0xd05\nCPU part\t: 0xd0a\n") == "Arm part 0xd05, 0xd0a"


def test_only_features_that_choose_kernels_are_kept() -> None:
    assert probe.features(EPYC) == ["avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni"]
    assert probe.features(RASPBERRY) == ["asimd", "asimdhp", "asimddp"]
    assert probe.features("") == []


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "clocks", "arch_status", "emulated"),
    [
        ("x86_64", EPYC, "kvm-clock tsc acpi_pm", True, False),
        ("aarch64", RASPBERRY, "arch_sys_counter", False, False),
        ("aarch64", EPYC, "", False, True),
        ("aarch64", RASPBERRY, "tsc hpet acpi_pm", False, True),  # an emulator that writes its own cpuinfo
        ("aarch64", RASPBERRY, "", True, True),  # the same where /sys is not mounted
        ("x86_64", RASPBERRY, "arch_sys_counter", False, True),
        ("riscv64", EPYC, "tsc", True, True),
        ("aarch64", "", "", False, False),
    ],
)
def test_an_emulated_processor_shows_through(
    machine: str, cpuinfo: str, clocks: str, arch_status: bool, emulated: bool
) -> None:
    assert probe.is_emulated(machine, cpuinfo, clocks, arch_status) is emulated


def test_two_fingerprints_of_one_device_have_one_key() -> None:
    first, second = (probe.device({"runtime": "x"}, threads=1, pinned=True) for _ in range(2))
    for part in ("device_class", "stack", "regime", "emulated"):
        assert first[part] == second[part]


def test_a_boards_power_mode_is_in_the_key_of_its_times_and_of_no_others(
    tmp_path: Path,
) -> None:
    status = tmp_path / "var/lib/nvpmodel/status"
    assert "power_mode" not in probe.device({}, threads=1, pinned=True, root=tmp_path)["regime"]
    status.parent.mkdir(parents=True)
    status.write_text("pmode:0002\nfmode:quiet\n")
    assert probe.device({}, threads=1, pinned=True, root=tmp_path)["regime"]["power_mode"] == "pmode:0002 fmode:quiet"
