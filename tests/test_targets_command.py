"""`cutback targets` and what stands after it, as a user calls it."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cli.targets import EXAMPLES, SUBCOMMANDS
from pipeline.cli.targets_tables import print_doctor
from pipeline.doctor import judged, try_out
from pipeline.lowering import connect
from targets.errors import BadInput, TargetError
from targets.lease import Lease
from targets.target import Target, find_target
from targets.upkeep import ask_about, clean
from tests.digits import cutback
from tests.targets.models import residual, saved
from tests.targets.sshd import NoServer, Server, serve

pytestmark = pytest.mark.usefixtures("project")

QUICKLY = ("--sessions", "2")


@pytest.fixture(autouse=True)
def _own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTBACK_LEASE", str(tmp_path / "lease"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    try:
        with serve(tmp_path_factory.mktemp("sshd")) as running:
            yield running
    except NoServer as failure:
        pytest.skip(str(failure))


def add_device(server: Server, *more: str) -> None:
    target = server.target()
    given = ["--transport", "ssh", "--address", target.address, "--config", target.config, "--python", target.python]
    assert main(["targets", "add", "board", *given, "--folder", target.folder, *more]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of error; standard output stays empty and the status is 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example(capsys, name):
    assert set(EXAMPLES) == {"", *SUBCOMMANDS}
    assert main(["targets", name, "--help"]) == 0
    assert f"cutback targets {name}" in capsys.readouterr().out


def test_targets_are_listed_with_where_they_come_from(capsys, project):
    (project / "targets.toml").write_text('[targets.pi]\ntransport = "ssh"\naddress = "me@pi"\n')
    assert main(["targets", "--json"]) == 0
    found = {target["name"]: target for target in json.loads(capsys.readouterr().out)}
    assert next(iter(found)) == "local"
    assert {"local-openvino", "local-mnn", "local-tensorrt"} < set(found)
    assert found["local"]["from"] == "built in"
    assert (found["pi"]["from"], found["pi"]["address"]) == (str(project / "targets.toml"), "me@pi")
    assert main(["targets", "list"]) == 0
    out = capsys.readouterr().out
    assert "me@pi" in out
    assert "built in" in out


def test_a_device_is_named_and_forgotten(capsys, project, tmp_path):
    add = ["targets", "add", "pi", "--transport", "ssh", "--address", "me@pi", "--threads", "4", "--option", "dla=0"]
    assert main([*add, "--precision", "int8", "--regime", "locked", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    own = tmp_path / "config" / "cutback" / "targets.toml"
    assert (told["written"], told["in_force"]) == (str(own), True)
    expected = Target("pi", "ssh", "onnxruntime", "int8", 4, "locked", {"dla": "0"}, "me@pi")
    assert find_target("pi") == expected
    assert "--replace" in refused(capsys, *add)
    assert main([*add, "--replace"]) == 0
    assert find_target("pi") == replace(expected, precision="", regime="as-shipped")
    assert "cutback targets doctor pi" in capsys.readouterr().out
    assert main(["targets", "remove", "pi"]) == 0
    assert capsys.readouterr().out == f"removed pi from {own}\n"
    with pytest.raises(BadInput, match="no target 'pi'"):
        find_target("pi")


def test_a_project_has_names_of_its_own_that_come_first(capsys, project, tmp_path):
    config = project / "ssh" / "config"
    assert main(["targets", "add", "pi", "--project", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == str(config)
    assert 'config = "ssh/config"' in (project / "targets.toml").read_text()  # the folder may be moved
    assert main(["targets", "add", "pi", "--user"]) == 0
    assert f"but {project / 'targets.toml'} has a target pi too" in capsys.readouterr().out
    assert "Give --user or --project" in refused(capsys, "targets", "remove", "pi")
    assert main(["targets", "remove", "pi", "--project", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": "pi", "from": str(project / "targets.toml")}
    assert main(["targets", "remove", "pi"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "local"], "'local' is built in"),
        (["add", "a:b"], "no name for a target"),
        (["add", "pi", "--transport", "air"], "transport 'air' is none of local, ssh"),
        (["add", "pi", "--option", "dla"], "--option 'dla' is no NAME=VALUE"),
        (["add", "pi", "--threads", "0"], "threads=0 is no number of cores"),
        (["remove", "local"], "built in and cannot be removed"),
        (["remove", "pi"], "No file names a target 'pi'"),
        (["doctor", "moon"], "no target 'moon'"),
        (["clean", "moon"], "no target 'moon'"),
        (["doctor", "local", "--sessions", "1"], "greater than or equal to 2"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(capsys, project, tmp_path, arguments, says):
    assert says in refused(capsys, "targets", *arguments)
    assert not (tmp_path / "config").exists()


def test_a_doctor_of_this_machine_tells_what_it_is_and_tests_it(project):
    done = cutback("targets", "doctor", "local", *QUICKLY, "--json", cwd=project)
    found = done.json
    assert found["problems"] == []
    assert found["device"]["stack"]["runtime"] == "onnxruntime"
    assert found["agent"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["agent"]["free_bytes"] > 0
    assert found["agent"]["round_trip_ms"] > 0
    assert found["difference"] < 1e-3
    assert [len(side) for side in found["self_test"]["medians_ms"]] == [2, 2]
    assert done.status == (1 if found["self_test"]["claimed"] else 0)
    assert found["passed"] is not found["self_test"]["claimed"]


def test_a_doctor_for_people_leaves_the_self_test_out_when_asked_to(capsys):
    assert main(["targets", "doctor", "local", "--no-self-test"]) == 0
    out = capsys.readouterr().out
    assert "round trip" in out
    assert "governor" in out
    assert "onnxruntime" in out
    assert "local works; whether it can be measured on was not seen: it was not asked for" in out
    assert "\x1b" not in out


def test_a_runtime_that_is_missing_is_a_finding_with_its_command(capsys, project):
    (project / "targets.toml").write_text(f'[targets.bare]\npython = "{sys.executable} -S"\n')
    assert main(["targets", "doctor", "bare", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (problem,) = found["problems"]
    assert f"Run there: {sys.executable} -m pip install onnxruntime" in problem
    assert found["agent"]["executable"] == sys.executable  # told all the same
    assert main(["targets", "doctor", "bare"]) == 1
    assert "not ready  bare cannot be used as it is" in capsys.readouterr().out


def test_more_threads_than_cores_are_a_finding(capsys):
    assert main(["targets", "doctor", f"local:threads={(os.cpu_count() or 1) + 1}", "--json"]) == 1
    assert "Change threads" in json.loads(capsys.readouterr().out)["problems"][0]


def test_a_device_that_is_not_there_is_a_finding_with_what_to_do(capsys, server):
    add_device(server)
    assert main(["targets", "doctor", "board:address=-oProxyCommand", "--json"]) == 1
    assert "no destination for ssh" in json.loads(capsys.readouterr().out.split("board\n")[-1])["problems"][0]


def test_a_doctor_of_a_device_behind_ssh_and_a_clean_one_after_it(capsys, server):
    add_device(server)
    capsys.readouterr()
    assert main(["targets", "doctor", "board", "--no-self-test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["agent"]["sha256"]) == 64
    assert found["agent"]["folder"] == server.target().folder
    assert found["difference"] < 1e-3
    assert main(["targets", "clean", "board", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["root"] == server.target().folder
    assert told["removed"] > 100_000  # the gauge's weights were sent
    assert list(Path(told["root"], "files").iterdir()) == []
    assert main(["targets", "clean", "board"]) == 0
    assert f"from {told['root']} on board" in capsys.readouterr().out


@pytest.mark.slow
def test_a_device_behind_ssh_is_tested_against_itself(capsys, server):
    add_device(server)
    capsys.readouterr()
    status = main(["targets", "doctor", "board", *QUICKLY, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert [len(side) for side in found["self_test"]["medians_ms"]] == [2, 2]
    assert status == (1 if found["self_test"]["claimed"] else 0)


def test_nothing_is_kept_on_this_machine(capsys):
    assert clean(Target("local")) is None
    assert main(["targets", "clean", "local"]) == 0
    assert "nothing is kept on local" in capsys.readouterr().out
    assert main(["targets", "clean", "local", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"target": "local", "keeps": False}


def test_who_has_the_device_is_told_without_waiting():
    assert ask_about(Target("local")).busy_for is None
    lease = Lease("me@laptop")
    lease.take(lambda holder: pytest.fail(f"{holder} has it"))
    try:
        assert ask_about(Target("local")).busy_for == "me@laptop"
    finally:
        lease.release()


def test_an_emulated_device_is_said_to_be_so_and_is_not_timed(capsys):
    with connect(Target("local")) as connection:
        connection.device = replace(connection.device, emulated=True)  # as its fingerprint would say
        found = try_out(connection, 2, 0, None)
        assert found["difference"] < 1e-3
        assert "self_test" not in found
        assert "timings are useless" in found["left_out"]
        nothing: dict[str, Any] = {
            "target": "board", "agent": None, "conditions": None, "lock": None, "problems": [], "self_test": None,
            "doubts": [],
        }  # fmt: skip
        told = {**nothing, "device": connection.device.as_dict(), **found}
    print_doctor({**told, **judged(connection.target, told)})
    assert "emulated  it computes right, and its timings are useless" in capsys.readouterr().out


def test_a_self_test_that_claims_a_difference_says_what_that_means():
    told: dict[str, Any] = {"problems": [], "self_test": {"claimed": True, "low": 1.01, "high": 1.03}, "left_out": None}
    verdict = judged(Target("board"), told)
    assert not verdict["passed"]
    assert "one test in a hundred does: run this again" in verdict["verdict"]
    told["self_test"] = {"claimed": False, "low": 0.99, "high": 1.01}
    verdict = judged(Target("board"), told)
    assert verdict["passed"]
    assert "differences of 1.0 % and more" in verdict["verdict"]


def test_waiting_for_a_device_is_told_on_the_command_line(capsys, monkeypatch, tmp_path):
    lease = Lease("me@laptop")
    lease.take(lambda holder: pytest.fail(f"{holder} has it"))

    def line(self: object, text: str) -> None:
        lease.release()
        sys.stderr.write(f"cutback: {text}\n")

    monkeypatch.setattr("pipeline.cli.progress.Lines.line", line)
    monkeypatch.setattr("pipeline.cli.progress.Lines.__call__", lambda *_: None)
    model = saved(residual(), tmp_path / "net.onnx")
    assert main(["build", str(model), "-o", str(tmp_path / "engine"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "cutback: local is busy for me@laptop; waiting.\n"
    assert json.loads(out)["runtime"] == "onnxruntime"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("build", ["build", "{model}", "-o", "engine"]),
        ("measure", ["measure", "{model}"]),
        ("measure", ["measure", "{model}", "--self-test"]),
        ("profile", ["profile", "{model}"]),
        ("predict", ["predict", "{model}", "--plan", "{plan}"]),
        ("prune", ["prune", "{model}", "-o", "cut.onnx", "--goal", "latency<=0.5x"]),
        ("sweep", ["sweep", "{model}"]),
        ("compress", ["compress", "{model}", "--goal", "latency<=0.5x", "-o", "small"]),
        ("doctor", ["targets", "doctor", "local"]),
    ],
)
def test_every_command_that_connects_passes_on_what_a_connection_tells(
    capsys, monkeypatch, tmp_path, module, arguments
):
    model, plan = saved(residual(), tmp_path / "net.onnx"), tmp_path / "plan.json"
    if module == "predict":
        cut = ["prune", str(model), "-o", str(tmp_path / "cut.onnx"), "--keep", "0.5", "--plan", str(plan)]
        assert main(cut) == 0
        capsys.readouterr()

    def connects(target: Target, *, tell: Any) -> None:
        tell(f"{target.name} is far away")
        raise TargetError("It stays away.")

    monkeypatch.setattr(importlib.import_module(f"pipeline.{module}"), "connect", connects)
    assert main([each.format(model=model, plan=plan) for each in arguments]) == (1 if module == "doctor" else 2)
    out, err = capsys.readouterr()
    assert "cutback: local is far away\n" in err
    assert "It stays away." in out + err


def test_a_targets_precision_is_what_precision_is_where_nobody_gives_it(capsys, project, tmp_path):
    (project / "targets.toml").write_text('[targets.int8]\nprecision = "int8"\n[targets.half]\nprecision = "fp16"\n')
    model = saved(residual(), tmp_path / "net.onnx")
    line = refused(capsys, "build", str(model), "--target", "int8", "-o", "engine")
    assert "int8 is a target of int8, which needs data" in line
    build = ["build", str(model), "-o", "engine", "--json", "--target"]
    assert main([*build, "half"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "fp16"
    assert main([*build, "int8", "--precision", "fp32"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "fp32"


def test_what_a_connection_cannot_take_from_the_command_line_is_refused():
    with pytest.raises(BadInput, match="Give --precision"):
        find_target("local:precision=int8")
