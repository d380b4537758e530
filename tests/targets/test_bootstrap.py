"""The constant program that becomes the agent, under every Python that is here, as a transport runs it."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from targets import archive
from targets.archive import AGENT, write_agent
from targets.bootstrap import BOOTSTRAP
from targets.transports.ssh import COMMAND

VERSIONS = [f"3.{minor}" for minor in range(6, 15)]
TOO_OLD = ("3.6", "3.7")


def interpreter(version: str) -> str:
    """One of this version, wherever it lies; skips where there is none."""
    candidates = [
        *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")),
        Path("/usr/bin", f"python{version}"),
    ]
    for path in candidates:
        if path.exists():
            return str(path)
    pytest.skip(f"Python {version} is not here")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    write_agent(path)
    return path.read_bytes()


class Device:
    """A process as a transport starts it: the bootstrap on its command line, our hand on its pipes."""

    def __init__(self, python: str = sys.executable, **environment: str | None) -> None:
        known = {**os.environ, **environment}
        self.process = subprocess.Popen(
            [python, "-I", "-c", BOOTSTRAP], stdin=-1, stdout=-1, stderr=-1,
            env={name: value for name, value in known.items() if value is not None},
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def say(self, data: bytes) -> None:
        self.stdin.write(data)
        self.stdin.flush()

    def hear(self) -> Any:
        return json.loads(self.stdout.readline() or "null")

    def ask(self, agent: bytes, root: Path | str, python: str = "") -> Any:
        digest = hashlib.sha256(agent).hexdigest()
        asked = {"sha256": digest, "size": len(agent), "holder": "ann@desk", "root": str(root), "python": python}
        self.say(json.dumps(asked).encode() + b"\n")
        return self.hear()

    def become(self, agent: bytes, root: Path | str, python: str = "") -> Any:
        """The session of the agent that it becomes, which is sent where it is not there yet."""
        answer = self.ask(agent, root, python)
        if answer == {"have": False}:
            self.say(agent)
            answer = self.hear()
        if answer != {"have": True}:
            return answer
        self.say(b'{"id":1,"verb":"session","arguments":{}}\n')
        return self.hear()


@pytest.mark.parametrize("version", VERSIONS)
def test_it_becomes_the_agent_or_says_that_this_python_is_too_old(version: str, agent: bytes, tmp_path: Path) -> None:
    with Device(interpreter(version)) as device:
        answer = device.become(agent, tmp_path / "root")
        if version in TOO_OLD:
            assert answer == {"error": f"Python 3.8 or newer is needed there; python3 is {version}"}
            assert not (tmp_path / "root").exists()
        else:
            assert answer["result"]["folder"].startswith(str(tmp_path / "root" / "sessions"))
    assert device.process.returncode == 0


@pytest.mark.parametrize("version", TOO_OLD)
def test_a_runtimes_python_that_is_too_old_says_so(version: str, agent: bytes, tmp_path: Path) -> None:
    with Device() as device:
        assert device.become(agent, tmp_path / "root", python=interpreter(version)) is None
        assert device.process.stderr is not None
        assert device.process.stderr.read() == f"Python 3.8 or newer is needed; this is {version}\n".encode()


def test_it_is_sent_once(agent: bytes, tmp_path: Path) -> None:
    with Device() as device:
        assert device.ask(agent, tmp_path / "root") == {"have": False}
        device.say(agent)
        assert device.hear() == {"have": True}
    with Device() as device:
        assert device.ask(agent, tmp_path / "root") == {"have": True}


def test_two_that_send_it_at_once_both_become_it(agent: bytes, tmp_path: Path) -> None:
    with Device() as one, Device() as other:
        assert one.ask(agent, tmp_path / "root") == other.ask(agent, tmp_path / "root") == {"have": False}
        senders = [threading.Thread(target=device.say, args=(agent,)) for device in (one, other)]
        for sender in senders:
            sender.start()
        assert one.hear() == other.hear() == {"have": True}
        for sender in senders:
            sender.join()
    assert [path.suffix for path in (tmp_path / "root" / "agents").iterdir()] == [".pyz"]


def test_an_agent_that_arrives_damaged_is_not_kept(agent: bytes, tmp_path: Path) -> None:
    with Device() as device:
        device.ask(agent, tmp_path / "root")
        device.say(agent[:-1] + bytes([agent[-1] ^ 1]))
        assert device.hear() == {"error": "The agent arrived damaged. Try again."}
    assert list((tmp_path / "root" / "agents").iterdir()) == []


def test_a_host_that_goes_away_leaves_half_of_nothing(agent: bytes, tmp_path: Path) -> None:
    with Device() as device:
        device.ask(agent, tmp_path / "root")
        device.say(agent[:1000])
    assert list((tmp_path / "root" / "agents").iterdir()) == []


def test_an_agent_that_was_damaged_where_it_lies_is_sent_again(agent: bytes, tmp_path: Path) -> None:
    path = tmp_path / "root" / "agents" / f"{hashlib.sha256(agent).hexdigest()}.pyz"
    for _ in range(2):
        with Device() as device:
            assert device.ask(agent, tmp_path / "root") == {"have": False}
            device.say(agent)
            assert device.hear() == {"have": True}
        path.write_bytes(path.read_bytes()[:-100])


def test_a_place_where_nothing_can_be_written_is_one_line(agent: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Device() as device:
        answer = device.ask(agent, tmp_path / "file" / "root")
    assert "Not a directory" in answer["error"]
    assert "\n" not in answer["error"]


def test_a_folder_that_others_may_write_to_is_refused_and_left_as_it_is(agent: bytes, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with Device() as device:
        assert "others may write to it" in device.ask(agent, tmp_path)["error"]
    assert tmp_path.stat().st_mode & 0o777 == 0o777
    assert list(tmp_path.iterdir()) == []


def test_a_folder_like_tmp_is_taken_unless_somebody_was_there_first(agent: bytes, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with Device() as device:
        assert "result" in device.become(agent, tmp_path)
    assert (tmp_path / "agents").stat().st_mode & 0o777 == 0o700
    shutil.rmtree(tmp_path / "agents")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "agents").symlink_to(tmp_path / "elsewhere")
    with Device() as device:
        assert "it is not yours" in device.ask(agent, tmp_path)["error"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("mask", [0o000, 0o777, 0o022])
def test_its_folders_are_for_its_user_alone_whatever_the_umask(agent: bytes, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        device = Device()
    finally:
        os.umask(before)
    with device:
        folder = Path(device.become(agent, tmp_path / "new" / "root")["result"]["folder"])
        for each in (folder, *folder.parents):
            if each == tmp_path:
                break
            assert each.stat().st_mode & 0o777 == 0o700
        (program,) = (tmp_path / "new" / "root" / "agents").iterdir()
        assert program.stat().st_mode & 0o077 == 0


def test_without_a_folder_it_takes_its_users_cache(agent: bytes, tmp_path: Path) -> None:
    with Device(XDG_CACHE_HOME=str(tmp_path / "cache")) as device:
        assert device.become(agent, "")["result"]["folder"].startswith(str(tmp_path / "cache" / "cutback"))
    with Device(XDG_CACHE_HOME=None, HOME=str(tmp_path / "home")) as device:
        assert device.become(agent, "")["result"]["folder"].startswith(str(tmp_path / "home" / ".cache" / "cutback"))


def test_without_a_home_it_takes_that_of_the_password_file(agent: bytes, tmp_path: Path) -> None:
    with Device(HOME=None) as device:
        answer = device.ask(agent, "~nobody-of-that-name/x")
    assert "~nobody-of-that-name/x: there is no such home folder" in answer["error"]
    with Device(HOME=None) as device:
        assert "result" in device.become(agent, tmp_path / "root")


def test_an_interpreter_that_is_not_there_is_one_line(agent: bytes, tmp_path: Path) -> None:
    with Device() as device:
        answer = device.become(agent, tmp_path / "root", python="/opt/none/python3")
    assert answer["error"].startswith("Cannot start /opt/none/python3: it is no program there.")


def test_an_interpreter_is_found_by_its_name(agent: bytes, tmp_path: Path) -> None:
    if shutil.which("python3") is None:
        pytest.skip("there is no python3 on the path")
    with Device(PATH=str(Path(sys.executable).parent)) as device:
        assert "result" in device.become(agent, tmp_path / "root", python=Path(sys.executable).name)


def test_the_agent_leaves_nothing_but_its_cache(agent: bytes, tmp_path: Path) -> None:
    with Device() as device:
        folder = Path(device.become(agent, tmp_path / "root")["result"]["folder"])
        assert folder.exists()
    assert not folder.exists()
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["agents", "files", "sessions"]


def test_what_lies_in_a_home_folder_is_not_taken_for_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('this is not the JSON you are looking for')")
    done = subprocess.run(["sh", "-c", COMMAND], cwd=tmp_path, input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_bootstrap_is_read_by_any_python_3() -> None:
    ast.parse(BOOTSTRAP, feature_version=(3, 4))
    ast.parse(archive.AGENT_MAIN, feature_version=(3, 4))


def test_an_equal_agent_is_an_equal_file(agent: bytes, tmp_path: Path) -> None:
    write_agent(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == agent
    with zipfile.ZipFile(tmp_path / "again.pyz") as sent:
        assert {f"targets/{name}" for name in AGENT} <= set(sent.namelist())


IMPORT_ALL = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
for name in sorted(zipfile.ZipFile(sys.argv[1]).namelist()):
    module = name[:-3].replace("/", ".")
    source = zipfile.ZipFile(sys.argv[1]).read(name).decode()
    if module in sys.argv[2].split(","):
        importlib.import_module(module.replace(".__init__", ""))
    compile(source, name, "exec", dont_inherit=True)
assert all(each.__file__.startswith(sys.argv[1]) for name, each in sys.modules.items() if name.startswith("targets"))
print("imported")
"""


@pytest.mark.parametrize("version", [each for each in VERSIONS if each not in TOO_OLD])
def test_the_whole_agent_is_imported_by_this_python_without_numpy(version: str, agent: bytes, tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(agent)
    plain = [f"targets.{name[:-3]}".replace("/", ".") for name in AGENT if name != "feeds.py"]
    runtimes = [
        f"targets.runtimes.{name}" for name in ("__init__", "cuda", "mnn", "ort_format", "tensorrt", "executorch")
    ]
    command = [interpreter(version), "-I", "-S", "-W", "error", "-c", IMPORT_ALL, str(tmp_path / "agent.pyz")]
    done = subprocess.run([*command, ",".join([*plain, *runtimes])], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("imported\n", "")
