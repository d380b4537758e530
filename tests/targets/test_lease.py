"""One measurement at a time on a device: the lease, between real processes."""

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import targets
from targets import lease as leases
from targets.errors import TargetError
from targets.here import Here
from targets.lease import EXPIRED_S, Lease, boot, default_path, expired, holder_name, open_shared
from targets.target import Target

HOLDER = """
import sys, time
from targets import lease
lease.EXPIRED_S, lease.SHOWN_EVERY_S = float(sys.argv[2]), 0.05
held = lease.Lease(sys.argv[3], sys.argv[1])
held.take(lambda who: None)
print("taken", flush=True)
try:
    while True:
        time.sleep(0.02)
        held.show()
except lease.TargetError as failure:
    print(failure, flush=True)
"""
SOON_S = 0.6


class NotFree(Exception):
    pass


def refuse(holder: str) -> None:
    raise NotFree(holder)


@contextlib.contextmanager
def holding(path: Path, holder: str = "ann@desk", expired_s: float = EXPIRED_S) -> Iterator["subprocess.Popen[str]"]:
    """Another process, which has the lease and shows it."""
    command = [sys.executable, "-c", HOLDER, str(path), str(expired_s), holder]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert line_of(other.stdout) == "taken"
        yield other
    finally:
        other.kill()
        other.wait()
        assert other.stdout is not None
        other.stdout.close()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.lease"


def test_while_one_process_has_it_no_other_gets_it_and_is_told_who(path: Path) -> None:
    with holding(path), pytest.raises(NotFree, match="ann@desk"):
        Lease("ben@rack", str(path)).take(refuse)


def test_a_killed_holder_frees_it_at_once(path: Path) -> None:
    mine = Lease("ben@rack", str(path))
    with holding(path) as other:
        other.kill()
        other.wait()
        mine.take(refuse)
    mine.release()


def test_who_released_it_can_take_it_again_and_taking_twice_is_once(path: Path) -> None:
    mine = Lease("ben@rack", str(path))
    for _ in range(2):
        mine.take(refuse)
        mine.take(refuse)
        mine.confirm()
        mine.release()
    Lease("ann@desk", str(path)).take(refuse)


def test_a_stopped_holder_loses_it_and_is_told_afterwards(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "EXPIRED_S", SOON_S)
    mine = Lease("ben@rack", str(path))
    with holding(path, expired_s=SOON_S) as other:
        with pytest.raises(NotFree):
            mine.take(refuse)
        other.send_signal(signal.SIGSTOP)
        waited: list[str] = []
        mine.take(waited.append)
        assert set(waited) <= {"ann@desk", "another host"}  # the second, while it comes and goes
        assert "ann@desk" in waited
        other.send_signal(signal.SIGCONT)
        assert "given to another host" in line_of(other.stdout)
    mine.confirm()


def test_a_holder_that_lives_is_never_taken_for_dead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "EXPIRED_S", SOON_S)
    end = time.monotonic() + 2.5 * SOON_S

    def until(holder: str) -> None:
        if time.monotonic() > end:
            raise NotFree(holder)

    with holding(path), pytest.raises(NotFree):
        Lease("ben@rack", str(path)).take(until)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"beat_s": 1e300}', b'{"beat_s": true}', b"{" * 400])
def test_a_holder_whose_file_says_nothing_expires_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(leases, "EXPIRED_S", SOON_S / 2)
    with holding(path) as other:
        other.send_signal(signal.SIGSTOP)
        path.write_bytes(content)
        waited: list[str] = []
        Lease("ben@rack", str(path)).take(waited.append)
        assert set(waited) == {"another host"}


def test_of_many_that_break_it_one_gets_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "EXPIRED_S", SOON_S / 2)
    with holding(path, expired_s=SOON_S / 2) as other:
        other.send_signal(signal.SIGSTOP)
        claims = [Lease(f"host-{number}", str(path)) for number in range(4)]
        held: list[Lease] = []
        at_once: list[int] = []
        failures: list[TargetError] = []

        def claim(one: Lease) -> None:
            one.take(lambda who: held[0].show() if held else None)  # whoever has it shows that it lives
            held.insert(0, one)
            at_once.append(len(held))
            time.sleep(0.05)
            try:
                one.confirm()
            except TargetError as failure:
                failures.append(failure)
            held.remove(one)
            one.release()

        threads = [threading.Thread(target=claim, args=(one,)) for one in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert at_once == [1, 1, 1, 1]
    assert failures == []


def test_a_lease_that_was_lost_is_said_before_anything_is_answered(path: Path) -> None:
    mine = Lease("ben@rack", str(path))
    mine.take(refuse)
    path.unlink()
    Lease("ann@desk", str(path)).take(refuse)
    with pytest.raises(TargetError, match="given to another host"):
        mine.confirm()
    mine.confirm()  # there is nothing left to lose


def link(path: Path) -> None:
    path.symlink_to(path.with_name("victim"))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def second_name(path: Path) -> None:
    os.link(path.with_name("victim"), path)


@pytest.mark.parametrize("put", [link, dangling, folder, pipe, second_name], ids=lambda put: put.__name__)
def test_what_is_no_lease_is_neither_followed_nor_written(path: Path, put) -> None:
    victim = path.with_name("victim")
    victim.write_bytes(b"somebody's own")
    put(path)
    with pytest.raises(TargetError, match=r"^[^\n]*device\.lease[^\n]*[Rr]emove[^\n]*$"):
        Lease("ben@rack", str(path)).take(refuse)
    assert victim.read_bytes() == b"somebody's own"
    assert sorted(each.name for each in path.parent.iterdir()) == ["device.lease", "victim"]


AS_ANOTHER = """
import os, sys
os.setgid(65534); os.setgroups([]); os.setuid(65534)
from targets.lease import Lease
held = Lease("nobody@here", sys.argv[1])
try:
    held.take(lambda who: sys.exit("busy for " + who))
except Exception as failure:
    sys.exit(str(failure))
print("taken")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_it_is_everybodys_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # others have no way into pytest's own
        Path(place).chmod(0o1777)
        path = Path(place, "device.lease")
        before = os.umask(mask)
        try:
            mine = Lease("root@here", str(path))
            mine.take(refuse)
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o666
        assert "busy for root@here" in as_another(path).stderr
        mine.release()
        assert as_another(path).stdout == "taken\n"
        path.chmod(0o600)
        refused = as_another(path).stderr
        assert "device.lease" in refused
        assert "CUTBACK_LEASE" in refused
        assert "Traceback" not in refused


def as_another(path: Path) -> "subprocess.CompletedProcess[str]":
    root = Path(targets.__file__).parents[1]
    # the files may lie where another user cannot look: their texts go with the command
    modules = {name: (root / f"targets/{name}.py").read_text() for name in ("errors", "lease")}
    program = (
        "import encodings.ascii, sys, types\n"
        f"modules = {json.dumps(modules)}\n"
        "sys.modules['targets'] = types.ModuleType('targets')\n"
        "for name in ('errors', 'lease'):\n"
        "    made = types.ModuleType('targets.' + name)\n"
        "    sys.modules['targets.' + name] = made\n"
        "    exec(modules[name], made.__dict__)\n"
    )
    command = [sys.executable, "-I", "-c", program + AS_ANOTHER, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_its_place_can_be_chosen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTBACK_LEASE", str(path))
    assert default_path() == str(path)
    Lease("ben@rack").take(refuse)
    assert path.exists()
    monkeypatch.setenv("CUTBACK_LEASE", "")
    assert default_path() != ""
    monkeypatch.setenv("CUTBACK_LEASE", str(path.parent / "no folder" / "x"))
    with pytest.raises(TargetError, match="CUTBACK_LEASE"):
        Lease("ben@rack").take(refuse)


def test_no_clock_that_somebody_may_set_is_looked_at() -> None:
    tree = ast.parse(Path(leases.__file__).read_text())
    asked = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time"
    }
    assert asked == {"monotonic", "sleep"}
    assert "datetime" not in Path(leases.__file__).read_text()


def test_a_state_from_before_the_device_started_says_nothing() -> None:
    long_ago = time.monotonic() - 2 * EXPIRED_S
    assert expired({"beat_s": long_ago, "boot": boot()})
    assert not expired({"beat_s": long_ago, "boot": "another"})
    assert not expired({"beat_s": time.monotonic(), "boot": boot()})


def test_what_it_says_of_its_holder_is_short_and_plain(path: Path) -> None:
    mine = Lease("x" * 5000, str(path))
    mine.take(refuse)
    with pytest.raises(NotFree, match=r"^x{200}$"):
        Lease("ben@rack", str(path)).take(refuse)
    path.write_bytes(json.dumps({"holder": "\x1b[2J"}).encode())
    with pytest.raises(NotFree, match=r"^another host$"):
        Lease("ben@rack", str(path)).take(refuse)


def test_a_program_without_a_host_waits_for_the_device_and_shows_that_it_has_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setattr(leases, "SHOWN_EVERY_S", 0.0)
    monkeypatch.setenv("PYTHONPATH", str(Path(targets.__file__).parents[1]))
    monkeypatch.setattr(sys, "argv", ["agent"])
    waited: list[str] = []
    with holding(path) as other:

        def on_wait(holder: str) -> None:
            waited.append(holder)
            other.kill()

        here = Here(tmp_path, Target("local").runtime, 1, {}, Lease(holder_name(), str(path)), on_wait)
        try:
            assert here.ask("time", {"model": str(model), "shapes": {}, "quick": True})["samples_ns"]
        finally:
            here.close()
    assert set(waited) == {"ann@desk"}
    file = open_shared(str(path))
    try:
        assert leases.read_state(file)["holder"] == holder_name()[:200]
    finally:
        os.close(file)
