"""Whether a profile database still holds what was put in: nothing torn, nothing that leads nowhere."""

import json
from collections.abc import Iterator
from itertools import islice

import sqlalchemy as sql

from targets.profiles.database import Database
from targets.profiles.export import Counts
from targets.profiles.key import PARTS, canonical, digest_of, digest_of_texts
from targets.profiles.schema import DOCUMENTS, KEYS, SAMPLES, SESSIONS

MOST = 20  # problems that are told; a broken disk makes millions

REFERENCES = (
    *((KEYS.c[part], DOCUMENTS.c.digest) for part in PARTS),
    (SESSIONS.c.observed, DOCUMENTS.c.digest),
    (SAMPLES.c.digest, KEYS.c.digest),
    (SAMPLES.c.session, SESSIONS.c.id),
)


def check(database: Database) -> tuple[Counts, list[str]]:
    """How much there is, and the first problems, a sentence each; none for a sound database.

    The file's own check (SQLite), every reference, every document's and key's digest made anew, every row's times.
    """

    def work(connection: sql.Connection) -> tuple[Counts, list[str]]:
        if database.kind == "sqlite":
            broken = list(islice(in_the_file(connection), MOST))
            if broken:
                return Counts(0, 0, 0), broken  # what is read from a broken file means nothing
        counts = Counts(
            *(connection.execute(sql.select(sql.func.count()).select_from(t)).scalar_one() for t in COUNTED)
        )
        return counts, list(islice(in_the_content(connection), MOST))

    return database.read(work)


COUNTED = (SESSIONS, KEYS, SAMPLES)  # in the order of Counts


def in_the_file(connection: sql.Connection) -> Iterator[str]:
    try:
        yield from told_by_sqlite(connection)
    except sql.exc.OperationalError:
        raise  # it could not look: another holds it, or the disk is gone
    except sql.exc.DatabaseError as failure:
        yield f"SQLite: {failure.orig}"


def told_by_sqlite(connection: sql.Connection) -> Iterator[str]:
    broken = [line for (line,) in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST})") if line != "ok"]
    yield from (f"SQLite: {line}" for line in broken)
    if broken:
        return  # a torn file cannot be followed from row to row
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"SQLite: row {row} of {table} refers to nothing in {parent}"


def in_the_content(connection: sql.Connection) -> Iterator[str]:
    for column, parent in REFERENCES:
        dangling = (
            sql.select(column)
            .select_from(column.table.outerjoin(parent.table, column == parent))
            .where(parent.is_(None))
            .limit(MOST)
        )
        for value in connection.execute(dangling).scalars():
            yield f"{column.table.name}.{column.name}: {value} is not in {parent.table.name}"
    texts: dict[str, str] = {}
    for digest, text in connection.execute(sql.select(DOCUMENTS)):
        texts[digest] = text
        try:
            document = json.loads(text)
            sound = isinstance(document, dict) and canonical(document) == text and digest_of(document) == digest
        except ValueError:
            sound = False
        if not sound:
            yield f"documents: {digest} is not the digest of its document"
    for digest, *parts in connection.execute(sql.select(KEYS.c.digest, *(KEYS.c[part] for part in PARTS))):
        if all(part in texts for part in parts) and digest_of_texts(*(texts[part] for part in parts)) != digest:
            yield f"keys: {digest} is not the digest of its documents"
    for digest, session, index, text in connection.execute(sql.select(SAMPLES)):
        if not are_samples(text):
            yield f"samples: row {index} of session {session} and key {digest} has no times"


def are_samples(text: str) -> bool:
    try:
        samples = json.loads(text)
    except ValueError:
        return False
    return isinstance(samples, list) and bool(samples) and all(type(sample) is int for sample in samples)
