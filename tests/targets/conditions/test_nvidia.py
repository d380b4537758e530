"""What an NVIDIA GPU's driver says, from a stand-in for its library: a few dozen lines of C under the real one's name,
loaded and called as the real one is. Nothing here was seen on a GPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from targets import conditions
from targets.conditions.nvidia import LIBRARY
from targets.conditions.source import Findings, Lock, Readings

SOURCE = """
#include <string.h>
int nvmlInit_v2(void) { return INIT; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device) {
  *device = (void *)0x70000001;
  return strcmp(address, "0000:65:00.0") ? 6 : 0;
}
#define KNOWN(device) if ((device) != (void *)0x70000001) return 2
int REASONS_NAME(void *device, unsigned long long *reasons) { KNOWN(device); *reasons = 0x6; return 0; }
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz) {
  KNOWN(device); *mhz = which == 1 ? 1410 : 1593; return 0;
}
int nvmlDeviceGetMaxClockInfo(void *device, int which, unsigned *mhz) {
  KNOWN(device); *mhz = which == 1 ? 1980 : 1593; return 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *c) { KNOWN(device); *c = 61; return sensor; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *mw) { KNOWN(device); *mw = 69500; return 0; }
int nvmlDeviceGetPersistenceMode(void *device, unsigned *on) { KNOWN(device); *on = 1; return 0; }
int nvmlDeviceGetApplicationsClock(void *device, int which, unsigned *mhz) { KNOWN(device); return 3; }
int nvmlDeviceGetViolationStatus(void *device, int policy, unsigned long long *times) {
  KNOWN(device); times[0] = 1000000; times[1] = policy ? 0 : 5000000000ULL; return 0;
}
"""
READ = """
import json
from targets import conditions
from targets.conditions.source import Place
print(json.dumps([conditions.read(Place(gpu=gpu)).get("nvidia") for gpu in ("0000:65:00.0", "0000:01:00.0", "")]))
"""


def read(folder: Path, init: int = 0, reasons: str = "nvmlDeviceGetCurrentClocksEventReasons") -> Any:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a library with")
    (folder / "nvml.c").write_text(SOURCE)
    given = [f"-DINIT={init}", f"-DREASONS_NAME={reasons}", "nvml.c", "-o", LIBRARY]
    subprocess.run([compiler, "-shared", "-fPIC", *given], cwd=folder, check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name", ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"]
)
def test_the_gpu_of_the_runtime_is_read_and_no_other(tmp_path: Path, name: str) -> None:
    found, unknown, none = read(tmp_path, reasons=name)
    assert unknown is None
    assert none is None
    assert found == {
        "gpu": "0000:65:00.0", "reasons": 6, "sm_mhz": 1410, "memory_mhz": 1593, "max_sm_mhz": 1980,
        "max_memory_mhz": 1593, "temperature_c": 61, "power_mw": 69500, "persistence": 1,
        "power_held_ns": 5_000_000_000, "power_reference_us": 1_000_000, "thermal_held_ns": 0,
        "thermal_reference_us": 1_000_000,
    }  # fmt: skip


def test_a_driver_that_does_not_start_tells_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, init=9) == [None, None, None]


def judged(before: Readings, after: Readings) -> Findings:
    gpu = {"gpu": "0000:65:00.0"}
    return conditions.judge({"nvidia": {**gpu, **before}}, {"nvidia": {**gpu, **after}})


@pytest.mark.parametrize(
    ("bits", "cause"),
    [
        (0x4, "its power limit"),
        (0x8, "a slowdown in hardware"),
        (0x20, "its heat"),
        (0x48, "a slowdown in hardware, its heat, in hardware"),
        (0x80, "the supply's power brake"),
    ],
)
def test_heat_and_power_void_a_session(bits: int, cause: str) -> None:
    assert judged({"reasons": 1}, {"reasons": bits | 0x2}).throttled == (f"The GPU was held down by {cause}.",)


@pytest.mark.parametrize("bits", [0x0, 0x1, 0x2, 0x10, 0x100, 0x113])
def test_idling_settings_and_displays_void_nothing(bits: int) -> None:
    assert judged({"reasons": bits}, {"reasons": bits}) == Findings()


def test_what_passed_as_the_session_began_counts_for_heat_only() -> None:
    assert judged({"reasons": 0x4}, {"reasons": 0}) == Findings()
    assert judged({"reasons": 0x40}, {"reasons": 0}).throttled != ()


@pytest.mark.parametrize(("held_ms", "throttled"), [(0, False), (10, False), (50, True)])
def test_time_held_down_within_a_session_counts_though_it_is_over(held_ms: int, throttled: bool) -> None:
    before = {"power_held_ns": 7, "power_reference_us": 10}
    after = {"power_held_ns": 7 + held_ms * 1_000_000, "power_reference_us": 2_000_010, "reasons": 1}
    expected = ("The GPU was held down by its power limit.",) if throttled else ()
    assert judged(before, after).throttled == expected


@pytest.mark.parametrize(
    ("clocks", "lock"),
    [
        (
            {"application_sm_mhz": 1200, "default_sm_mhz": 1312},
            Lock(True, "the GPU's application clocks are 1200 MHz", "", by_hand=True),
        ),
        (
            {"application_sm_mhz": 1312, "default_sm_mhz": 1312, "max_sm_mhz": 1530, "max_memory_mhz": 877},
            Lock(
                False, "the GPU's application clocks are 1312 MHz, their default", "sudo nvidia-smi -i G -ac 877,1530"
            ),
        ),
        ({"max_sm_mhz": 1980}, Lock(None, "the GPU does not tell", "sudo nvidia-smi -i G -lgc 1980,1980")),
        (  # a default that is the highest tells nothing
            {"application_sm_mhz": 1980, "default_sm_mhz": 1980, "max_sm_mhz": 1980, "max_memory_mhz": 2619},
            Lock(None, "the GPU does not tell", "sudo nvidia-smi -i G -lgc 1980,1980"),
        ),
    ],
)
def test_application_clocks_tell_whether_the_gpu_is_held(clocks: Readings, lock: Lock) -> None:
    assert conditions.lock_of({"nvidia": {"gpu": "G", **clocks}}) == lock


def test_a_gpu_that_does_not_tell_makes_the_whole_unknown() -> None:
    held = {"clocks": {"cpu0": {"governor": "performance"}}}
    assert conditions.lock_of({"cpufreq": held}).held is True
    assert conditions.lock_of({"cpufreq": held, "nvidia": {"gpu": "G"}}).held is None
