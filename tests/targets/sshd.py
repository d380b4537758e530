"""A real OpenSSH server for the tests: its own keys, its own port, on loopback or in a network of the test's own."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from targets.target import Target
from tests.targets.processes import alive, command_line, descendants

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or shutil.which("sshd")
PATIENCE_S = 10.0


class NoServer(Exception):
    """No OpenSSH server is installed here."""


class Server:
    """`config`: what the client needs, as a file for `ssh -F`; the host in it is called `device`."""

    def __init__(self, folder: Path, address: str, port: int, within: Sequence[str]) -> None:
        self.folder = folder
        self.port = port
        self.config = folder / "ssh_config"
        self.root = folder / "agent-of-device"
        self._address = address
        self._within = tuple(within)
        self._daemon: subprocess.Popen[bytes] | None = None

    def target(self, name: str = "device", runtime: str = "onnxruntime", python: str = sys.executable) -> Target:
        """A target whose agent keeps its files in a folder of its own and runs on the Python that runs the tests."""
        return Target(
            name, "ssh", runtime, address="device", config=str(self.config), python=python, folder=str(self.root)
        )

    def start(self) -> None:
        with (self.folder / "sshd.log").open("ab") as log:
            command = [*self._within, str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self._daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + PATIENCE_S
        said = b""
        while b"Server listening" not in said:
            if self._daemon.poll() is not None or time.monotonic() > end:
                raise NoServer(f"sshd does not start here: {said[-200:].decode(errors='replace')}")
            time.sleep(0.02)
            said = (self.folder / "sshd.log").read_bytes()[self._begun :]
        self._begun += len(said)

    _begun = 0  # where the log of the present daemon begins

    def stop(self) -> None:
        """As power goes: the daemon and all that it started, at once."""
        assert self._daemon is not None
        pids = [self._daemon.pid, *self.processes(), *self.left()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._daemon.wait(10)
        while any(map(alive, pids)):
            time.sleep(0.01)

    def processes(self) -> list[int]:
        """All that the daemon started and what that started: sessions, agents, workers."""
        assert self._daemon is not None
        return descendants(self._daemon.pid)

    def agents(self) -> list[int]:
        return [pid for pid in self.left() if b"--root" in command_line(pid)]

    def workers(self) -> list[int]:
        return [pid for pid in self.left() if b"--worker" in command_line(pid)]

    def left(self) -> list[int]:
        """Every process of ours on the device, whoever its parent is by now."""
        own = os.fsencode(self.root)
        found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [pid for pid in found if any(part.startswith(own) for part in command_line(pid)) and alive(pid)]


@contextlib.contextmanager
def serve(
    folder: Path,
    *,
    setting: str = "",
    environment: Mapping[str, str] | None = None,
    address: str = "127.0.0.1",
    within: Sequence[str] = (),
) -> Iterator[Server]:
    """For as long as the block runs. `setting`: further lines of the server's configuration. `environment`: of all that
    it starts. `within`: what the server is started with, such as a network namespace that has the `address`."""
    if SSHD is None:
        raise NoServer("sshd is not installed (Debian: openssh-server)")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for key in ("host_key", "user_key"):
        if not (folder / key).exists():
            make_key(folder / key)
    shutil.copyfile(folder / "user_key.pub", folder / "authorized_keys")
    (folder / "authorized_keys").chmod(0o600)
    port = free_port()
    server_key = (folder / "host_key.pub").read_text(encoding="ascii")
    (folder / "known_hosts").write_text(f"[{address}]:{port} {server_key}", encoding="ascii")
    variables = " ".join(f'"{name}={value}"' for name, value in (environment or {}).items())
    (folder / "sshd_config").write_text(
        f"ListenAddress {address}:{port}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nUsePAM no\n"
        f"MaxStartups 100\nMaxSessions 100\nPrintMotd no\n{f'SetEnv {variables}' if variables else ''}\n{setting}\n",
        encoding="utf-8",
    )
    (folder / "ssh_config").write_text(
        f"Host device\n HostName {address}\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user_key\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile /dev/null\n",
        encoding="utf-8",
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where the server's unprivileged half is shut in
    server = Server(folder, address, port, within)
    try:
        server.start()
        yield server
    finally:
        close_kept_connection(server)
        server.stop()


def make_key(path: Path) -> None:
    run = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "cutback tests", "-f", str(path)]
    subprocess.run(run, check=True)


def close_kept_connection(server: Server) -> None:
    """The master that our transport left in the background, where there is one."""
    from targets.transports.ssh import control_path

    path = f"-oControlPath={control_path('device', str(server.config))}"
    subprocess.run(["ssh", "-F", str(server.config), path, "-O", "exit", "device"], capture_output=True, check=False)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
