"""A profile that is taken over links that break, by hosts that die: no row is lost, none is there twice."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql

from pipeline.latency.profiling import NetworkProfile, profile_network
from pipeline.stages.opening import groups_to_cut, open_model
from targets.connection import connect
from targets.profiles.database import Database
from targets.profiles.integrity import check
from targets.profiles.schema import SESSIONS
from targets.profiles.store import ProfileStore
from targets.target import Target
from targets.transports.remote import RemoteLink
from tests.targets.processes import stat_of
from tests.targets.sshd import NoServer, Server, serve

pytestmark = pytest.mark.slow

LONGEST_PEACE_S = 2.0  # a request lasts about as long


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    try:
        with serve(tmp_path / "device", environment={"CUTBACK_LEASE": str(tmp_path / "lease")}) as running:
            yield running
    except NoServer as failure:
        pytest.skip(str(failure))


def profiled(model: Path, target: Target, database: Path, told: list[str]) -> NetworkProfile:
    opened = open_model(str(model), {"x/in:0": (1, 3, 8, 8)})
    groups = groups_to_cut(opened.channels, inexact=True)
    with connect(target, tell=told.append) as connection:
        return profile_network(opened.model, opened.channels, groups, connection, ProfileStore(database))


def sessions(database: Path) -> list[str]:
    """Of the whole database, without what tells one run of a profile from another: what each of them measured."""
    if not database.exists():
        return []
    found = Database(database).read(lambda connection: list(connection.execute(sql.select(SESSIONS.c.id)).scalars()))
    return [session.partition("-")[2] for session in found]


def judge(model: Path, target: Target, database: Path) -> None:
    """Nothing torn, nothing twice; and nothing is missing: the next profile measures no network again."""
    assert check(Database(database))[1] == []
    before = sessions(database)
    assert max(Counter(before).values()) == 1
    again = profiled(model, target, database, [])
    assert again.built == 0
    assert again.reused > 0
    assert sessions(database) == before


@contextlib.contextmanager
def killing(server: Server, database: Path) -> Iterator[list[str]]:
    """Agents, and the sessions that carry them, again and again, at random, once for each step that was kept; who was
    killed."""
    killed: list[str] = []
    over, chance = threading.Event(), random.Random(0)

    def kill() -> None:
        kept = -1
        while not over.wait(LONGEST_PEACE_S * chance.random()):
            if len(sessions(database)) == kept:
                continue
            kept = len(sessions(database))
            for agent in server.agents()[:1]:
                found = stat_of(agent)
                if found is not None:
                    who = chance.choice(("agent", "session"))
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(agent if who == "agent" else found[1], signal.SIGKILL)
                        killed.append(who)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_links_that_break_again_and_again_cost_no_row(
    server: Server, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteLink, "pauses_s", (0.1,) * 50)
    database, told = tmp_path / "profiles.sqlite", list[str]()
    with killing(server, database) as killed:
        found = profiled(model, server.target(), database, told)
    assert found.built > 0
    assert set(killed) == {"agent", "session"}
    assert told
    judge(model, server.target(), database)


HOST = """
import json, sys
from pathlib import Path
from targets.target import Target
from tests.targets.test_device_profiles import profiled
profiled(Path(sys.argv[1]), Target(**json.loads(sys.argv[2])), Path(sys.argv[3]), [])
"""


def test_a_host_that_dies_again_and_again_loses_only_what_it_was_at(
    server: Server, tmp_path: Path, model: Path
) -> None:
    database, target = tmp_path / "profiles.sqlite", server.target()
    asked = [str(model), json.dumps(dataclasses.asdict(target)), str(database)]
    for more in (2, 4):
        before = len(sessions(database))
        with subprocess.Popen([sys.executable, "-c", HOST, *asked], stderr=subprocess.DEVNULL) as host:
            end = time.monotonic() + 120
            while len(sessions(database)) < before + more:
                assert host.poll() is None
                assert time.monotonic() < end
                time.sleep(0.01)
            host.kill()
        while server.left():
            assert time.monotonic() < end
            time.sleep(0.01)
    found = profiled(model, target, database, [])
    assert found.built > 0
    assert found.reused > 0
    judge(model, target, database)
