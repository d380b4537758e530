"""A real OpenSSH server for the tests: its own keys, its own port, on loopback alone."""

import contextlib
import getpass
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from targets.target import Target

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or shutil.which("sshd")
PATIENCE_S = 10.0


class NoServer(Exception):
    """No OpenSSH server is installed here."""


@dataclass(frozen=True)
class Server:
    """`config`: what the client needs, as a file for `ssh -F`; the host in it is called `device`."""

    folder: Path
    port: int
    config: Path

    def target(self, name: str = "device", runtime: str = "onnxruntime") -> Target:
        """A target whose agent keeps its files in a folder of its own and runs on the Python that runs the tests."""
        return Target(
            name, "ssh", runtime, address="device", config=str(self.config), python=sys.executable,
            folder=str(self.folder / "agent-of-device"),
        )  # fmt: skip


@contextlib.contextmanager
def serve(folder: Path, *, setting: str = "") -> Iterator[Server]:
    """For as long as the block runs. `setting`: further lines of the server's configuration."""
    if SSHD is None:
        raise NoServer("sshd is not installed (Debian: openssh-server)")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for key in ("host_key", "user_key"):
        if not (folder / key).exists():
            run = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "cutback tests", "-f", str(folder / key)]
            subprocess.run(run, check=True)
    shutil.copyfile(folder / "user_key.pub", folder / "authorized_keys")
    (folder / "authorized_keys").chmod(0o600)
    port = free_port()
    server_key = (folder / "host_key.pub").read_text(encoding="ascii")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {server_key}", encoding="ascii")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nUsePAM no\n"
        f"MaxStartups 100\nMaxSessions 100\nPrintMotd no\n{setting}",
        encoding="utf-8",
    )
    (folder / "ssh_config").write_text(
        f"Host device\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user_key\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known_hosts\n",
        encoding="utf-8",
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where the server's unprivileged half is shut in
    with (folder / "sshd.log").open("wb") as log:
        daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=-3, stderr=log)
    try:
        wait_until_open(port, daemon)
        yield Server(folder, port, folder / "ssh_config")
    finally:
        close_kept_connection(folder / "ssh_config")
        daemon.terminate()
        daemon.wait(10)


def close_kept_connection(config: Path) -> None:
    from targets.transports.ssh import control_folder

    path = f"-oControlPath={control_folder()}/%C"
    subprocess.run(["ssh", "-F", str(config), path, "-O", "exit", "device"], capture_output=True, check=False)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_open(port: int, daemon: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if daemon.poll() is not None:
            raise NoServer("sshd does not start here")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise NoServer("sshd does not listen")
