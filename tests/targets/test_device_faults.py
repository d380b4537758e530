"""What can go wrong between a host and a device that it shares no files with: each is really caused, over a real sshd.

Whatever happens, a request is answered over a new link or ends in one line; nothing half sent is ever run, nothing
keeps running on the device, and its lease is free for the next.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import targets.channel
from targets.archive import write_agent
from targets.connection import Connection, connect
from targets.errors import LinkLost, TargetError
from targets.target import Target
from targets.transports.remote import RemoteLink
from tests.targets.hurried import JUMPING, NOTED, hurried
from tests.targets.models import model_of, saved, slow
from tests.targets.processes import alive, at_work, stat_of, wait_for
from tests.targets.sshd import NoServer, Server, serve

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")

IMPATIENT = "targets.agent.HOST_PATIENCE_S = 2.0\ntargets.lease.EXPIRED_S = 1.0\ntargets.host.HEARTBEAT_S = 0.3\n"


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoteLink, "pauses_s", (0.2,) * 20)


@contextlib.contextmanager
def device(folder: Path, **options: Any) -> Iterator[Server]:
    """A device with a lease of its own."""
    try:
        with serve(folder, environment={"CUTBACK_LEASE": str(folder / "lease")}, **options) as server:
            yield server
    except NoServer as failure:
        pytest.skip(str(failure))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with device(tmp_path / "device") as running:
        yield running
        wait_for(lambda: not running.left())


@pytest.fixture
def long(tmp_path: Path) -> Path:
    return saved(slow(), tmp_path / "slow.onnx")


def large(path: Path, megabytes: int) -> Path:
    weights = np.random.default_rng(0).standard_normal((megabytes * 250, 1000)).astype(np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "matmul")
    return saved(model_of([node], {"x": [1, megabytes * 250]}, {"y": [1, 1000]}, {"w": weights}), path)


def measuring(server: Server) -> int:
    """The worker, once it measures."""
    return at_work(server.workers)


@contextlib.contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """What `work` raises is raised here in the end."""
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            working.result()


def client_of(connection: Connection) -> int:
    return connection._link.channel.process.pid


def session_of(server: Server) -> int:
    """The sshd process that carries the agent."""
    (agent,) = server.agents()
    found = stat_of(agent)
    assert found is not None
    return found[1]


def victim_of(who: str, server: Server, connection: Connection) -> int:
    if who == "agent":
        return server.agents()[0]
    return client_of(connection) if who == "client" else session_of(server)


def whole_files(server: Server) -> list[int]:
    """The sizes of all files that may be run, each of which has the bytes that its name says."""
    found = list((server.root / "files").iterdir())
    for path in found:
        assert sha256(path.read_bytes()).hexdigest() == path.name[:64]
    return [path.stat().st_size for path in found]


@pytest.mark.slow
@pytest.mark.parametrize("who", ["client", "session", "agent"])
def test_a_link_that_is_lost_within_a_push_is_taken_up_again_and_nothing_half_sent_is_kept(
    server: Server, tmp_path: Path, who: str
) -> None:
    model = large(tmp_path / "large.onnx", 60)
    told: list[str] = []
    with connect(server.target(), tell=told.append) as connection:
        first = server.agents()[0]

        def kill() -> None:
            wait_for(lambda: [each for each in server.root.glob("sessions/*/*.part") if each.stat().st_size > 1 << 20])
            os.kill(first, signal.SIGSTOP)  # it stays in the middle
            assert whole_files(server) == []
            os.kill(victim_of(who, server, connection), signal.SIGKILL)
            if who != "agent":
                os.kill(first, signal.SIGCONT)

        with meanwhile(kill):
            assert connection.describe(model) == [{"name": "x", "shape": [1, 15000], "dtype": "float32"}]
        assert len(told) == 1
        assert "Trying again" in told[0]
        wait_for(lambda: not alive(first))
        assert whole_files(server) == [model.stat().st_size]
    with connect(server.target()):  # the folder of an agent that was killed goes with the next one's start
        assert not list(server.root.rglob("*.part"))
        assert len(list((server.root / "sessions").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("who", ["client", "session", "agent"])
def test_a_link_that_is_lost_within_a_measurement_is_taken_up_again(server: Server, long: Path, who: str) -> None:
    told: list[str] = []
    with connect(server.target(), tell=told.append) as connection:
        seen: list[int] = []

        def kill() -> None:
            seen.extend([measuring(server), *server.agents()])
            os.kill(victim_of(who, server, connection), signal.SIGKILL)

        with meanwhile(kill):
            assert connection.time(long, quick=True).samples_ns
        assert len(told) == 1
        wait_for(lambda: not any(map(alive, seen)))


@pytest.mark.slow
def test_a_device_that_starts_anew_is_measured_on(server: Server, long: Path) -> None:
    told: list[str] = []
    with connect(server.target(), tell=told.append) as connection:

        def reboot() -> None:
            measuring(server)
            server.stop()
            assert server.left() == []
            time.sleep(1)
            server.start()

        with meanwhile(reboot):
            assert connection.time(long, quick=True).samples_ns
        assert len(told) > 1
        assert "no SSH server listens there. Is the device on?" in told[1]
        assert len(server.agents()) == 1


def test_a_device_that_stays_away_ends_the_request_in_one_line(
    server: Server, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteLink, "pauses_s", (0.1, 0.1))
    told: list[str] = []
    with connect(server.target(), tell=told.append) as connection:
        server.stop()
        with pytest.raises(LinkLost, match=r"^device: no SSH server listens there\. Is the device on\?$"):
            connection.time(long)
        assert len(told) == 2


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line_that_names_the_users_file(server: Server, long: Path) -> None:
    told: list[str] = []
    with connect(server.target(), tell=told.append) as connection:
        with (
            meanwhile(lambda: os.kill(measuring(server), signal.SIGKILL)),
            pytest.raises(TargetError, match=r"^The worker was killed by SIGKILL .* time slow\.onnx\.$"),
        ):
            connection.time(long)
        assert told == []  # nobody knows that it would not happen again
        assert connection.time(long, quick=True).samples_ns


@pytest.mark.slow
def test_an_agent_that_no_longer_answers_is_given_up(
    server: Server, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets.channel, "AGENT_GRACE_S", 4.0)
    told: list[str] = []
    with connect(server.target(), tell=told.append) as connection:
        (first,) = server.agents()

        def stop() -> None:
            measuring(server)
            os.kill(first, signal.SIGSTOP)
            time.sleep(10)
            os.kill(first, signal.SIGCONT)  # its lease is free again

        with meanwhile(stop):
            assert connection.time(long, quick=True).samples_ns
        assert "does not answer" in told[0]
        wait_for(lambda: not alive(first))


# A disk of that many bytes for the agent alone, gone with the server.
FULL = 'mount -t tmpfs -o size={} none "$0" && exec "$@"'


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Server]:
    root = folder / "agent-of-device"
    root.mkdir(parents=True)
    within = ("unshare", "-m", "sh", "-c", FULL.format(f"{kilobytes}k"), str(root))
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    with device(folder, within=within) as server:
        yield server


def on_disk(server: Server, pattern: str) -> list[Path]:
    """Files of the device, seen from here."""
    assert server._daemon is not None
    return list(Path(f"/proc/{server._daemon.pid}/root{server.root}").glob(pattern))


def test_a_disk_that_is_full_for_the_agent_itself_is_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "device", 40) as server:
        with (
            pytest.raises(
                TargetError, match=r"^device: Cannot keep the agent in [^\n]*: No space left on device\. Free"
            ),
            connect(server.target()),
        ):
            pass
        assert on_disk(server, "agents/*") == []
        wait_for(lambda: not server.left())


def test_a_disk_that_is_full_for_a_model_is_one_line_and_smaller_ones_go_on(tmp_path: Path, model: Path) -> None:
    with small_disk(tmp_path / "device", 1500) as server, connect(server.target()) as connection:
        with pytest.raises(
            TargetError, match=r"^Cannot keep a file in [^\n]*: No space left on device\. \d+ MiB are free"
        ):
            connection.describe(large(tmp_path / "large.onnx", 3))
        assert on_disk(server, "files/*") == []
        assert on_disk(server, "sessions/*/*.part") == []
        assert connection.describe(model)


def test_what_nobody_uses_makes_room_for_what_is_sent(tmp_path: Path) -> None:
    first, second = large(tmp_path / "first.onnx", 1), tmp_path / "second.onnx"
    second.write_bytes(first.read_bytes().replace(b"matmul", b"MATMUL"))
    with small_disk(tmp_path / "device", 1500) as server:
        with connect(server.target()) as connection:
            assert connection.describe(first)
        with connect(server.target()) as connection:
            assert connection.describe(second)
            (kept,) = on_disk(server, "files/*")
            assert kept.name[:64] == sha256(second.read_bytes()).hexdigest()


def test_a_disk_that_is_full_for_an_engine_is_one_line_and_leaves_none(tmp_path: Path, model: Path) -> None:
    with small_disk(tmp_path / "device", 1700) as server, connect(server.target()) as connection:
        source = large(tmp_path / "large.onnx", 1)
        with pytest.raises(
            TargetError, match=r"^The disk there is full: 0\.\d MiB [^\n]* made of large\.onnx\. Free some"
        ):
            connection.build(source, tmp_path / "engine")
        assert not list(tmp_path.glob("*engine*"))
        assert connection.describe(source)
        assert connection.build(model, tmp_path / "engine").sha256


HOST = """
import json, sys
from pathlib import Path
import targets.channel
from targets.connection import connect
from targets.target import Target
from targets.transports import ssh
from targets.transports.remote import RemoteLink
RemoteLink.pauses_s = (0.2,) * 50
exec(sys.argv[4])
def say(*words):
    print(*words, flush=True)
with connect(Target(**json.loads(sys.argv[1])), tell=lambda line: say("told", line)) as connection:
    say("ready")
    for _ in range(int(sys.argv[3])):
        assert connection.time(Path(sys.argv[2]), quick=True).samples_ns
        say("session")
"""


def host(
    target: Target, model: Path, sessions: int, settings: str = "", within: tuple[str, ...] = ()
) -> "subprocess.Popen[str]":
    asked = json.dumps(dataclasses.asdict(target))
    command = [*within, sys.executable, "-c", HOST, asked, str(model), str(sessions), settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: "subprocess.Popen[str]") -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


@pytest.mark.slow
def test_a_host_that_is_killed_while_it_measures_leaves_nothing_behind(server: Server, long: Path) -> None:
    with host(server.target(), long, 50) as process:
        measuring(server)
        process.kill()
    wait_for(lambda: not server.left())
    assert list((server.root / "sessions").iterdir()) == []


def test_a_host_that_is_killed_while_it_sends_leaves_nothing_half_there(server: Server, tmp_path: Path) -> None:
    with host(server.target(), large(tmp_path / "large.onnx", 60), 1) as process:
        wait_for(lambda: list(server.root.glob("sessions/*/*.part")))
        (agent,) = server.agents()
        os.kill(agent, signal.SIGSTOP)
        process.kill()
        os.kill(agent, signal.SIGCONT)
    wait_for(lambda: not server.left())
    assert list(server.root.rglob("*.part")) == []
    whole_files(server)


@pytest.mark.slow
def test_a_host_that_freezes_is_gone_for_the_device_and_goes_on_when_it_moves_again(
    server: Server, tmp_path: Path, long: Path, model: Path
) -> None:
    python = hurried(tmp_path, IMPATIENT)
    settings = "targets.channel.HEARTBEAT_S = 0.3"
    with host(server.target(python=python), long, 3, settings) as process:
        measuring(server)
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: not server.left())
        with connect(server.target(python=python)) as other:
            assert other.time(model, quick=True).samples_ns
        process.send_signal(signal.SIGCONT)
        lines = finished(process)
    assert lines.count("session") == 3
    assert [line for line in lines if line.startswith("told")]


@pytest.mark.slow
def test_two_hosts_at_once_measure_one_after_the_other(server: Server, tmp_path: Path, long: Path) -> None:
    notes = tmp_path / "notes"
    target = server.target(python=hurried(tmp_path, NOTED.format(notes=str(notes))))
    with host(target, long, 4) as first, host(target, long, 4) as second:
        lines = [finished(process) for process in (first, second)]
    assert [each.count("session") for each in lines] == [4, 4]
    sessions = sorted(json.loads(line) for line in notes.read_text().splitlines())
    assert len(sessions) == 8
    assert len({agent for _, _, agent in sessions}) == 2
    for (_, end, _), (begin, _, _) in itertools.pairwise(sessions):
        assert end <= begin


@pytest.mark.slow
def test_who_waits_is_told_for_whom(server: Server, tmp_path: Path, long: Path, model: Path) -> None:
    target = server.target(python=hurried(tmp_path, "targets.agent.HEARTBEAT_S = 0.1"))
    told: list[str] = []
    with host(target, long, 3) as process:
        measuring(server)
        with connect(target, tell=told.append) as connection:
            assert connection.time(model, quick=True).samples_ns
        process.kill()
    assert told[0].startswith("device is busy for ")
    assert told[0].endswith("; waiting.")


@pytest.mark.slow
def test_a_holder_that_does_not_move_loses_the_device_and_is_told(
    server: Server, tmp_path: Path, long: Path, model: Path
) -> None:
    python = hurried(tmp_path, "targets.lease.EXPIRED_S = 1.0\ntargets.lease.SHOWN_EVERY_S = 0.2\n")
    with connect(server.target("slow one", python=python)) as holder:
        (agent,) = server.agents()

        def freeze() -> None:
            measuring(server)
            os.kill(agent, signal.SIGSTOP)
            try:
                with connect(server.target(python=python)) as other:
                    assert other.time(model, quick=True).samples_ns
            finally:
                os.kill(agent, signal.SIGCONT)

        with meanwhile(freeze), pytest.raises(TargetError, match=r"given to another host.*Measure again"):
            holder.time(long)
        assert holder.time(model, quick=True).samples_ns


def test_what_a_runtime_starts_beside_itself_ends_with_its_worker(server: Server, tmp_path: Path, model: Path) -> None:
    beside = ["sh", "-c", "sleep 300; true", str(server.root)]
    settings = (
        f"import subprocess\nif sys.argv[1] == '--worker': subprocess.Popen({beside!r}, stdin=subprocess.DEVNULL)"
    )
    with connect(server.target(python=hurried(tmp_path, settings))) as connection:
        assert connection.time(model, quick=True).samples_ns
        assert server.left() == server.agents()


@pytest.mark.slow
def test_no_setting_of_the_devices_clock_matters(server: Server, tmp_path: Path, long: Path, model: Path) -> None:
    # It jumps by years, which is past any limit: none has to be short for this.
    jumping = "targets.host.HEARTBEAT_S = 0.3\ntargets.lease.SHOWN_EVERY_S = 0.2\n" + JUMPING
    target = server.target(python=hurried(tmp_path, jumping))
    with host(target, long, 3, "targets.channel.HEARTBEAT_S = 0.3") as process:
        measuring(server)
        told: list[str] = []
        with connect(target, tell=told.append) as connection:
            connection._link.channel.ask("clean", {})
            assert connection.time(model, quick=True).samples_ns  # in its turn
        lines = finished(process)
    assert lines.count("session") == 3
    assert [line for line in [*told, *lines[1:]] if line != "session" and "busy" not in line] == []


def test_a_host_that_takes_nothing_does_not_hold_an_agent_for_ever(tmp_path: Path) -> None:
    """Its line is dead, and what is on the way to it fills every buffer: the agent must not wait in a write."""
    archive, root = tmp_path / "agent.pyz", tmp_path / "root"
    write_agent(archive)
    python = hurried(tmp_path, IMPATIENT)
    with subprocess.Popen(
        [python, str(archive), "--root", str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(b'{"id": 1, "verb": "session", "arguments": {}}\n')
        agent.stdin.flush()
        folder = Path(json.loads(agent.stdout.readline())["result"]["folder"])
        (folder / "engine").write_bytes(bytes(4 << 20))
        asked = {"id": 2, "verb": "fetch", "arguments": {"path": str(folder / "engine")}}
        agent.stdin.write(json.dumps(asked).encode() + b"\n")
        agent.stdin.flush()
        assert agent.wait(20) == 0
        assert not folder.exists()
