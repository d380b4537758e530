"""One connection for all tests that do not harm it, and an empty profile database of each kind."""

import contextlib
import resource
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.postgresql import Cluster, NoServer, cluster
from targets import channel
from targets import connection as connections
from targets.connection import Connection, connect
from targets.target import Target
from targets.transports import TRANSPORTS, processes, remote
from tests.targets.adbd import NoAdb, Phone, own_server, plug_in
from tests.targets.fleet import CORES, Fleet, NoFleet, wait_until_joined
from tests.targets.fleet import serve as serve_fleet
from tests.targets.hostile import Honest, record
from tests.targets.models import residual, saved
from tests.targets.sshd import NoServer as NoSshServer
from tests.targets.sshd import Server, serve


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    with connect(Target("local")) as opened:
        yield opened


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A device behind a real sshd, for all tests that do not harm it; skips where none is installed."""
    folder = tmp_path_factory.mktemp("ssh")
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(serve(folder, environment={"CUTBACK_LEASE": str(folder / "lease")}))
        except NoSshServer as failure:
            pytest.skip(str(failure))
        yield running


@pytest.fixture(scope="session")
def phone_with_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """A stand-in for a phone, behind a real adb client and server, for all tests that do not harm it; skips where adb
    is not installed."""
    folder = tmp_path_factory.mktemp("adb")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(own_server(folder / "home", home=False))
        except NoAdb as failure:
            pytest.skip(str(failure))
        yield stack.enter_context(plug_in(folder / "phone"))


@pytest.fixture(scope="session")
def small_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A Dask scheduler with one device, for all tests that do not harm it; skips where Dask is not installed."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'cutback[fleet]'")
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(serve_fleet(tmp_path_factory.mktemp("fleet"), CORES))
        except NoFleet as failure:
            pytest.skip(str(failure))
        running.start_worker("small-1", "small")
        wait_until_joined(running, "small")
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(residual(), tmp_path / "residual.onnx")


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    """A PostgreSQL server that is ours for the session; skips where none is installed."""
    pytest.importorskip("psycopg", reason="the driver is not installed: pip install 'cutback[postgresql]'")
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(cluster(durable=False))
        except NoServer as failure:
            pytest.skip(str(failure))
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty database is, or will be once it is opened: every test runs on each kind."""
    if request.param == "sqlite":
        yield str(tmp_path / "new folder" / "profiles.sqlite")
        return
    running: Cluster = request.getfixturevalue("server")
    name = f"test-{uuid.uuid4().hex}"
    yield running.new_database(name).render_as_string(hide_password=False)
    running.drop(name)


MOST_BYTES = 1 << 30  # that a hostile answer may cost this process


@pytest.fixture(scope="session")
def honest(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """Recorded from a real agent on this machine."""
    return record(connection, tmp_path_factory.mktemp("honest"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Seconds instead of minutes, a temporary folder of its own, and no more memory than a hostile answer may cost."""
    monkeypatch.setitem(TRANSPORTS, "hostile", "tests.targets.hostile")
    monkeypatch.setattr(remote.RemoteLink, "pauses_s", ())
    monkeypatch.setattr(remote, "START_S", 0.8)
    monkeypatch.setattr(remote, "SEND_S", 0.8)
    monkeypatch.setattr(channel, "AGENT_GRACE_S", 0.4)
    monkeypatch.setattr(channel, "END_GRACE_S", 0.2)
    monkeypatch.setattr(channel, "PACE_GRACE_S", 0.5)
    monkeypatch.setattr(processes, "GRACE_S", 0.1)
    monkeypatch.setattr(connections, "SILENCE_S", 0.4)
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    try:
        yield here
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert list(here.iterdir()) == []
    assert list(temporary.iterdir()) == []
