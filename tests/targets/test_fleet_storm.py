"""Fleets when things go wrong, each really caused. The devices are stand-ins on this machine, as in test_fleet.py."""

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import targets.transports.dask
from pipeline.cli import main, progress
from pipeline.graph.model import save
from pipeline.latency import alone, samples
from targets.connection import connect
from targets.errors import LinkLost, TargetError
from targets.fleet import connect_fleet
from targets.profiles.store import ProfileStore
from targets.target import Target
from tests.latency.networks import residual
from tests.targets.fleet import CORES, Fleet, NoFleet, joined, serve
from tests.targets.models import saved, slow
from tests.targets.processes import alive, children, wait_for

pytestmark = pytest.mark.slow
pytest.importorskip("distributed", reason="Dask is not installed: pip install 'cutback[fleet]'")

WORKERS = {"small-1": "small", "small-2": "small", "large-1": "large"}
SHARE = {"small": 60, "large": 40}  # of the measurements, for each of two hosts
MOST_KILLS = 20


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    try:
        with serve(tmp_path / "fleet", CORES) as running:
            for name, tag in WORKERS.items():
                running.start_worker(name, tag)
            wait_for(lambda: joined(running, "small") == ["small-1", "small-2"] and joined(running, "large"))
            yield running
    except NoFleet as failure:
        pytest.skip(str(failure))


def busy_agents(fleet: Fleet, name: str) -> list[int]:
    return children(fleet.processes[name].pid)


def test_a_device_dies_over_a_request_and_another_one_answers(fleet: Fleet, tmp_path: Path) -> None:
    model = saved(slow(), tmp_path / "slow.onnx")
    told: list[str] = []
    with connect(fleet.target("small"), tell=told.append) as opened:
        killed: list[str] = []
        agents: list[int] = []

        def kill() -> None:
            killed.append(str(wait_for(lambda: opened.place)))
            agents.extend(wait_for(lambda: busy_agents(fleet, killed[0])))
            fleet.kill(killed[0])

        killer = threading.Thread(target=kill)
        killer.start()
        profile = opened.profile(model, runs=9)
        killer.join()
        assert profile.device.observed["worker"] in {"small-1", "small-2"} - set(killed)
        assert opened.repeated == 1
        assert told == [f"lab: the device that was at it is lost; {profile.device.observed['worker']} does it now."]
        wait_for(lambda: not any(alive(agent) for agent in agents))


def test_two_kinds_under_one_tag_are_refused_by_name(fleet: Fleet) -> None:
    fleet.start_worker("odd", "small", cores=7)
    wait_for(lambda: "odd" in joined(fleet, "small"))
    with (
        pytest.raises(TargetError, match=r"is of another kind than .*same tag small: device_class\.cores") as caught,
        connect_fleet(fleet.target("small"), 6),
    ):
        pass
    assert "odd" in str(caught.value)


def test_a_scheduler_that_is_started_anew_is_found_again(fleet: Fleet, tmp_path: Path) -> None:
    model = saved(slow(), tmp_path / "slow.onnx")
    told: list[str] = []
    with connect(fleet.target("large"), tell=told.append) as opened:

        def restart() -> None:
            wait_for(lambda: busy_agents(fleet, "large-1"))
            agents = busy_agents(fleet, "large-1")
            fleet.kill("scheduler")
            wait_for(lambda: fleet.processes["large-1"].poll() is not None)  # Dask's workers end with their scheduler
            wait_for(lambda: not any(alive(agent) for agent in agents))
            fleet.start_scheduler()
            fleet.start_worker("large-1", "large")  # as whatever keeps services alive does on a device

        restarter = threading.Thread(target=restart)
        restarter.start()
        assert opened.profile(model, runs=9).kernels
        restarter.join()
    assert told[0].startswith(f"lab: the scheduler at {fleet.address} ")
    assert told[0].endswith("Trying again in 1 s.")


def test_a_device_that_never_answers_is_passed_over(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets.transports.dask, "PATIENCE_S", 6.0)
    model = saved(slow(), tmp_path / "slow.onnx")
    told: list[str] = []
    with connect(fleet.target("small"), tell=told.append) as opened:
        stopper = stop_at_work(fleet, opened.devices())
        profile = opened.profile(model, runs=9)
        stopper.join()
        (note,) = told
        (stopped,) = {"small-1", "small-2"} - {profile.device.observed["worker"]}
        assert note == f"lab: {stopped} does not answer; asking another device."


def test_the_only_device_never_answers_and_that_is_one_line(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets.transports.dask, "PATIENCE_S", 6.0)
    model = saved(slow(), tmp_path / "slow.onnx")
    with connect(fleet.target("large")) as opened:
        stopper = stop_at_work(fleet, ["large-1"])
        with pytest.raises(TargetError, match=r"^large-1 did not answer for 6 s, and no other device with large is"):
            opened.profile(model, runs=9)
        stopper.join()


def stop_at_work(fleet: Fleet, names: list[str]) -> threading.Thread:
    """Stop the first of these workers that is at work."""

    def stop() -> None:
        name = wait_for(lambda: next((name for name in names if busy_agents(fleet, name)), None))
        fleet.processes[name].send_signal(signal.SIGSTOP)

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


def test_a_scheduler_that_is_not_there_is_one_line() -> None:
    with (
        pytest.raises(LinkLost, match=r"^lab: no scheduler answers at tcp://127\.0\.0\.1:1\. Start it: dask scheduler"),
        connect(Target("lab", "dask", address="tcp://127.0.0.1:1", tag="small")),
    ):
        pass


def test_a_host_that_dies_leaves_the_devices_to_others(fleet: Fleet, tmp_path: Path) -> None:
    arguments = ["late", "8", str(tmp_path / "db.sqlite"), f"50:1:{json.dumps(asdict(fleet.target('large')))}"]
    with subprocess.Popen([sys.executable, "-m", "tests.targets.fleet_host", *arguments], stdout=-3) as host:
        agents = wait_for(lambda: busy_agents(fleet, "large-1"))
        host.kill()
    wait_for(lambda: not any(alive(agent) for agent in agents))
    with connect(fleet.target("large")) as opened:
        assert opened.devices() == ["large-1"]


def test_a_storm_leaves_exactly_one_row_of_each_measurement_on_the_right_kind(fleet: Fleet, tmp_path: Path) -> None:
    """Two hosts queue 200 measurements at once, on three workers of two kinds that are killed at random."""
    database = tmp_path / "throw-away.sqlite"
    ProfileStore(database)
    hosts = [start_host(fleet, name, side, database, tmp_path) for name, side in (("first", 8), ("second", 9))]
    wait_for(lambda: all((tmp_path / f"{name}.out").stat().st_size for name in ("first", "second")), 60.0)
    killed = kill_at_random(fleet, hosts, random.Random(6))
    for name, host in zip(("first", "second"), hosts, strict=True):
        assert host.wait() == 0, (tmp_path / f"{name}.log").read_text()
    lines = [
        json.loads(line) for name in ("first", "second") for line in (tmp_path / f"{name}.out").read_text().splitlines()
    ]
    told = [line for line in lines if "session" in line]
    repeated = sum(line["repeated"] for line in lines if "repeated" in line)
    assert killed >= 5
    assert repeated >= 1

    wanted = [f"{name}-{tag}-{i}" for name in ("first", "second") for tag, count in SHARE.items() for i in range(count)]
    assert sorted(line["session"] for line in told) == sorted(wanted)
    with contextlib.closing(sqlite3.connect(database)) as opened:
        stored = opened.execute('SELECT session, digest, "index" FROM samples').fetchall()
    assert Counter(stored) == Counter((line["session"], *row) for line in told for row in line["rows"])
    found = ProfileStore(database).find([digest for _, digest, _ in stored])
    by_session = {row.session_id: row for rows in found.values() for row in rows}
    for line in told:
        row = by_session[line["session"]]
        assert row.key.device["cores"] == CORES[line["tag"]]
        assert WORKERS[row.observed["worker"]] == row.observed["tag"] == line["tag"]
    for name in WORKERS:
        spans = sorted(
            (line["observed"]["began_s"], line["observed"]["ended_s"])
            for line in told
            if line["observed"]["worker"] == name
        )
        assert spans
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def start_host(fleet: Fleet, name: str, side: int, database: Path, folder: Path) -> "subprocess.Popen[bytes]":
    asked = [f"{count}:{2}:{json.dumps(asdict(fleet.target(tag)))}" for tag, count in SHARE.items()]
    command = [sys.executable, "-m", "tests.targets.fleet_host", name, str(side), str(database), *asked]
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=out, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def kill_at_random(fleet: Fleet, hosts: "list[subprocess.Popen[bytes]]", generator: random.Random) -> int:
    """How many workers were killed at work, each started again as whatever keeps services alive does."""
    killed = 0
    while any(host.poll() is None for host in hosts):
        time.sleep(generator.uniform(2.0, 5.0))
        name = generator.choice(sorted(WORKERS))
        if killed < MOST_KILLS and busy_agents(fleet, name):
            fleet.kill(name)
            killed += 1
            time.sleep(generator.uniform(0.1, 1.0))
            fleet.start_worker(name, WORKERS[name])
    return killed


def test_a_network_is_profiled_on_all_devices_of_a_tag(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alone, "RUNS", 4)
    monkeypatch.setattr(samples, "RUNS", 4)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    save(residual(), tmp_path / "net.onnx")
    target = f"local:transport=dask,address={fleet.address},config={fleet.config},tag=small"
    arguments = ["profile", str(tmp_path / "net.onnx"), "--target", target, "--db", str(tmp_path / "own.sqlite")]
    assert main([*arguments, "--fleet", "--json"]) == 0
    first, said = capsys.readouterr()
    assert "(2 devices at work" in said
    with contextlib.closing(sqlite3.connect(tmp_path / "own.sqlite")) as opened:
        repeated = opened.execute('SELECT digest, session, "index" FROM samples').fetchall()
    rows = [
        row
        for rows in ProfileStore(tmp_path / "own.sqlite").find([row[0] for row in repeated]).values()
        for row in rows
    ]
    ends = [row for row in rows if row.key.method["place"] == "end to end"]
    assert len(ends) == json.loads(first)["built"]
    assert {row.observed["device"]["worker"] for row in ends} == {"small-1", "small-2"}
    assert main([*arguments, "--json"]) == 0  # the same key, whoever measured it
    second = json.loads(capsys.readouterr().out)
    assert second["built"] == 0
    assert second["reused"] == json.loads(first)["built"] + json.loads(first)["reused"]


def test_one_device_is_no_fleet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save(residual(), tmp_path / "net.onnx")
    assert main(["profile", str(tmp_path / "net.onnx"), "--fleet"]) == 2
    assert "local is one device. A fleet is a target with transport=dask" in capsys.readouterr().err
    assert main(["profile", str(tmp_path / "net.onnx"), "--devices", "3"]) == 2
    assert "--devices 3 is no number of devices of a --fleet" in capsys.readouterr().err
