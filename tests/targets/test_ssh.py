"""What the user's OpenSSH is asked and what its refusals mean, against a real sshd on loopback."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from targets.connection import connect
from targets.errors import BadInput, LinkLost, RuntimeMissing, TargetError
from targets.target import Target
from targets.transports import Link, open_link, remote, ssh
from targets.transports.remote import RemoteLink
from tests.targets.processes import alive, command_line
from tests.targets.sshd import Server, close_kept_connection, free_port, make_key, serve

INTERPRETERS = Path("~/.pyenv/versions").expanduser()


@pytest.fixture(scope="module")
def shared(ssh_server: Server) -> Server:
    return ssh_server


@pytest.fixture
def link(shared: Server) -> Iterator[Link]:
    with open_link(shared.target()) as opened:
        yield opened


def stranger(server: Server, folder: Path, old: str, new: str) -> Target:
    """The server's target with another line in the client's configuration, and no connection that is open already."""
    text = server.config.read_text(encoding="ascii")
    assert old in text
    config = folder / "config"
    config.write_text(text.replace(old, new), encoding="ascii")
    return replace(server.target(), config=str(config))


def refusal(target: Target) -> TargetError:
    with pytest.raises(TargetError, match=r"^[^\n]+$") as caught, open_link(target):
        pass
    assert str(caught.value).startswith("device: ")
    return caught.value


def kept(folder: Path, text: str) -> str:
    path = folder / "known"
    path.write_text(text, encoding="ascii")
    return f"UserKnownHostsFile {path}"


def test_a_host_key_that_is_not_known_says_what_to_do(shared: Server, tmp_path: Path) -> None:
    known = f"UserKnownHostsFile {shared.folder}/known_hosts"
    found = refusal(stranger(shared, tmp_path, known, kept(tmp_path, "")))
    assert str(found) == "device: its host key is not known here. Connect once by hand: ssh device."
    assert not isinstance(found, LinkLost)  # asked again it would say the same


def test_a_host_key_that_has_changed_is_never_taken_for_a_new_one(shared: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text(encoding="ascii")
    known = f"UserKnownHostsFile {shared.folder}/known_hosts"
    found = refusal(stranger(shared, tmp_path, known, kept(tmp_path, f"[127.0.0.1]:{shared.port} {other}")))
    assert "its host key has changed. If you know why: ssh-keygen -R device" in str(found)
    assert not isinstance(found, LinkLost)


def test_a_key_that_is_refused_says_how_to_bring_it_there(shared: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    found = refusal(
        stranger(shared, tmp_path, f"IdentityFile {shared.folder}/user_key", f"IdentityFile {tmp_path}/other")
    )
    assert str(found) == "device: it takes none of your keys. Run: ssh-copy-id device, or ssh-add your key."
    assert not isinstance(found, LinkLost)


def test_a_host_that_does_not_exist_is_said_so(shared: Server, tmp_path: Path) -> None:
    nowhere = "x" * 64 + ".invalid"  # longer than a label may be: no server is asked
    found = refusal(stranger(shared, tmp_path, "HostName 127.0.0.1", f"HostName {nowhere}"))
    assert str(found) == "device: there is no host of that name."


def test_where_nothing_listens_the_device_may_be_off(shared: Server, tmp_path: Path) -> None:
    found = refusal(stranger(shared, tmp_path, f"Port {shared.port}", f"Port {free_port()}"))
    assert str(found) == "device: no SSH server listens there. Is the device on?"
    assert isinstance(found, LinkLost)


def test_a_server_that_accepts_and_is_silent_is_given_up(
    shared: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "OPTIONS", tuple(each.replace("Timeout=15", "Timeout=1") for each in ssh.OPTIONS))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = refusal(stranger(shared, tmp_path, f"Port {shared.port}", f"Port {port}"))
    assert str(found) == "device: it does not answer. Is the device on, and in this network?"
    assert isinstance(found, LinkLost)


def forced(command: str) -> str:
    return f"ForceCommand {command}"


def path_of(*folders: Path | str) -> str:
    """Where programs are looked for over there, whatever the user's own shell says when it starts."""
    return forced(f'PATH={":".join(map(str, folders))} exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"')


@pytest.mark.slow
def test_a_shell_that_is_silent_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "START_S", 1.0)
    with serve(tmp_path, setting=forced("sleep 3600")) as server:
        found = refusal(server.target())
        assert "did not start there within 1 s" in str(found)
        assert isinstance(found, LinkLost)


def test_a_shell_that_prints_is_told_from_our_agent(tmp_path: Path) -> None:
    with serve(tmp_path, setting=forced('echo "Welcome to the lab"; eval "$SSH_ORIGINAL_COMMAND"')) as server:
        found = refusal_of_anything(server)
    assert "says something before our agent does: 'Welcome to the lab" in found
    assert ".bashrc" in found


def refusal_of_anything(server: Server) -> str:
    with pytest.raises(TargetError, match=r"^[^\n]+$") as caught, open_link(server.target()):
        pass
    return str(caught.value)


def test_a_device_without_python_says_what_to_install(tmp_path: Path) -> None:
    with serve(tmp_path, setting=path_of("/nonexistent")) as server:
        found = refusal(server.target())
    assert str(found) == "device: it has no python3. Install Python 3.8 or newer there."
    assert not isinstance(found, LinkLost)


def interpreter(*versions: str) -> Path:
    for version in versions:
        for found in sorted(INTERPRETERS.glob(f"{version}.*/bin/python3")):
            return found
    pytest.skip(f"no Python {' or '.join(versions)} is installed with pyenv")


@pytest.mark.slow
def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = interpreter("3.6", "3.7")
    with serve(tmp_path, setting=path_of(old.parent, "/usr/bin", "/bin")) as server:
        found = refusal(server.target())
    assert f"Python 3.8 or newer is needed there; python3 is 3.{old.parts[-3].split('.')[1]}" in str(found)


@pytest.mark.slow
def test_the_oldest_python_that_we_promise_runs_the_agent(tmp_path: Path) -> None:
    oldest = interpreter("3.8")
    with serve(tmp_path, setting=path_of(oldest.parent, "/usr/bin", "/bin")) as server:
        target = replace(server.target(), python=str(oldest))
        with open_link(target) as link:
            assert isinstance(link, RemoteLink)
            assert Path(link.folder).parent == server.root / "sessions"
            assert Path(link.put(Path(__file__))).read_bytes() == Path(__file__).read_bytes()
        with pytest.raises(RuntimeMissing, match=r"^[^\n]*pip install onnxruntime$"), connect(target):
            pass


def test_an_interpreter_that_is_not_there_is_named(shared: Server) -> None:
    found = refusal(replace(shared.target(), python="/no/such/python"))
    assert (
        str(found)
        == "device: Cannot start /no/such/python: it is no program there. Give the path of a Python 3.8 or newer."
    )


DESTINATIONS = ("-oProxyCommand=touch pwned", "-l", "", "a b", "a;b", "$(a)", "a\nb", "`a`", "a'b", 'a"b', "a|b", "é")


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_what_can_be_no_destination_is_refused_before_anything_runs(
    destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("targets.transports.remote.subprocess.Popen", None)  # nothing may even be tried
    with pytest.raises(BadInput, match="no destination for ssh"), open_link(Target("t", "ssh", address=destination)):
        pass


def test_no_name_and_no_path_is_part_of_a_command_line(shared: Server, tmp_path: Path) -> None:
    odd = "a b; $(touch pwned) 'c' \"d\" `e` \\"
    target = replace(shared.target(), name=odd, folder=str(tmp_path / odd))
    with open_link(target) as link:
        assert Path(link.folder).is_relative_to(tmp_path / odd)
        assert isinstance(link, RemoteLink)
        line = command_line(link.channel.process.pid)
        assert [part.decode() for part in line[:-1]] == ssh.command("device", str(shared.config))
        assert not any(word in part for part in line for word in (b"pwned", os.fsencode(tmp_path)))
    assert not list(tmp_path.rglob("pwned"))
    assert not list(Path.home().glob("pwned"))


def test_the_agent_is_sent_once_and_found_by_its_hash(shared: Server) -> None:
    def sent() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in (shared.root / "agents").iterdir()}

    with open_link(shared.target()):
        first = sent()
    with open_link(shared.target()):
        assert sent() == first
    (path,) = (shared.root / "agents").iterdir()
    assert path.name == f"{sha256(path.read_bytes()).hexdigest()}.pyz"


def test_an_agent_that_was_damaged_is_sent_again(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        with open_link(server.target()):
            (path,) = (server.root / "agents").iterdir()
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with open_link(server.target()) as again:
            assert again.folder
        assert path.read_bytes() == whole


def test_a_file_that_was_damaged_is_sent_again(shared: Server, tmp_path: Path) -> None:
    file = tmp_path / "some.model.onnx"
    file.write_bytes(os.urandom(100_000))
    with open_link(shared.target()) as link:
        there = Path(link.put(file))
        assert there.read_bytes() == file.read_bytes()
        stored = shared.root / "files" / there.name
        with stored.open("r+b") as open_file:
            open_file.write(b"damaged")
        assert Path(link.put(file)).read_bytes() == file.read_bytes()  # its time has changed
        stored = shared.root / "files" / there.name
        found = stored.stat()
        with stored.open("r+b") as open_file:
            open_file.write(b"damaged")
        os.utime(stored, ns=(found.st_atime_ns, found.st_mtime_ns))
    with open_link(shared.target()) as link:  # as power fails: only the bytes tell
        assert Path(link.put(file)).read_bytes() == file.read_bytes()


def test_what_lies_on_the_device_is_for_its_user_alone(shared: Server, link: Link, tmp_path: Path) -> None:
    file = tmp_path / "secret.onnx"
    file.write_bytes(b"weights")
    link.put(file)
    folders = [shared.root, *(path for path in shared.root.rglob("*") if path.is_dir())]
    assert {path.name for path in folders} > {"agents", "files", "sessions"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in folders)
    assert ssh.control_folder().stat().st_mode & 0o077 == 0


def test_cleaning_leaves_what_a_living_agent_uses(shared: Server, tmp_path: Path) -> None:
    used, unused = tmp_path / "used.onnx", tmp_path / "unused.onnx"
    for file in (used, unused):
        file.write_bytes(os.urandom(50_000))
    with open_link(shared.target()) as link:
        link.put(unused)
    with open_link(shared.target()) as mine, open_link(shared.target()) as other:
        there = Path(mine.put(used))
        told, _ = other.channel.ask("clean", {})
        assert told["removed"] >= 50_000
        assert there.read_bytes() == used.read_bytes()
        assert Path(mine.put(used)) == there
        assert [path.stat().st_size for path in (shared.root / "files").iterdir()] == [50_000]


def accepted(server: Server) -> int:
    return (server.folder / "sshd.log").read_text(encoding="utf-8").count("Accepted publickey")


def test_a_second_connection_rides_on_the_first(shared: Server) -> None:
    close_kept_connection(shared)
    before = accepted(shared)
    for _ in range(3):
        with open_link(shared.target()):
            pass
    assert accepted(shared) == before + 1


def test_the_socket_of_a_kept_connection_is_one_for_each_way_to_a_device() -> None:
    ways = [("device", ""), ("device", "config"), ("behind-a-jump-host", "")]
    assert len({ssh.control_path(*way) for way in ways}) == 3
    assert len(ssh.control_path("x" * 200, "y" * 200)) + 40 + 17 < 104  # what %C and OpenSSH's own suffix add


def jumping(server: Server, folder: Path) -> Target:
    """The same server, reached through itself under another name."""
    text = server.config.read_text(encoding="ascii")
    config = folder / "jump_config"
    jump = text.replace("Host device", "Host jump")
    config.write_text(f"{text} ProxyJump jump\n{jump}", encoding="ascii")
    return replace(server.target(), config=str(config))


def leave(target: Target) -> None:
    path = f"-oControlPath={ssh.control_path(target.address, target.config)}"
    subprocess.run(["ssh", "-F", target.config, path, "-O", "exit", target.address], capture_output=True, check=False)


@pytest.mark.slow
def test_a_device_behind_a_jump_host_is_reached_by_the_users_configuration(shared: Server, tmp_path: Path) -> None:
    target = jumping(shared, tmp_path)
    before = accepted(shared)
    with ExitStack() as stack:
        stack.callback(leave, target)
        with open_link(target) as first:
            assert accepted(shared) == before + 2
            with open_link(target) as second:
                assert accepted(shared) == before + 2
                assert first.folder != second.folder


def test_the_end_of_one_link_is_not_the_end_of_another_on_the_same_way(shared: Server, tmp_path: Path) -> None:
    target = jumping(shared, tmp_path)
    with ExitStack() as stack:
        stack.callback(leave, target)
        first = ExitStack()
        first.enter_context(open_link(target))  # opens the way through the jump host
        second = stack.enter_context(open_link(target))
        first.close()
        time.sleep(0.2)  # for the way to go, if it went
        assert second.channel.ask("session", {})[0] == {"folder": second.folder}
        assert isinstance(second, RemoteLink)
        assert alive(second.channel.process.pid)
