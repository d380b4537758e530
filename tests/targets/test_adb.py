"""Phones behind adb: a real adb client and server, and a stand-in for the phone (see `tests.targets.adbd`)."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from targets.connection import connect
from targets.errors import BadInput, LinkLost, TargetError
from targets.target import Target, find_target
from targets.transports.adb import COMMAND
from tests.targets.adbd import ADB, Phone, adb, own_server, plug_in, script

pytestmark = pytest.mark.skipif(ADB is None, reason="adb is not installed (Debian: adb)")

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with own_server(tmp_path_factory.mktemp("adb")) as port:
        yield port


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    with plug_in(tmp_path / "phone") as plugged:
        yield plugged
        adb("disconnect", plugged.serial)


def with_python(phone: Phone) -> Target:
    return phone.target(python=sys.executable)


def refused(target: Target, kind: type[Exception]) -> str:
    """What connecting to it says, in one line."""
    with pytest.raises(kind) as caught, connect(target):
        pass
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left_over(phone: Phone) -> list[str]:
    """Processes that its shells have left behind, a moment after everybody let go."""
    sessions = {shell.pid for shell in phone.shells}
    for _ in range(100):
        listed = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
        found = [line.split(None, 2) for line in listed.splitlines()]
        left = [args for sid, stat, *args in found if int(sid) in sessions and "Z" not in stat]
        if not left:
            return []
        time.sleep(0.05)
    return [" ".join(args) for args in left]


def test_a_phone_with_python_computes_what_this_machine_computes(phone: Phone, model: Path) -> None:
    with connect(with_python(phone)) as connection, connect(Target("local")) as local:
        expected = local.run(model, {"x/in:0": X})["y"]
        np.testing.assert_array_equal(connection.run(model, {"x/in:0": X})["y"], expected)
        assert connection.time(model, quick=True).samples_ns
    assert set(phone.commands) == {COMMAND}  # whatever models and targets are called
    assert left_over(phone) == []
    assert list((phone.base / "sessions").iterdir()) == []


def test_python_is_looked_for_in_one_place_more(phone: Phone) -> None:
    phone.path = ""
    own = phone.base / "python/bin/python3"
    own.parent.mkdir(parents=True)
    script(own, f'exec {sys.executable} "$@"')
    with connect(phone.target(python=sys.executable)) as connection:
        assert connection.device.stack["runtime"] == "onnxruntime"


def test_a_phone_without_python_says_what_to_do(phone: Phone) -> None:
    phone.path = ""
    assert re.search(
        r"^phone: it has no python3\. Put one .* or name .*: binary=PATH", refused(with_python(phone), TargetError)
    )


@pytest.mark.parametrize("address", ["-a", "a b", "x;reboot", "$(id)", "a'b", "127.0.0.1:5555\n"])
def test_what_is_no_serial_is_refused(address: str) -> None:
    assert re.search("is no device for adb", refused(Target("phone", "adb", address=address), BadInput))


def test_the_only_device_needs_no_address(phone: Phone, tmp_path: Path) -> None:
    adb("connect", phone.serial)
    with connect(replace(with_python(phone), address="")) as connection:
        assert connection.device.device_class["cores"]
    with plug_in(tmp_path / "other") as other:
        adb("connect", other.serial)
        assert re.search(
            rf"several devices\. Give one as address: .*{other.serial}",
            refused(replace(with_python(phone), address=""), TargetError),
        )
        adb("disconnect", other.serial)


def test_no_device_at_all_says_so() -> None:
    adb("disconnect")
    assert re.search(r"^phone: adb sees no device\. Switch USB debugging on", refused(Target("phone", "adb"), LinkLost))


def test_a_serial_that_is_not_there_says_so() -> None:
    assert re.search(
        r"^phone: adb sees no device R58M123\.", refused(Target("phone", "adb", address="R58M123"), LinkLost)
    )


def test_an_address_where_nothing_listens_says_so() -> None:
    assert re.search(
        r"nothing listens at 127\.0\.0\.1:1\. Switch wireless debugging on",
        refused(Target("phone", "adb", address="127.0.0.1:1"), LinkLost),
    )


def test_a_phone_that_does_not_trust_us_says_so(tmp_path: Path) -> None:
    with plug_in(tmp_path / "phone", "unauthorized") as phone:
        assert re.search(
            "it does not trust this computer. Unlock its screen and allow", refused(with_python(phone), TargetError)
        )


@pytest.mark.slow
def test_a_phone_that_is_offline_says_so(tmp_path: Path) -> None:
    with plug_in(tmp_path / "phone", "offline") as phone:  # adb itself waits for ten seconds
        assert re.search("nothing answers at|connected and does not answer", refused(with_python(phone), LinkLost))


def test_without_adb_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert re.search(
        "adb is not installed here. Install Android's platform tools", refused(Target("phone", "adb"), TargetError)
    )


def test_a_binary_is_a_field_of_a_target() -> None:
    assert find_target("local:transport=adb,binary=/data/local/tmp/perf").binary == "/data/local/tmp/perf"


def later(act: "object", after_s: float) -> threading.Thread:
    assert callable(act)
    thread = threading.Timer(after_s, act)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_cable_that_is_pulled_is_taken_up_again(phone: Phone, model: Path) -> None:
    told: list[str] = []
    with connect(with_python(phone), tell=told.append) as connection:
        pulled = later(phone.unplug, 0.5)  # within a session, which takes more than a second
        session = connection.time(model)
        pulled.join()
    assert len(session.samples_ns) >= 64
    assert any("Trying again" in line for line in told)
    assert left_over(phone) == []


@pytest.mark.slow
def test_an_adb_server_that_is_killed_is_started_again(phone: Phone, model: Path) -> None:
    told: list[str] = []
    with connect(with_python(phone), tell=told.append) as connection:
        killed = later(lambda: adb("kill-server"), 0.5)
        session = connection.time(model)
        killed.join()
    assert len(session.samples_ns) >= 64
    assert any("Trying again" in line for line in told)
    assert left_over(phone) == []


@contextlib.contextmanager
def little_space(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own, so small."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems may not be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_phone_without_space_says_so(phone: Phone) -> None:
    with little_space(phone.base, "64k"):  # the agent alone is larger
        assert "No space left on device" in refused(with_python(phone), TargetError)
