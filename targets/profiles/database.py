"""The database below the profile store: where it lies, how it is opened, and how its failures are told."""

import contextlib
import os
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, final
from urllib.parse import quote, quote_plus

import platformdirs
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from targets.errors import BadInput
from targets.profiles.schema import migrate

BUSY_TIMEOUT_S = 30.0  # how long a writer waits for the others
LOCK_RETRIES = 5
VARIABLE = "CUTBACK_DB"

INSERTS: dict[str, Callable[[sql.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}  # for a URL that names none
SECRETS = ("password", "sslpassword")  # of libpq, which takes them after the question mark too
DEADLOCK, NOT_SERIALIZABLE = "40P01", "40001"  # what a PostgreSQL server asks to try again

Answer = TypeVar("Answer")


@final
class Database:
    """An open profile database, at this version of the schema. May be used from many processes at once.

    `url`: a path, an SQLAlchemy URL, or None for `CUTBACK_DB`, else the user's data folder. `name` is what errors call
    it, without passwords. Errors are `BadInput`, in one line.
    """

    def __init__(self, url: str | Path | None = None) -> None:
        self.url = url_of(url)
        self.name = shown(self.url)
        self.kind = self.url.get_backend_name()
        if self.kind not in INSERTS:
            raise BadInput(f"{self.name}: the profile database can be {' or '.join(INSERTS)}, nothing else.")
        if self.kind == "sqlite" and not self.url.database:
            raise BadInput("A profile database in memory would forget everything. Name a file.")
        with self._explained():
            if self.kind == "sqlite" and self.url.database and "uri" not in self.url.query:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = self._made()
            if self.kind == "sqlite":
                sql.event.listen(self._engine, "connect", prepare_sqlite)
                sql.event.listen(self._engine, "begin", begin_sqlite)
            self._owner = os.getpid()
            weakref.finalize(self, close, self._engine, self._owner)
            retried(lambda: migrate(self._engine))

    def read(self, work: Callable[[sql.Connection], Answer]) -> Answer:
        """What `work` finds in one transaction, which sees one state of the database. `work` may be called again."""
        # PostgreSQL would else show each statement a state of its own; SQLite knows nothing less
        options = {"isolation_level": "REPEATABLE READ"} if self.kind == "postgresql" else {}

        def transaction() -> Answer:
            with self._connected(**options) as connection:
                return work(connection)  # begun by its first statement, rolled back at the end: nothing was written

        with self._explained():
            return retried(transaction)

    def write(self, work: Callable[[sql.Connection], Answer]) -> Answer:
        """What `work` returns, once all that it wrote is committed; where it fails, nothing is. May be called again."""

        def transaction() -> Answer:
            with self._connected(writes=True) as connection, connection.begin():
                return work(connection)

        with self._explained():
            return retried(transaction)

    def insert(self, table: sql.Table) -> Any:
        """An INSERT that leaves lines as they are that are there already."""
        return INSERTS[self.kind](table).on_conflict_do_nothing()

    def _connected(self, **options: Any) -> sql.Connection:
        if os.getpid() != self._owner:  # after a fork: the open connection stays the parent's
            self._engine.dispose(close=False)
            self._owner = os.getpid()
        return self._engine.connect().execution_options(**options)

    def _made(self) -> sql.Engine:
        # a file is opened anew each time, which costs nothing; to a server one connection is kept, and tried first
        kept: dict[str, Any] = {"pool_size": 1, "max_overflow": -1, "pool_pre_ping": True}
        try:
            return sql.create_engine(self.url, **({"poolclass": sql.NullPool} if self.kind == "sqlite" else kept))
        except ImportError as failure:
            raise BadInput(
                f"{self.name} needs a driver that is not installed ({one_line(failure)}). "
                "Run: pip install 'cutback[postgresql]'"
            ) from failure

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sql.exc.SQLAlchemyError, OSError) as failure:
            reason = without_secrets(one_line(getattr(failure, "orig", None) or failure), self.url)
            raise BadInput(
                f"The profile database {self.name} cannot be used: {reason}. Name another with --db or {VARIABLE}."
            ) from failure


def close(engine: sql.Engine, owner: int) -> None:
    """The connections that are kept, by the process that opened them."""
    if os.getpid() == owner:
        engine.dispose()


def url_of(url: str | Path | None) -> sql.URL:
    """`BadInput` where it is neither a path nor a URL; a PostgreSQL URL without a driver gets psycopg."""
    given = str(url or os.environ.get(VARIABLE) or Path(platformdirs.user_data_dir("cutback"), "profiles.sqlite"))
    if "://" not in given:
        return sql.URL.create("sqlite", database=str(Path(given).absolute()))
    try:
        made = sql.make_url(given)
    except (sql.exc.ArgumentError, ValueError):
        # without its cause: that may repeat the URL, and the URL may hold a password
        raise BadInput("The database's URL cannot be understood. It looks like postgresql://user@host/name.") from None
    return made.set(drivername=DRIVERS.get(made.drivername, made.drivername))


def shown(url: sql.URL) -> str:
    """The URL for people: no password in it, wherever it stood."""
    hidden = url.set(query={name: "***" if name in SECRETS else value for name, value in url.query.items()})
    return hidden.render_as_string(hide_password=True)


def without_secrets(text: str, url: sql.URL) -> str:
    """`text`, which the driver wrote, with the URL's passwords blotted out."""
    for secret in (url.password, *(url.query.get(name) for name in SECRETS)):
        if isinstance(secret, str) and secret:
            for form in (secret, quote(secret, safe=""), quote(secret), quote_plus(secret)):
                text = text.replace(form, "***")
    return text


def one_line(failure: BaseException) -> str:
    return " ".join(str(failure).split()).rstrip(".")


def retried(work: Callable[[], Answer]) -> Answer:
    """SQLite's own wait does not cover every kind of lock: a reader's upgrade, recovery after a crash. A PostgreSQL
    server ends one of two transactions that wait for each other, and says so."""
    for attempt in range(LOCK_RETRIES):
        try:
            return work()
        except sql.exc.DBAPIError as failure:
            again = "locked" in str(failure.orig) or getattr(failure.orig, "sqlstate", None) in (
                DEADLOCK,
                NOT_SERIALIZABLE,
            )
            if not again or attempt == LOCK_RETRIES - 1:
                raise
        time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable")


def prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged outlives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def begin_sqlite(connection: sql.Connection) -> None:
    # a writer takes the lock at once: one that starts as a reader fails where it should wait
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
