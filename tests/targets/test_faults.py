"""Crashes, hangs and kills: one clear line, and no process left behind. Each is really caused."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import targets.connection
from targets.connection import Connection, connect
from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.target import Target
from tests.targets.models import saved, slow
from tests.targets.processes import alive, at_work, children, wait_for

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")


@pytest.fixture
def victim() -> Iterator[Connection]:
    with connect(Target("victim")) as opened:
        yield opened


@pytest.fixture
def long(tmp_path: Path) -> Path:
    return saved(slow(), tmp_path / "slow.onnx")


def busy_worker(agent: int) -> int:
    """The agent's worker, once it measures."""
    return at_work(lambda: children(agent))


def send_to_worker(agent: int, sent: signal.Signals) -> threading.Thread:
    thread = threading.Thread(target=lambda: os.kill(busy_worker(agent), sent))
    thread.start()
    return thread


def test_a_worker_that_is_killed_gives_one_line_and_the_next_one_works(victim: Connection, long: Path) -> None:
    killer = send_to_worker(victim._link.channel.process.pid, signal.SIGKILL)
    with pytest.raises(TargetError, match=r"^The worker was killed by SIGKILL .* time slow\.onnx\.$"):
        victim.time(long)
    killer.join()
    assert victim.describe(long)


def test_a_worker_that_crashes_is_named_by_its_signal(victim: Connection, long: Path) -> None:
    killer = send_to_worker(victim._link.channel.process.pid, signal.SIGSEGV)
    with pytest.raises(TargetError, match="SIGSEGV"):
        victim.profile(long)
    killer.join()


def test_a_worker_that_hangs_is_killed(victim: Connection, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.connection, "SILENCE_S", 3.0)
    monkeypatch.setattr(targets.connection, "SILENCE_S_PER_MB", 0.0)
    worker: list[int] = []

    def stop() -> None:
        worker.append(busy_worker(victim._link.channel.process.pid))
        os.kill(worker[0], signal.SIGSTOP)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(TargetError, match=r"said nothing for 3 s.*time slow\.onnx"):
        victim.time(long)
    stopper.join()
    assert not alive(worker[0])


def test_an_agent_that_is_killed_takes_its_worker_along_and_the_next_request_has_a_new_one(
    victim: Connection, long: Path
) -> None:
    agent, seen = victim._link.channel.process.pid, []

    def kill() -> None:
        seen.append(busy_worker(agent))
        os.kill(agent, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TargetError, match=r"agent on victim has ended.*Connect again"):
        victim.time(long)
    killer.join()
    wait_for(lambda: not alive(seen[0]))
    assert victim.describe(long)
    assert victim._link.channel.process.pid != agent


def test_leaving_the_connection_leaves_no_process_and_no_file(model: Path) -> None:
    with connect(Target("local")) as opened:
        agent, folder = opened._link.channel.process.pid, Path(opened._link.folder)
        assert opened.time(model, quick=True).samples_ns
        assert folder.stat().st_mode & 0o077 == 0
    assert not alive(agent)
    assert not folder.exists()


HOST = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background passes its "ignore" on
from targets.connection import connect
from targets.target import Target
with connect(Target("local")) as connection:
    print(connection._link.channel.process.pid, connection._link.folder, flush=True)
    while True:
        connection.time(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_host_that_dies_leaves_no_process_and_no_file(long: Path, sent: signal.Signals) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, str(long)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert host.stdout is not None
    with host.stdout:
        agent, folder = host.stdout.readline().split()
        worker = busy_worker(int(agent))
        host.send_signal(sent)
        host.wait(20)
    wait_for(lambda: not alive(int(agent)))
    wait_for(lambda: not alive(worker))
    wait_for(lambda: not Path(folder.decode()).exists())


def test_a_missing_runtime_is_named_with_the_command_that_installs_it() -> None:
    bare = f"{sys.executable} -S"  # without site-packages: no runtime is there
    with (
        pytest.raises(RuntimeMissing, match=r"^ONNX Runtime cannot be .* -m pip install onnxruntime$"),
        connect(Target("local", python=bare)),
    ):
        pass


@pytest.mark.parametrize("interpreter", ["/no/such/python", "/bin/echo"])
def test_an_agent_that_cannot_start_is_one_line(interpreter: str) -> None:
    with pytest.raises(TargetError, match=r"^[^\n]+$"), connect(Target("local", python=interpreter)):
        pass


def test_the_agent_runs_its_own_verbs_only(victim: Connection) -> None:
    with pytest.raises(BadInput, match="knows no verb 'system'"):
        victim._ask("system", {}, 5.0)


def test_what_a_runtime_prints_does_not_reach_the_protocol() -> None:
    script = (
        "import os; from targets.protocol import claim_stdout, send\n"
        "out = claim_stdout(); print('noise'); os.write(1, b'more noise'); send(out, {'id': 1})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b'{"id":1}\n'
    assert b"noise" in done.stderr
