"""What each source reads and what of it voids a session, on fake trees and answers: see `trees`. None of it was
recorded on a device."""

import fcntl
import json
import struct
from pathlib import Path

import pytest

from targets import conditions
from targets.conditions import Conditions, Observation
from targets.conditions.cpufreq import HOLD
from targets.conditions.jetson import power_mode
from targets.conditions.source import Findings, Lock, Place, ask
from tests.targets.conditions.trees import BATTERY, PI, THERMAL, Asked, cpufreq, jetson, place, tree

ZONE, COOLING = "sys/class/thermal/thermal_zone0", "sys/class/thermal/cooling_device0"


def between(root: Path, before: dict[str, object], after: dict[str, object], *cores: int) -> Findings:
    """What is said of a session in which these files changed."""
    earlier = conditions.read(place(tree(root, before), *cores))
    return conditions.judge(earlier, conditions.read(place(tree(root, after), *cores)))


def test_a_device_without_any_source_says_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    assert Observation(place(tmp_path, 0)).end() == ((), (), {})


def test_this_machine_is_read_without_an_error_and_as_json() -> None:
    here = Place(cores=(0,))
    found = conditions.read(here)
    assert json.loads(json.dumps(found)) == found
    assert set(found) <= {source.name for source in conditions.SOURCES}
    assert Observation(here).end().document.keys() == ({"before", "after", "throttled", "lock"} if found else set())


def test_no_two_sources_share_a_name() -> None:
    names = [source.name for source in conditions.SOURCES]
    assert len(set(names)) == len(names)


# heat


def test_temperatures_are_kept_and_zones_that_are_off_are_not(tmp_path: Path) -> None:
    off = "sys/class/thermal/thermal_zone1"
    tree(tmp_path, {f"{ZONE}/temp": 63625, f"{ZONE}/type": "cpu-thermal", f"{off}/temp": -274000, f"{off}/type": "x"})
    found = conditions.read(place(tmp_path))
    assert found["heat"] == {"zones_c": {"0 cpu-thermal": 63.625}, "temperature_c": 63.625}


def test_a_processor_that_throttled_itself_voids_a_session(tmp_path: Path) -> None:
    counter = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    before: dict[str, object] = {counter.format(0): 2, counter.format(1): 5}
    said = ("The processor throttled itself for heat.",)
    assert between(tmp_path, before, {counter.format(0): 3}, 0) == Findings(throttled=said)
    assert between(tmp_path, before, {counter.format(1): 6}, 0) == Findings()  # another core's


@pytest.mark.parametrize(
    ("kind", "state", "throttled"),
    [("cpufreq-cpu0", 2, 1), ("thermal-cpufreq-1", 1, 1), ("Processor", 1, 1), ("Fan", 9, 0), ("cpufreq-cpu0", -1, 0)],
)
def test_only_what_cools_processors_counts_as_throttling(tmp_path: Path, kind: str, state: int, throttled: int) -> None:
    files: dict[str, object] = {f"{COOLING}/type": kind, f"{COOLING}/cur_state": 0}
    found = between(tmp_path, files, {f"{COOLING}/cur_state": state})
    assert len(found.throttled) == throttled


# cpufreq


def test_a_clock_that_may_fall_with_the_load_is_not_held(tmp_path: Path) -> None:
    tree(tmp_path, {**cpufreq(0), **cpufreq(1, "performance")})
    assert conditions.lock_of(conditions.read(place(tmp_path, 1))).held is True
    free = conditions.lock_of(conditions.read(place(tmp_path, 0, 1)))
    assert free == Lock(False, "cpu0 has the governor schedutil, 0.60 GHz to 2.40 GHz", HOLD)
    tree(tmp_path, cpufreq(0, low=2_400_000))
    assert conditions.lock_of(conditions.read(place(tmp_path, 0, 1))).held is True
    assert conditions.read(place(tmp_path)) == conditions.read(place(tmp_path, 0, 1))  # unpinned: all of them


def test_a_limit_that_moved_voids_and_one_that_stands_is_a_doubt(tmp_path: Path) -> None:
    low = cpufreq(0, high=1_800_000)
    moved = "The system moved the limit of its clock from 2.40 GHz to 1.80 GHz."
    assert between(tmp_path, cpufreq(0), low, 0) == Findings(throttled=(moved,))
    stands = "Its clock is limited to 1.80 GHz of 2.40 GHz, by a setting or for heat."
    assert between(tmp_path, low, low, 0) == Findings(doubts=(stands,))
    held = cpufreq(0, low=1_800_000, high=1_800_000)
    assert between(tmp_path, held, held, 0) == Findings()  # somebody holds it there


# Jetson


@pytest.mark.parametrize("gpu", ["17000000.gpu", "17000000.ga10b"])
def test_a_jetson_tells_its_mode_its_clocks_its_rails_and_its_events(tmp_path: Path, gpu: str) -> None:
    found = conditions.read(place(tree(tmp_path, jetson(gpu=gpu))))["jetson"]
    assert found == {
        "power_mode": "MAXN_SUPER fmode:quiet",
        "clocks": {
            "cpu0": {"min_khz": 729_600, "max_khz": 1_728_000, "now_khz": 1_728_000},
            f"gpu {gpu}": {"min_khz": 306_000, "max_khz": 1_020_000, "now_khz": 1_020_000},
            "memory": {"min_khz": 204_000, "max_khz": 3_199_000, "now_khz": 3_199_000},
        },
        "over_current": {"oc1": 0, "oc2": 4, "oc3": 27},
        "rails_mw": {"VDD_IN": 9309},
    }


def test_other_boards_are_no_jetson(tmp_path: Path) -> None:
    assert "jetson" not in conditions.read(place(tree(tmp_path, {**jetson(), **PI})))


@pytest.mark.parametrize(
    ("status", "modes", "named"),
    [
        ("pmode:0000", True, "15W"),
        ("pmode:0002\nfmode:quiet", True, "MAXN_SUPER fmode:quiet"),
        ("pmode:0007", True, "pmode:0007"),  # a mode that the file does not have
        ("pmode:0002", False, "pmode:0002"),
    ],
)
def test_a_power_mode_has_its_name_where_the_board_tells_it(
    tmp_path: Path, status: str, modes: bool, named: str
) -> None:
    tree(tmp_path, {"var/lib/nvpmodel/status": status})
    if modes:
        tree(tmp_path, {"etc/nvpmodel.conf": jetson()["etc/nvpmodel.conf"]})
    assert power_mode(tmp_path) == named


def test_events_of_the_supply_void_a_session(tmp_path: Path) -> None:
    after: dict[str, object] = {"sys/class/hwmon/hwmon3/oc3_event_cnt": 30}
    reason = "The board throttled for its supply: oc3 counted 3 events (it drew too much for a moment)."
    assert between(tmp_path, jetson(), after) == Findings(throttled=(reason,))
    assert between(tmp_path, jetson(), {}) == Findings()


def test_a_gpu_below_the_least_that_is_set_was_throttled(tmp_path: Path) -> None:
    held = jetson(gpu_low=1_020_000_000)
    (reason,) = between(tmp_path, held, {"sys/class/devfreq/17000000.gpu/cur_freq": 612_000_000}).throttled
    assert reason == "The GPU's clock was 0.61 GHz where 1.02 is the least set."


def test_a_power_mode_that_changes_voids_a_session_and_cooling_would_not_help(tmp_path: Path) -> None:
    found = between(tmp_path, jetson(), {"var/lib/nvpmodel/status": "pmode:0000 fmode:quiet"})
    assert found == Findings(voided=("The power mode went from MAXN_SUPER fmode:quiet to 15W fmode:quiet.",))


def test_jetson_clocks_holds_processor_gpu_and_memory(tmp_path: Path) -> None:
    clock = jetson(low_khz=1_728_000, gpu_low=1_020_000_000)
    memory = "sys/kernel/debug/bpmp/debug/clk/emc"

    def lock(files: dict[str, object]) -> tuple[bool | None, str, str]:
        return conditions.lock_of(conditions.read(place(tree(tmp_path, files))))[:3]

    how = "sudo jetson_clocks"
    assert lock(jetson()) == (False, "cpu0 may go from 0.73 to 1.73 GHz", how)
    assert lock(jetson(low_khz=1_728_000))[:2] == (False, "gpu 17000000.gpu may go from 0.31 to 1.02 GHz")
    assert lock(clock)[:2] == (False, "memory may go from 0.20 to 3.20 GHz")
    assert lock({**clock, f"{memory}/mrq_rate_locked": 1})[0] is True
    # jetson_clocks leaves the governor: what the board says of its clocks comes with its own command
    assert lock({**jetson(), **cpufreq(0)})[2] == how


# Raspberry Pi


def pi(root: Path, answer: str) -> Conditions:
    return conditions.read(place(tree(root, PI), asked=Asked({"vcgencmd_get_throttled": answer})))


@pytest.mark.parametrize(
    ("before", "after", "doubts", "throttled"),
    [
        ("0x0", "0x0", [], []),
        ("0x0", "0x50005", [], ["The supply's voltage was too low.", "The firmware throttled the processor."]),
        ("0x0", "0x20000", [], ["The firmware capped the processor's clock."]),  # it was, and is no more
        ("0x8", "0x80000", [], ["The soft temperature limit was reached."]),  # it was as the session began
        (
            "0x50000",
            "0x50000",
            ["The supply's voltage was too low before the session", "The firmware throttled the processor before"],
            [],
        ),
    ],
)
def test_what_the_firmware_did_during_a_session_voids_it_and_what_it_did_before_is_a_doubt(
    tmp_path: Path, before: str, after: str, doubts: list[str], throttled: list[str]
) -> None:
    found = conditions.judge(pi(tmp_path, f"throttled={before}\n"), pi(tmp_path, f"throttled={after}\n"))
    assert list(found.throttled) == throttled
    assert len(found.doubts) == len(doubts)
    assert all(doubt.startswith(start) for doubt, start in zip(found.doubts, doubts, strict=True))


@pytest.mark.parametrize("soc", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_without_the_command_the_kernels_file_is_read(tmp_path: Path, soc: str) -> None:
    tree(tmp_path, {f"sys/devices/platform/{soc}/get_throttled": "50005"})
    assert pi(tmp_path, "")["raspberry"] == {"throttled": 0x50005, "from": "sysfs"}


def test_the_mailbox_is_asked_where_the_command_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's side of it is the test's: a fake ioctl that answers as the firmware's documentation says."""
    asked: list[tuple[int, tuple[int, ...]]] = []

    def ioctl(file: object, request: int, message: bytearray) -> int:
        words = struct.unpack("=7I", message)
        asked.append((request, words))
        message[:] = struct.pack("=7I", words[0], 0x80000000, *words[2:4], 0x80000004, 0x50005, 0)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    tree(tmp_path, {"dev/vcio": ""})
    assert pi(tmp_path, "")["raspberry"] == {"throttled": 0x50005, "from": "mailbox"}
    assert asked == [(0xC0086400, (28, 0, 0x00030046, 4, 0, 0, 0))]  # of a system of 64 bits


def test_an_answer_that_is_none_and_a_mailbox_that_is_none_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, {"dev/vcio": "", "sys/devices/platform/soc/soc:firmware/get_throttled": "no number"})
    assert pi(tmp_path, "VCHI initialization failed") == {}
    asked = Asked({"vcgencmd_get_throttled": "throttled=0x0"})
    assert conditions.read(place(tmp_path / "no-pi", asked=asked)) == {}
    assert asked.commands == []


# Android


def phone(
    root: Path, status: int = 0, usb: str = "false", charge: int = 3, level: int = 85, saving: str = "0"
) -> Conditions:
    answers = {
        "dumpsys_thermalservice": THERMAL.format(status=status),
        "dumpsys_battery": BATTERY.format(usb=usb, charge=charge, level=level),
        "settings_get_global_low_power": saving,
    }
    return conditions.read(place(tree(root, {"system/build.prop": ""}), asked=Asked(answers)))


def test_a_phone_tells_the_temperatures_of_now_and_its_battery(tmp_path: Path) -> None:
    assert phone(tmp_path)["android"] == {
        "status": 0,
        "zones_c": {"CPU0": 44.8, "SKIN": 38.0, "BAT": 55.5},
        "temperature_c": 44.8,  # of what computes and what is held: a battery takes an hour to cool
        "level": 85,
        "charge_status": 3,
        "battery_decidegrees": 310,
    }


def test_a_phones_thermal_status_voids_a_session(tmp_path: Path) -> None:
    reason = "Android throttled for heat: its thermal status was moderate."
    assert conditions.judge(phone(tmp_path), phone(tmp_path, status=2)) == Findings(throttled=(reason,))
    assert conditions.judge(phone(tmp_path, status=1), phone(tmp_path)).throttled != ()


@pytest.mark.parametrize(
    ("after", "doubt"),
    [
        ({"usb": "true", "charge": 2, "level": 5}, "It was charging (USB), which warms it."),
        ({"level": 12}, "The battery was at 12 %, where phones may hold clocks down."),
        ({"saving": "1"}, "Power saving was on, which holds clocks down."),
    ],
)
def test_charging_an_empty_battery_and_power_saving_are_doubts(
    tmp_path: Path, after: dict[str, str], doubt: str
) -> None:
    assert conditions.judge(phone(tmp_path), phone(tmp_path, **after)) == Findings(doubts=(doubt,))  # type: ignore[arg-type]


def test_a_full_phone_on_its_cable_is_neither_charging_nor_empty(tmp_path: Path) -> None:
    full = phone(tmp_path, usb="true", charge=5, level=100)
    assert full["android"]["powered"] == "USB"
    assert conditions.judge(full, full) == Findings()


def test_a_phone_that_refuses_to_tell_is_left_out(tmp_path: Path) -> None:
    refused = Asked({"dumpsys_battery": "Permission Denial: can't dump BatteryService\n"})
    assert conditions.read(place(tree(tmp_path, {"system/build.prop": ""}), asked=refused)) == {}


def test_commands_are_argument_vectors_and_those_that_are_missing_or_fail_say_nothing(tmp_path: Path) -> None:
    assert ask(("echo", "a b", "$HOME;")) == "a b $HOME;\n"
    assert ask((str(tmp_path / "missing"),)) == ""
    assert ask(("false",)) == ""
