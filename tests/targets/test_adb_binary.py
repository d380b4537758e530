"""Phones without Python: a runtime's own benchmark, run through adb on a stand-in (see `tests.targets.adbd`), and
stand-ins for these programs (see `tests.targets.phone_programs`)."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from targets.adb import client, facts, lease, snapshot
from targets.adb import phone as phone_module
from targets.adb.benchmark import BENCHMARKS
from targets.adb.client import Adb, ready, whole
from targets.adb.facts import choose_cores, compare, fingerprint, mask_of, read_facts, read_state
from targets.adb.mnn_module import KERNEL, MEAN
from targets.adb.perf_test import TOLD, newest
from targets.adb.phone import Phone as Place
from targets.adb.sessions import means, single_runs
from targets.adb.snapshot import Snapshot, parsed
from targets.connection import Connection, connect
from targets.errors import BadInput, LinkLost, NoKernelTimes, TargetError
from targets.target import Target
from targets.timing import FULL, QUICK
from targets.upkeep import ask_about, clean
from tests.targets.adbd import ADB, Phone, adb, own_server, plug_in
from tests.targets.models import model_of, saved
from tests.targets.phone_programs import write_module_basic, write_perf_test, written
from tests.targets.test_adb import X, later, left_over, little_space, refused

pytestmark = pytest.mark.skipif(ADB is None, reason="adb is not installed (Debian: adb)")

PHONE = (
    "OPEN",
    "HAVE",
    "KEEP",
    "CLEAN",
    "FREE",
    "EMPTY",
    "ARRANGE",
    "RUN",
    "SHOW",
    "DIGEST",
    "LIST",
    "PINS",
    "EXECUTABLE",
)
SCRIPTS = {
    *(getattr(phone_module, name) for name in PHONE),
    *(getattr(lease, name) for name in ("TAKE", "RENEW", "RELEASE", "HOLDER")),
    facts.SCRIPT,
    snapshot.SCRIPT,
}


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with own_server(tmp_path_factory.mktemp("adb")) as port:
        yield port


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with plug_in(tmp_path_factory.mktemp("plugged") / "phone") as plugged:
        yield plugged
        adb("disconnect", plugged.serial)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Phone]:
    """A phone for a test that harms it."""
    with plug_in(tmp_path / "phone") as plugged:
        yield plugged
        adb("disconnect", plugged.serial)


@pytest.fixture
def place(own: Phone) -> Iterator[Place]:
    opened = Place(Adb("phone", ready("phone", own.serial)), "", "somebody@somewhere")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def by_onnxruntime(phone: Phone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    program = write_perf_test(tmp_path_factory.mktemp("programs"))
    with connect(phone.target(binary=str(program))) as opened:
        yield opened


@pytest.fixture(scope="module")
def by_mnn(phone: Phone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    pytest.importorskip("MNN", reason="MNN is not installed: pip install 'cutback[mnn]'")
    program = write_module_basic(tmp_path_factory.mktemp("programs"))
    with connect(phone.target(binary=str(program), runtime="mnn")) as opened:
        yield opened


def test_a_phone_says_what_it_is_without_python(by_onnxruntime: Connection) -> None:
    device = by_onnxruntime.device
    assert device.device_class["cpu"] == "STAND-IN-1"
    assert device.stack["os"] == "Android 15"
    assert device.stack["version"].startswith("binary ")
    assert device.stack["options"]["benchmark"] == "onnxruntime_perf_test"
    assert device.observed["serial"] == "STANDIN0001"
    assert device.emulated  # as every stand-in is: the database refuses its times
    assert device.regime["regime"] == "as-shipped"


def test_the_program_is_asked_what_it_reads(by_onnxruntime: Connection, connection: Connection) -> None:
    assert by_onnxruntime._reads == connection._reads


def test_every_run_of_the_benchmark_is_a_sample(by_onnxruntime: Connection, model: Path) -> None:
    session = by_onnxruntime.time(model, quick=True)
    assert session.protocol == "quick"
    assert len(session.samples_ns) >= QUICK.runs
    assert min(session.samples_ns) > 0
    assert session.warm_ups >= 3
    assert session.voided == ()


@pytest.mark.slow
def test_free_dimensions_are_bound_on_the_way(by_onnxruntime: Connection, model: Path) -> None:
    assert by_onnxruntime.describe(model)[0]["name"] == "x/in:0"
    assert by_onnxruntime.time(model, shapes={"x/in:0": (4, 3, 8, 8)}, quick=True).samples_ns
    with pytest.raises(BadInput, match="does not fit"):
        by_onnxruntime.time(model, shapes={"x/in:0": (4, 5, 8, 8)}, quick=True)


@pytest.mark.slow
def test_a_trace_of_the_benchmark_is_joined_to_the_graph(
    by_onnxruntime: Connection, connection: Connection, model: Path
) -> None:
    profile, local = by_onnxruntime.profile(model, runs=7), connection.profile(model, runs=7)
    assert [(kernel.name, kernel.nodes) for kernel in profile.kernels] == [(k.name, k.nodes) for k in local.kernels]
    assert {len(kernel.samples_ns) for kernel in profile.kernels} == {9}  # three processes, of three runs each
    assert len(profile.end_to_end.samples_ns) == 9
    assert len(profile.gauge_ns) == 27
    alone = by_onnxruntime.profile(model, runs=3, kernels_only=True)
    assert len(alone.end_to_end.samples_ns) == 3


def test_what_is_kept_on_the_phone_is_told_and_cleaned(phone: Phone, tmp_path: Path) -> None:
    target = phone.target(binary=str(write_perf_test(tmp_path)))
    about = ask_about(target)
    assert about.folder == str(phone.base)
    assert about.free_bytes > 0
    assert about.keeps
    assert about.busy_for is None
    (phone.base / "files" / ("0" * 64)).write_bytes(bytes(1 << 20))
    cleaned = clean(target)
    assert cleaned is not None
    assert cleaned.removed >= 1 << 20
    assert not (phone.base / "files" / ("0" * 64)).exists()


def test_what_shows_no_outputs_runs_nothing(by_onnxruntime: Connection, model: Path) -> None:
    with pytest.raises(TargetError, match=r"onnxruntime_perf_test shows no outputs.*or the runtime mnn"):
        by_onnxruntime.run(model, {"x/in:0": X})


@pytest.mark.slow
def test_an_engine_of_onnxruntime_is_its_graph(by_onnxruntime: Connection, model: Path, tmp_path: Path) -> None:
    engine = by_onnxruntime.build(model, tmp_path / "engine")
    assert engine.path.read_bytes() == model.read_bytes()
    assert by_onnxruntime.time(engine, quick=True).samples_ns


def test_a_model_that_the_program_refuses_is_one_line(by_onnxruntime: Connection, tmp_path: Path) -> None:
    node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], "odd", domain="nobody")
    broken = model_of([node], {"x": [1, 4]}, {"y": [1, 4]}, {})
    broken.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    path = tmp_path / "odd.onnx"
    onnx.save(broken, path)
    with pytest.raises(
        TargetError, match=r"^onnxruntime_perf_test cannot run odd\.onnx \(status 1\): [^\n]*Frobnicate"
    ):
        by_onnxruntime.time(path, quick=True)


@pytest.mark.slow
def test_a_throttled_phone_voids_the_session(by_onnxruntime: Connection, phone: Phone, model: Path) -> None:
    phone.heat(2)
    try:
        session = by_onnxruntime.time(model, quick=True)
    finally:
        phone.heat(0)
    assert session.voided == ("Android throttled for heat: its thermal status was moderate.",)
    assert session.throttled == session.voided


@pytest.mark.slow
def test_a_throttled_phone_is_waited_for(by_onnxruntime: Connection, phone: Phone) -> None:
    looked = phone.commands.count(whole(snapshot.SCRIPT))

    def cool_down() -> None:  # once it was looked at twice
        while phone.commands.count(whole(snapshot.SCRIPT)) < looked + 2:
            time.sleep(0.05)
        phone.heat(0)

    phone.heat(1)
    cooled = later(cool_down, 0.0)
    assert by_onnxruntime.cool()
    cooled.join()


@pytest.mark.slow
def test_outputs_come_back_from_the_phone(by_mnn: Connection, model: Path) -> None:
    with connect(Target("local-mnn", runtime="mnn")) as local:
        expected = local.run(model, {"x/in:0": X})
    found = by_mnn.run(model, {"x/in:0": X})
    assert set(found) == set(expected)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-4, atol=1e-5)  # six digits are written


@pytest.mark.slow
def test_a_mean_says_what_it_stands_for(by_mnn: Connection, model: Path, tmp_path: Path) -> None:
    engine = by_mnn.build(model, tmp_path / "engine", shapes={"x/in:0": X.shape})
    assert engine.path.name == "engine.mnn"
    session = by_mnn.time(engine, quick=True)
    assert len(session.samples_ns) == 5
    assert any("the mean of" in doubt and "runs of a process of its own" in doubt for doubt in session.doubts)


@pytest.mark.slow
def test_means_of_kernels_are_joined_to_the_graph(by_mnn: Connection, model: Path) -> None:
    with connect(Target("local-mnn", runtime="mnn")) as local:
        expected = local.profile(model, runs=3).kernels
    profile = by_mnn.profile(model, runs=8)
    assert [(kernel.name, kernel.nodes) for kernel in profile.kernels] == [(k.name, k.nodes) for k in expected]
    assert {len(kernel.samples_ns) for kernel in profile.kernels} == {8}
    assert len(profile.end_to_end.samples_ns) == len(profile.gauge_ns) == 8


OLD = """
import sys
print("Arguments: model.MNN runLoops saveAllTensors forwardType numberThread inputSize precision")
"""


@pytest.mark.slow
@pytest.mark.parametrize("other", [None, OLD])
def test_without_a_program_for_kernel_times_there_are_none(
    phone: Phone, model: Path, tmp_path: Path, other: str | None
) -> None:
    pytest.importorskip("MNN", reason="MNN is not installed: pip install 'cutback[mnn]'")
    program = write_module_basic(tmp_path / "programs", by_kernel=False)
    if other:
        written(program.with_name("MNNV2Basic.out"), other)  # its arguments are in another order: it is not used
    with connect(phone.target(binary=str(program), runtime="mnn")) as connection:
        profile = connection.profile(model, runs=1)
        assert profile.kernels == ()
        assert profile.end_to_end.samples_ns
        with pytest.raises(NoKernelTimes):
            connection.profile(model, kernels_only=True)


@pytest.mark.slow
def test_nothing_that_has_a_name_is_part_of_a_command(
    by_onnxruntime: Connection, by_mnn: Connection, phone: Phone, tmp_path: Path
) -> None:
    node = onnx.helper.make_node("Relu", ["$(reboot);'\"x"], ["y"], "`id`")
    odd = saved(model_of([node], {"$(reboot);'\"x": [1, 4]}, {"y": [1, 4]}, {}), tmp_path / "a b;$(id)'.onnx")
    assert by_onnxruntime.time(odd, quick=True).samples_ns
    feeds = {"$(reboot);'\"x": np.array([[-1, 0, 1, 2]], np.float32)}
    assert by_mnn.run(odd, feeds)["y"].tolist() == [[0, 0, 1, 2]]
    assert set(phone.commands) <= {whole(script) for script in SCRIPTS}


@pytest.mark.slow
def test_a_program_on_the_phone_is_named_by_its_path(phone: Phone, model: Path) -> None:
    there = write_perf_test(phone.data / "local/tmp/my programs")
    with connect(phone.target(binary=f"{there.parent}/../my programs/{there.name}")) as connection:
        assert connection.time(model, quick=True).samples_ns


def test_a_program_that_is_nowhere_says_so(phone: Phone) -> None:
    said = refused(phone.target(binary="/nowhere/perf"), BadInput)
    assert said.startswith("/nowhere/perf is no program on phone, and no file here. Push it there and chmod 755 it.")
    said = refused(phone.target(binary="perf"), BadInput)
    assert "is no file here. Name one, or its whole path on the phone" in said


def test_a_program_for_another_processor_says_so(phone: Phone, tmp_path: Path) -> None:
    wrong = tmp_path / "onnxruntime_perf_test"
    wrong.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
    assert re.search(
        r"does not start there \(status 12[67]\).*Build it for this phone's processor",
        refused(phone.target(binary=str(wrong)), TargetError),
    )


@pytest.mark.slow
def test_other_runtimes_and_options_are_refused(phone: Phone, tmp_path: Path) -> None:
    program = str(write_perf_test(tmp_path))
    assert re.search(
        f"binary= is for the runtimes {', '.join(BENCHMARKS)}, not for openvino",
        refused(phone.target(binary=program, runtime="openvino"), BadInput),
    )
    assert re.search(
        "has no option 'provider' here",
        refused(Target("phone", "adb", address=phone.serial, binary=program, options={"provider": "nnapi"}), BadInput),
    )
    assert re.search(
        "this phone offers 1 to",
        refused(Target("phone", "adb", address=phone.serial, binary=program, threads=999), BadInput),
    )


def test_what_arrives_damaged_never_gets_its_name(own: Phone, place: Place, model: Path) -> None:
    own.damages = True
    with pytest.raises(TargetError, match="arrived damaged at phone and was not kept"):
        place.store(model)
    assert list((own.base / "files").iterdir()) == []
    own.damages = False
    assert (own.base / "files" / place.store(model)).read_bytes() == model.read_bytes()


def test_what_a_power_cut_has_left_is_pushed_again(own: Phone, place: Place, model: Path) -> None:
    kept = own.base / "files" / place.store(model)
    kept.write_bytes(b"")  # named, and never written to the flash
    again = Place(place.adb, "", "somebody@somewhere")
    assert again.store(model) == kept.name
    assert kept.read_bytes() == model.read_bytes()
    again.close()


def test_a_push_that_ends_early_leaves_no_file(own: Phone, place: Place, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(64 << 20))
    unplugged = later(own.unplug, 0.1)
    with pytest.raises((TargetError, LinkLost)):
        place.store(large)
    unplugged.join()
    assert list((own.base / "files").iterdir()) == []
    ready("phone", own.serial)


def test_a_phone_without_space_for_a_file_says_so(own: Phone, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(1 << 20))
    with little_space(own.base, "256k"):
        place = Place(Adb("phone", ready("phone", own.serial)), "", "somebody@somewhere")
        with pytest.raises(TargetError, match=r"^phone: there is no space left on it\. Free some\.$"):
            place.store(large)
        assert list((own.base / "files").iterdir()) == []


def test_a_script_that_was_cut_off_has_not_answered(place: Place) -> None:
    with pytest.raises(LinkLost, match="the connection was lost"):
        place.adb.shell("echo half; exit 0", [])  # as adb ends when its server is killed: with nothing wrong


def test_what_sends_more_than_it_was_asked_for_is_cut_off(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ASKED_EVERY_S", 0.02)
    with pytest.raises(TargetError, match="sends more than it was asked for"):
        place.adb.fetch("cat /dev/zero", [], tmp_path / "zeros", most_bytes=1 << 16, limit_s=60)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", ""])
def test_a_place_outside_of_the_folder_is_refused(place: Place, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be the name of a file over there"):
        place.arrange({name: ""})


def test_a_program_and_the_lease_end_when_the_cable_is_pulled(own: Phone, place: Place, tmp_path: Path) -> None:
    lease.PhoneLease(place.adb, place.token, "somebody@somewhere").take(lambda holder: None)
    sleeper = written(tmp_path / "sleeper", "import time\ntime.sleep(600)\n")
    place.arrange({"program": place.store(sleeper)})
    unplugged = later(own.unplug, 0.5)
    with pytest.raises((TargetError, LinkLost)):
        place.run(["./program"], "", 60)
    unplugged.join()
    assert left_over(own) == []
    assert not held(own).exists()
    ready("phone", own.serial)


def test_a_program_that_takes_too_long_is_ended(own: Phone, place: Place, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(phone_module, "RUNNING_S", 0.3)
    monkeypatch.setattr(client, "ASKED_EVERY_S", 0.05)
    sleeper = written(tmp_path / "sleeper", "import time\ntime.sleep(600)\n")
    place.arrange({"program": place.store(sleeper)})
    with pytest.raises(LinkLost, match="nothing came back within"):
        place.run(["./program"], "", 0.1)
    assert left_over(own) == []


def test_how_a_program_ended_and_what_it_said_come_back(place: Place, tmp_path: Path) -> None:
    program = written(tmp_path / "program", "import sys\nprint('so', *sys.argv[1:])\nsys.exit(7)\n")
    place.arrange({"program": place.store(program)})
    assert place.run(["./program", "$HOME", "a  b", ""], "", 10) == (7, "so $HOME a  b \n")


def test_what_varies_is_part_of_no_command(own: Phone, place: Place, tmp_path: Path) -> None:
    program = written(tmp_path / "$(reboot);'", "import sys\nprint(open('a/`id`').read(), *sys.argv[1:])\n")
    text = tmp_path / "a b"
    text.write_text("text", encoding="ascii")
    place.arrange({"program": place.store(program), "a/`id`": place.store(text)})
    assert place.run(["./program", "$(reboot);'\"", "&&"], "", 10) == (0, "text $(reboot);'\" &&\n")
    assert set(own.commands) <= {whole(script) for script in SCRIPTS}
    with pytest.raises(BadInput, match="cannot be sent to a phone"):
        place.run(["./program", "two\nlines"], "", 10)


def held(own: Phone) -> Path:
    return own.data / "local/tmp/cutback.busy"


def test_one_measurement_at_a_time(own: Phone, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "ASKED_EVERY_S", 0.01)
    first = lease.PhoneLease(place.adb, "a" * 16, "first@host")
    second = lease.PhoneLease(place.adb, "b" * 16, "second@host")
    waited: list[str] = []

    def wait(holder: str) -> None:
        waited.append(holder)
        first.release()

    first.take(lambda holder: None)
    first.renew()
    second.take(wait)
    assert waited == ["first@host"]
    second.renew()
    second.release()
    assert not held(own).exists()


@pytest.mark.parametrize("how", ["late", "restarted", "impossible"])
def test_a_lease_of_a_host_that_is_gone_is_taken(own: Phone, place: Place, how: str) -> None:
    dead = lease.PhoneLease(place.adb, "a" * 16, "dead@host")
    dead.take(lambda holder: None)
    until, boot, *rest = (held(own) / "owner").read_text().splitlines()
    changed = {
        "late": ["1", boot],
        "restarted": [until, "another start of the phone"],
        "impossible": [str(int(until) + 10_000), boot],
    }[how]
    (held(own) / "owner").write_text("\n".join([*changed, *rest]) + "\n")
    living = lease.PhoneLease(place.adb, "b" * 16, "living@host")
    waited: list[str] = []
    living.take(waited.append)
    assert waited == []
    with pytest.raises(TargetError, match="given to another host"):
        dead.renew()
    dead.release()  # which is no longer its own
    living.renew()
    living.release()
    assert not held(own).exists()


def test_a_lease_is_renewed_while_a_program_runs(
    own: Phone, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phone_module, "BEAT_S", 0.05)
    monkeypatch.setattr(client, "ASKED_EVERY_S", 0.05)
    mine = lease.PhoneLease(place.adb, place.token, "somebody@somewhere")
    mine.take(lambda holder: None)
    owner = held(own) / "owner"
    before = owner.stat().st_mtime_ns
    sleeper = written(tmp_path / "sleeper", "import time\ntime.sleep(0.5)\n")
    place.arrange({"program": place.store(sleeper)})
    assert place.run(["./program"], "", 10).status == 0
    assert owner.stat().st_mtime_ns > before
    assert owner.read_text().splitlines()[2:] == [place.token, "somebody@somewhere"]
    mine.release()


# Lines as the programs' sources print them (onnxruntime/test/perftest, MNN/tools/cpp).
def test_lines_of_the_real_programs_are_understood() -> None:
    line = TOLD.fullmatch("mobilenet,0.00123457,20516864,99,17")
    assert line is not None
    assert line["seconds"] == "0.00123457"
    named = TOLD.fullmatch("a,b,1.5e-05,20516864,-1,0")
    assert named is not None
    assert named["seconds"] == "1.5e-05"
    assert TOLD.fullmatch("P50 Latency is 0.0587108sec") is None
    mean = MEAN.search("main, 112, cost time: 1.2 ms\nAvg= 2.345678 ms, min= 2.100000 ms, max= 3.000000 ms\n")
    assert mean is not None
    assert mean["mean"] == "2.345678"
    kernel = f"{'/conv1/Conv_output_0':>50} \t[Convolution] run 10 average cost 0.123000 ms, 9.1 %, FlopsRate: 5.0 %"
    found = KERNEL.fullmatch(kernel[: kernel.index(" ms") + 3])
    assert found is not None
    assert (found["name"], found["op"], found["mean"]) == ("/conv1/Conv_output_0", "Convolution", "0.123000")


@pytest.mark.parametrize("last", [15, 16, 21, 40])
def test_the_newest_version_that_is_taken_is_found(last: int) -> None:
    assert newest(15, 40, lambda number: number <= last) == last


def test_a_session_leaves_out_its_warm_up() -> None:
    def take(runs: int) -> list[int]:
        return [20_000_000 - 100_000 * min(run, 90) for run in range(runs)]  # it gets faster for 90 runs

    session = single_runs(take, FULL, 11_000_000)
    assert session["warm_ups"] > 20
    assert len(session["samples_ns"]) >= 64
    assert session["probes_ns"] == []


def test_a_session_that_never_settles_says_so() -> None:
    session = single_runs(lambda runs: [round(10_000_000 * 1.005**run) for run in range(runs)], FULL, 10_000_000)
    assert any("not settled" in doubt for doubt in session["doubts"])


def test_a_slow_network_is_not_run_for_hours() -> None:
    asked: list[int] = []

    def take(runs: int) -> list[int]:
        asked.append(runs)
        return [5_000_000_000] * runs

    assert len(single_runs(take, FULL, 5e9)["samples_ns"]) >= 3
    assert asked[0] <= 10
    asked.clear()
    means(take, FULL, 5e9)
    assert sum(asked) <= 10


class Told:
    """What a phone's shell would print; the texts are written by hand."""

    name = "phone"

    def __init__(self, told: str) -> None:
        self._told = told

    def shell(self, script: str, given: list[str]) -> bytes:
        return self._told.encode()


def files(changed: dict[str, str], commands: dict[str, str] | None = None) -> str:
    """As the phone's script shows them."""
    shown = [("=" + name, content) for name, content in changed.items()]
    said = [
        ("!" + name, content) for name, content in (commands or {"dumpsys thermalservice": "Thermal Status: 0"}).items()
    ]
    return "".join(f"{head}\n" + "".join(f"|{line}\n" for line in text.splitlines()) for head, text in [*shown, *said])


def looked_at(told: str, folder: Path) -> Snapshot:
    found = Snapshot(Told(told), folder)  # type: ignore[arg-type]
    found.take()
    return found


CPU, COOLER = "/sys/devices/system/cpu", "/sys/class/thermal/cooling_device3"
SPEEDS = [160] * 4 + [623] * 4 + [1024]
PARTS = ["0xd46"] * 4 + ["0xd4d"] * 4 + ["0xd4e"]
BIG_LITTLE = {
    "/proc/cpuinfo": "\n\n".join(
        f"processor\t: {core}\nFeatures\t: fp asimd i8mm sve2\nCPU implementer\t: 0x41\nCPU part\t: {part}"
        for core, part in enumerate(PARTS)
    ),
    "/proc/meminfo": "MemTotal:        7712345 kB",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource": "arch_sys_counter",
    **{f"{CPU}/cpu{core}/cpu_capacity": str(speed) for core, speed in enumerate(SPEEDS)},
    **{f"{CPU}/cpu{core}/cpufreq/scaling_governor": "sched_pixel" for core in range(9)},
    **{f"{CPU}/cpu{core}/cpufreq/scaling_max_freq": "2914000" for core in range(9)},
    f"{COOLER}/type": "thermal-cpufreq-2",
    f"{COOLER}/cur_state": "0",
}
PIXEL = """ro.product.manufacturer=Google
ro.product.model=Pixel 8
ro.soc.manufacturer=Google
ro.soc.model=Tensor G3
ro.build.version.release=15
ro.serialno=ABC123
machine=aarch64
kernel=5.15.137-android14
"""


def test_cores_of_unequal_size_are_named_and_the_fastest_pinned(tmp_path: Path) -> None:
    seen = looked_at(files(BIG_LITTLE), tmp_path / "phone")
    told = read_facts(Told(PIXEL))  # type: ignore[arg-type]
    device = fingerprint(told, seen.root, read_state(seen, [8]), {"runtime": "onnxruntime"}, 1, [8])
    assert device["device_class"] == {
        "cpu": "Google Tensor G3", "arch": "aarch64", "cores": 9, "memory_gib": 7,
        "features": ["asimd", "i8mm", "sve2"], "core_kinds": "1x Cortex-X3 + 4x Cortex-A715 + 4x Cortex-A510",
    }  # fmt: skip
    assert device["regime"]["core_kind"] == "1x Cortex-X3"
    assert device["lock"]["held"] is False
    assert not device["emulated"]
    assert device["observed"]["host"] == "Google Pixel 8"
    assert choose_cores(seen.root, 1, "") == [8]
    assert choose_cores(seen.root, 3, "") == [4, 5, 8]
    assert choose_cores(seen.root, 2, "little") == [0, 1]
    with pytest.raises(BadInput, match="10 threads; this phone offers 1 to 9"):
        choose_cores(seen.root, 10, "")
    assert (mask_of([4, 5, 8]), mask_of([])) == ("130", "")


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({}, 3, "its thermal status was severe"),
        ({f"{CPU}/cpu8/cpufreq/scaling_max_freq": "1800000"}, 0, "limit of its clock from 2.91 GHz to 1.80 GHz"),
        ({f"{COOLER}/cur_state": "2"}, 0, "held the processor's clock down"),
    ],
)
def test_what_slows_a_phone_voids_its_session(
    tmp_path: Path, changed: dict[str, str], status: int, reason: str
) -> None:
    before = read_state(looked_at(files(BIG_LITTLE), tmp_path / "phone"), [8])
    told = files({**BIG_LITTLE, **changed}, {"dumpsys thermalservice": f"Thermal Status: {status}"})
    found = compare(before, read_state(looked_at(told, tmp_path / "phone"), [8]), [8])
    assert len(found["voided"]) == 1
    assert reason in found["voided"][0]
    assert found["conditions"]["throttled"] == found["voided"]
    assert any("load of its cores" in doubt for doubt in found["doubts"])


@pytest.mark.parametrize("told", ["", "=\n|x", "\0\xff", "=/proc/stat\n|cpu0 x", "=/proc/../etc/passwd\n|x\n=/x\n|y"])
def test_a_phone_that_answers_nonsense_is_doubted(tmp_path: Path, told: str) -> None:
    seen = looked_at(told, tmp_path / "phone")
    state = read_state(seen, [0])
    found = compare(state, state, [0])
    assert any("thermal service does not say" in doubt for doubt in found["doubts"])
    assert found["voided"] == []
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"build.prop", "stat"}
    with pytest.raises(TargetError, match="does not say what it is"):
        read_facts(Told(told))  # type: ignore[arg-type]


def test_only_files_of_the_kernel_are_taken() -> None:
    found, said = parsed("=/proc/a\n|1\n|2\n=/proc/../x\n|3\n=/etc/passwd\n|4\n!dumpsys battery\n|level: 5\n")
    assert found == {"/proc/a": "1\n2\n"}
    assert said == {"dumpsys battery": "level: 5\n"}


@pytest.mark.slow
def test_a_benchmark_is_run_again_when_the_adb_server_is_killed(own: Phone, model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    program = write_perf_test(tmp_path / "programs")
    with connect(own.target(binary=str(program)), tell=told.append) as connection:
        killed = later(lambda: adb("kill-server"), 1.5)
        session = connection.time(model)
        killed.join()
    assert len(session.samples_ns) >= FULL.runs
    assert any("Trying again" in line for line in told)
    assert left_over(own) == []
    assert not held(own).exists()


@pytest.mark.slow
def test_a_host_that_is_killed_leaves_nothing_running(own: Phone, model: Path, tmp_path: Path) -> None:
    sleeper = written(tmp_path / "sleeper", "import time\ntime.sleep(600)\n")
    host = (
        "from pathlib import Path\nfrom targets.adb.client import Adb, ready\nfrom targets.adb.phone import Phone\n"
        f"phone = Phone(Adb('phone', ready('phone', {own.serial!r})), '', 'dead@host')\n"
        f"phone.arrange({{'program': phone.store(Path({str(sleeper)!r}))}})\nprint('runs', flush=True)\n"
        "phone.run(['./program'], '', 600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", host], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        process.kill()
    assert left_over(own) == []
