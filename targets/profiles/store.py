"""The profile database: append-only timings of kernels by key. SQLite by default, any SQLAlchemy URL for a team."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from targets.errors import BadInput
from targets.measurement import interquartile_mean
from targets.profiles.key import PARTS, KernelKey, canonical, digest_of
from targets.profiles.schema import DOCUMENTS, KEYS, SAMPLES, SESSIONS, migrate, now

BUSY_TIMEOUT_S = 30.0  # how long a writer waits for the others
LOCK_RETRIES = 5
VARIABLE = "CUTBACK_DB"
BATCH = 500  # values per statement; SQLite takes at least 999 variables

INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class Row:
    """Timings of one kernel in one session. `index` tells apart several kernels of one key within the session.

    `session_id`: unique to one run of one process. `observed`: what is kept beside the key (serial, kernel, exact
    memory, temperature, load, time). `taken_at`: UTC; empty: now.
    """

    key: KernelKey
    samples_ns: tuple[int, ...]
    session_id: str
    index: int = 0
    observed: Mapping[str, Any] = field(default_factory=dict)
    taken_at: str = ""

    @property
    def mean_ns(self) -> float:
        """The interquartile mean."""
        return interquartile_mean(self.samples_ns)


@dataclass(frozen=True)
class Coverage:
    """What the database holds of one device, stack and regime."""

    device: Mapping[str, Any]
    stack: Mapping[str, Any]
    regime: Mapping[str, Any]
    kernels: int
    rows: int
    oldest: str
    newest: str


class ProfileStore:
    """Open for as long as it is used; every call is one transaction. May be used from many processes at once.

    `url`: a path, an SQLAlchemy URL, or None for `CUTBACK_DB`, else the user's data folder. Errors are `BadInput`.
    """

    def __init__(self, url: str | Path | None = None) -> None:
        self._url = url_of(url)
        self._name = self._url.render_as_string(hide_password=True)
        if self._url.get_backend_name() not in INSERTS:
            raise BadInput(f"{self._name}: the profile database can be {' or '.join(INSERTS)}, nothing else.")
        if self._url.get_backend_name() == "sqlite" and not self._url.database:
            raise BadInput("A profile database in memory would forget everything. Name a file.")
        self._insert: Callable[[sql.Table], Any] = INSERTS[self._url.get_backend_name()]
        with self._explained():
            if self._url.get_backend_name() == "sqlite" and self._url.database and "uri" not in self._url.query:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sql.create_engine(self._url, poolclass=sql.NullPool)
            if self._url.get_backend_name() == "sqlite":
                sql.event.listen(self._engine, "connect", prepare_sqlite)
                sql.event.listen(self._engine, "begin", begin_sqlite)
            self._retried(lambda: migrate(self._engine))

    def add(self, rows: Iterable[Row]) -> None:
        """All rows or none. A row that is there already (same key, session and index) stays as it is."""
        rows = list(rows)
        for row in rows:
            if row.key.device.get("emulated") or row.observed.get("emulated"):
                raise BadInput("Timings of an emulated device say nothing about a real one; the database refuses them.")
            if not row.samples_ns:
                raise BadInput(f"Session {row.session_id} brings a kernel without samples; the database refuses it.")
        with self._explained():
            self._retried(lambda: self._write(rows))

    def find(self, digests: Collection[str]) -> dict[str, list[Row]]:
        """Every row of the keys that are there, oldest first. A key that is not there is not in the answer."""
        parts = {part: DOCUMENTS.alias(part) for part in PARTS}
        seen = DOCUMENTS.alias("seen")
        source = SAMPLES.join(KEYS, KEYS.c.digest == SAMPLES.c.digest).join(
            SESSIONS, SESSIONS.c.id == SAMPLES.c.session
        )
        source = source.join(seen, seen.c.digest == SESSIONS.c.observed)
        for part, table in parts.items():
            source = source.join(table, table.c.digest == KEYS.c[part])
        query = (
            sql.select(
                SAMPLES, SESSIONS.c.taken_at, seen.c.json.label("seen"), *(parts[p].c.json.label(p) for p in PARTS)
            )
            .select_from(source)
            .order_by(SESSIONS.c.taken_at, SAMPLES.c.session, SAMPLES.c.index)
        )
        found: dict[str, list[Row]] = {}
        with self._explained(), self._engine.connect() as connection:
            for some in chunks(sorted(set(digests))):
                for line in connection.execute(query.where(SAMPLES.c.digest.in_(some))).mappings():
                    key = KernelKey(**{part: json.loads(line[part]) for part in PARTS})
                    samples = tuple(json.loads(line["samples_ns"]))
                    observed = json.loads(line["seen"])
                    row = Row(key, samples, line["session"], line["index"], observed, line["taken_at"])
                    found.setdefault(line["digest"], []).append(row)
        return found

    def summary(self) -> list[Coverage]:
        """One line for each device, stack and regime, newest first."""
        groups = tuple(KEYS.c[part] for part in ("device", "stack", "regime"))
        newest = sql.func.max(SESSIONS.c.taken_at)
        query = (
            sql.select(
                *groups,
                sql.func.count(sql.distinct(KEYS.c.digest)),
                sql.func.count(),
                sql.func.min(SESSIONS.c.taken_at),
                newest,
            )
            .select_from(
                SAMPLES.join(KEYS, KEYS.c.digest == SAMPLES.c.digest).join(SESSIONS, SESSIONS.c.id == SAMPLES.c.session)
            )
            .group_by(*groups)
            .order_by(newest.desc())
        )
        with self._explained(), self._engine.connect() as connection:
            lines = connection.execute(query).all()
            wanted = {digest for line in lines for digest in line[:3]}
            documents = {
                digest: json.loads(document)
                for some in chunks(sorted(wanted))
                for digest, document in connection.execute(sql.select(DOCUMENTS).where(DOCUMENTS.c.digest.in_(some)))
            }
        return [
            Coverage(documents[device], documents[stack], documents[regime], *counts)
            for device, stack, regime, *counts in lines
        ]

    def _write(self, rows: Sequence[Row]) -> None:
        documents: dict[str, dict[str, str]] = {}
        keys: dict[str, dict[str, str]] = {}
        sessions: dict[str, dict[str, str]] = {}
        samples: list[dict[str, Any]] = []

        def stored(document: Mapping[str, Any]) -> str:
            digest = digest_of(document)
            documents[digest] = {"digest": digest, "json": canonical(document)}
            return digest

        for row in rows:
            digest = row.key.digest
            if digest not in keys:
                keys[digest] = {"digest": digest, **{part: stored(getattr(row.key, part)) for part in PARTS}}
            taken_at = row.taken_at or now()
            sessions.setdefault(
                row.session_id, {"id": row.session_id, "taken_at": taken_at, "observed": stored(row.observed)}
            )
            numbers = json.dumps([int(sample) for sample in row.samples_ns], separators=(",", ":"))
            samples.append({"digest": digest, "session": row.session_id, "index": row.index, "samples_ns": numbers})
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            # one order for all writers, so that two on a server cannot wait for each other's keys
            for table, lines in (
                (DOCUMENTS, [documents[digest] for digest in sorted(documents)]),
                (KEYS, [keys[digest] for digest in sorted(keys)]),
                (SESSIONS, [sessions[name] for name in sorted(sessions)]),
                (SAMPLES, samples),
            ):
                if lines:
                    connection.execute(self._insert(table).on_conflict_do_nothing(), lines)

    def _retried(self, write: Callable[[], None]) -> None:
        """SQLite's own wait does not cover every kind of lock: a reader's upgrade, recovery after a crash."""
        for attempt in range(LOCK_RETRIES):
            try:
                write()
                return
            except sql.exc.OperationalError as failure:
                if "locked" not in str(failure.orig) or attempt == LOCK_RETRIES - 1:
                    raise
            time.sleep(0.05 * 2**attempt)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sql.exc.SQLAlchemyError, OSError, ImportError) as failure:
            reason = " ".join(str(getattr(failure, "orig", None) or failure).split())
            raise BadInput(
                f"The profile database {self._name} cannot be used: {reason}. Name another with --db or {VARIABLE}."
            ) from failure


def url_of(url: str | Path | None) -> sql.URL:
    given = str(url or os.environ.get(VARIABLE) or Path(platformdirs.user_data_dir("cutback"), "profiles.sqlite"))
    if "://" not in given:
        return sql.URL.create("sqlite", database=str(Path(given).absolute()))
    try:
        return sql.make_url(given)
    except sql.exc.ArgumentError as failure:
        raise BadInput(
            "The database's URL cannot be understood. It looks like postgresql://user@host/name."
        ) from failure


def prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")


def begin_sqlite(connection: sql.Connection) -> None:
    # a writer takes the lock at once: one that starts as a reader fails where it should wait
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
