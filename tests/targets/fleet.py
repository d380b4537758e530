"""A real Dask scheduler and real workers on loopback, with certificates of their own.

The workers are stand-ins for devices: all of them run on this machine, each with a lease of its own, and a kind is told
from another by a number of cores that is made up.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from targets.target import Target
from tests.targets.sshd import free_port, wait_until_open


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
        wait_until_open(self.port, self.processes["scheduler"])

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


CERTIFICATES = {"ca-file": "ca.pem", "cert": "own.pem", "key": "own.key"}

SETTINGS = """distributed:
  comm:
    tls:
      ca-file: {folder}/ca.pem
      client:
        cert: {folder}/own.pem
        key: {folder}/own.key
"""


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
