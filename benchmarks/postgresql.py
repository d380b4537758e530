"""A PostgreSQL server of one's own for as long as a block runs: what the database's tests and benchmarks talk to."""

import getpass
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql

UNPRIVILEGED = ("postgres", "nobody")  # whom the server runs as where we are root, which it refuses to run as
START_S = 60
MEMORY = "/dev/shm"  # noqa: S108 - the folder below it is made by mkdtemp
OPTIONS = "-c listen_addresses='' -c unix_socket_permissions=0777"


class NoServer(Exception):
    """No server can be started here; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """A running server. `url` names its first database, `folder` is where its socket is."""

    url: sql.URL
    folder: Path

    def new_database(self, name: str) -> sql.URL:
        """The URL of a new, empty database."""
        self.run(f'CREATE DATABASE "{name}"')
        return self.url.set(database=name)

    def drop(self, name: str) -> None:
        self.run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        engine = sql.create_engine(self.url, poolclass=sql.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sql.text(statement))


def binaries() -> Path:
    """The folder of the newest server's programs; `NoServer` where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found or on_path:
        return found[-1].parent if found else Path(str(on_path)).resolve().parent
    raise NoServer("no PostgreSQL server is installed. Run: apt-get install postgresql")


@contextmanager
def cluster(*, durable: bool = True) -> Iterator[Cluster]:
    """A server of its own, with a password, on a socket in a temporary folder; nothing of it is left afterwards.

    `durable`: it waits for the disk at every commit, as servers do; else it lies in memory where it can.
    `NoServer` where none can be started.
    """
    programs, identity = binaries(), unprivileged()
    memory = None if durable or not os.access(MEMORY, os.W_OK) else MEMORY
    folder = Path(tempfile.mkdtemp(prefix="cutback-pg-", dir=memory))  # short: a socket's path has at most 107 letters
    password = secrets.token_hex(8)
    try:
        (folder / "password").write_text(password)
        if identity:
            for path in (folder, folder / "password"):
                os.chown(path, identity["user"], identity["group"])
        how = ["-U", "cutback", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-E", "UTF8", "--no-sync"]
        run([programs / "initdb", "-D", folder / "data", "--locale=C.UTF-8", *how], identity)
        options = f"{OPTIONS} -c unix_socket_directories={folder}" + ("" if durable else " -c fsync=off")
        start = [programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-t", str(START_S)]
        run([*start, "-o", options, "start"], identity)
        try:
            query = {"host": str(folder)}
            yield Cluster(
                sql.URL.create("postgresql+psycopg", "cutback", password, database="postgres", query=query), folder
            )
        finally:
            run([programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop"], identity)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unprivileged() -> dict[str, Any]:
    """How a child process becomes someone the server agrees to run as; nothing where we are no root."""
    if os.geteuid() != 0:
        return {}
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise NoServer(
        f"PostgreSQL refuses to run as {getpass.getuser()}, and there is no user {' or '.join(UNPRIVILEGED)}"
    )


def run(command: list[Any], identity: dict[str, Any]) -> None:
    # into a file, not a pipe: the server would keep the pipe open for as long as it runs
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(part) for part in command], cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            timeout=2 * START_S, **identity,
        )  # fmt: skip
        output.seek(0)
        if done.returncode:
            said = " ".join(output.read().decode(errors="replace").split())
            raise NoServer(f"{Path(command[0]).name} failed: {said[-300:]}")
