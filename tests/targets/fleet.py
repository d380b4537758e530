"""A real Dask scheduler and real workers on loopback, with certificates of their own.

The workers are stand-ins for devices: all of them run on this machine, each with a lease of its own, and a kind is told
from another by a number of cores that is made up.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from targets.connection import connect
from targets.errors import LinkLost
from targets.target import Target
from tests.targets.sshd import free_port

CORES = {"small": 3, "large": 5}  # what the stand-ins of each kind say that they have


class NoFleet(Exception):
    """Something that a fleet needs is not installed here."""


@dataclass
class Fleet:
    """`config`: Dask's settings for a client, with the certificates."""

    folder: Path
    port: int
    cores: Mapping[str, int]  # tag -> what a stand-in of that kind says that it has
    config: Path
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def target(self, tag: str) -> Target:
        return Target("lab", "dask", address=self.address, config=str(self.config), tag=tag)

    def start_scheduler(self) -> None:
        self._start("scheduler", ["scheduler", "--host", self.address, "--no-dashboard"], {})
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.processes["scheduler"].poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise NoFleet("the scheduler does not start here")

    def start_worker(self, name: str, tag: str, cores: int | None = None) -> None:
        """`cores`: a stand-in that says something else than the others of its kind."""
        kind = self.folder / f"kind-{cores or self.cores[tag]}"
        kind.mkdir(exist_ok=True)
        (kind / "sitecustomize.py").write_text(f"import os\nos.cpu_count = lambda: {cores or self.cores[tag]}\n")
        own = {
            "CUTBACK_LEASE": str(self.folder / f"{name}.lease"),  # else all of them were one device
            "XDG_CACHE_HOME": str(self.folder / f"{name}.cache"),
            "PYTHONPATH": str(kind),
        }
        self._start(
            name,
            ["worker", self.address, "--name", name, "--resources", f"{tag}=1", "--nthreads", "1", "--no-nanny",
             "--no-dashboard", "--local-directory", str(self.folder / name)],
            own,
        )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _start(self, name: str, arguments: Sequence[str], own: Mapping[str, str]) -> None:
        tls = [f"--tls-{what}={self.folder}/{file}" for what, file in CERTIFICATES.items()]
        environment = {**os.environ, "DASK_CONFIG": str(self.folder / "none"), **own}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, *tls], stdin=-3, stdout=log, stderr=log, env=environment
            )


PATIENCE_S = 20.0
CERTIFICATES = {"ca-file": "ca.pem", "cert": "own.pem", "key": "own.key"}

SETTINGS = """distributed:
  comm:
    tls:
      ca-file: {folder}/ca.pem
      client:
        cert: {folder}/own.pem
        key: {folder}/own.key
"""


def joined(fleet: Fleet, tag: str) -> list[str]:
    """The workers with the tag, once one of them answers."""
    try:
        with connect(fleet.target(tag)) as opened:
            return opened.devices()
    except LinkLost:
        return []


def wait_until_joined(fleet: Fleet, tag: str, count: int = 1) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(joined(fleet, tag)) < count:
        if time.monotonic() > end:
            raise NoFleet(f"the workers with {tag} do not join")


@contextlib.contextmanager
def serve(folder: Path, cores: Mapping[str, int]) -> Iterator[Fleet]:
    """A scheduler for as long as the block runs; workers are started in it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_certificates(folder)
    config = folder / "fleet.yaml"
    config.write_text(SETTINGS.format(folder=folder))
    fleet = Fleet(folder, free_port(), cores, config)
    try:
        fleet.start_scheduler()
        yield fleet
    finally:
        for process in fleet.processes.values():
            process.kill()
        for process in fleet.processes.values():
            process.wait()


def write_certificates(folder: Path) -> None:
    """As docs/fleet.md says: a certificate authority of one's own, and a key that it has signed."""
    if shutil.which("openssl") is None:
        raise NoFleet("openssl is not installed")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    commands = (
        ["req", "-x509", *new, "-days", "3", "-subj", "/CN=lab", "-keyout", "ca.key", "-out", "ca.pem"],
        ["req", *new, "-subj", "/CN=device", "-keyout", "own.key", "-out", "own.csr"],
        ["x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3",
         "-out", "own.pem"],
    )  # fmt: skip
    for command in commands:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
