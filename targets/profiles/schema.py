"""Tables of the profile database and the changes that lead to them.

A sample's key is five documents that repeat endlessly; each is stored once, by its digest, so a million samples of a
device cost its fingerprint one row.
"""

import datetime as dt
from collections.abc import Callable

import sqlalchemy as sql

from targets.errors import BadInput

METADATA = sql.MetaData()

APPLIED = sql.Table(
    "schema_changes",
    METADATA,
    sql.Column("version", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("applied_at", sql.Text, nullable=False),
)
DOCUMENTS = sql.Table(
    "documents",
    METADATA,
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("json", sql.Text, nullable=False),
)
KEYS = sql.Table(
    "keys",
    METADATA,
    sql.Column("digest", sql.String(64), primary_key=True),
    *(
        sql.Column(part, sql.ForeignKey("documents.digest"), nullable=False)
        for part in ("device", "stack", "regime", "op", "method")
    ),
)
SESSIONS = sql.Table(
    "sessions",
    METADATA,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("taken_at", sql.Text, nullable=False, index=True),
    sql.Column("observed", sql.ForeignKey("documents.digest"), nullable=False),
)
SAMPLES = sql.Table(
    "samples",
    METADATA,
    sql.Column("digest", sql.ForeignKey("keys.digest"), primary_key=True),
    sql.Column("session", sql.ForeignKey("sessions.id"), primary_key=True),
    sql.Column("index", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("samples_ns", sql.Text, nullable=False),
)


def create_tables(connection: sql.Connection) -> None:
    METADATA.create_all(connection, tables=[DOCUMENTS, KEYS, SESSIONS, SAMPLES])


def index_sessions(connection: sql.Connection) -> None:
    """Rows by session, for merging and exporting. Their primary key begins with the kernel's digest."""
    connection.execute(sql.text("CREATE INDEX samples_by_session ON samples (session)"))


CHANGES: tuple[Callable[[sql.Connection], None], ...] = (create_tables, index_sessions)  # never edited, only added to

LOCK = 0x63757462  # "cutb": any number that no other program is likely to use on the same server


def migrate(engine: sql.Engine) -> None:
    """Bring the database to this version. A change and its record share one transaction; writers wait for each other.
    `BadInput` when a newer cutback has changed it already."""
    with engine.connect() as connection:
        if sql.inspect(connection).has_table(APPLIED.name) and version(connection) == len(CHANGES):
            return
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(LOCK)))
        APPLIED.create(connection, checkfirst=True)
        done = version(connection)
        if done > len(CHANGES):
            raise BadInput(
                f"The profile database is at version {done}, this cutback knows {len(CHANGES)}. Update cutback."
            )
        for number, change in enumerate(CHANGES[done:], done + 1):
            change(connection)
            connection.execute(sql.insert(APPLIED).values(version=number, applied_at=now()))


def version(connection: sql.Connection) -> int:
    return connection.execute(sql.select(sql.func.max(APPLIED.c.version))).scalar() or 0


def now() -> str:
    """UTC, to the second, sortable."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
