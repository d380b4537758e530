"""The profile store: append-only timings of kernels by key. SQLite by default, any PostgreSQL URL for a team."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol, final

import sqlalchemy as sql

from targets.profiles.content import chunks, content_of, insert, read_documents
from targets.profiles.database import Database, url_of
from targets.profiles.key import PARTS, KernelKey
from targets.profiles.overview import Coverage, coverage
from targets.profiles.rows import Row
from targets.profiles.schema import KEYS, SAMPLES, SESSIONS

__all__ = ["Coverage", "ProfileStore", "Profiles", "Row", "url_of"]


class Profiles(Protocol):
    """What measuring needs of a profile database: to find what is known, and to keep what was measured."""

    def find(self, digests: Collection[str]) -> dict[str, list[Row]]:
        """Rows by the digest that was asked for, oldest first. A key that is not there is not in the answer."""

    def add(self, rows: Iterable[Row]) -> None:
        """All rows or none. A row that is there already (same key, session and index) stays as it is."""


@final
class ProfileStore:
    """Open for as long as it is used; every call is one transaction. May be used from many processes at once.

    `url`: a path, an SQLAlchemy URL, or None for `CUTBACK_DB`, else the user's data folder. Errors are `BadInput`.
    """

    def __init__(self, url: str | Path | None = None) -> None:
        self.database = Database(url)

    def add(self, rows: Iterable[Row]) -> None:
        """All rows or none. A row that is there already (same key, session and index) stays as it is."""
        content = content_of(rows)
        self.database.write(lambda connection: insert(content, self.database, connection))

    def find(self, digests: Collection[str]) -> dict[str, list[Row]]:
        """Every row of exactly these keys, oldest first. A key that is not there is not in the answer."""
        query = sql.select(
            SAMPLES, SESSIONS.c.taken_at, SESSIONS.c.observed, *(KEYS.c[part] for part in PARTS)
        ).select_from(
            SAMPLES.join(KEYS, KEYS.c.digest == SAMPLES.c.digest).join(SESSIONS, SESSIONS.c.id == SAMPLES.c.session)
        )
        wanted = sorted(set(digests))

        def work(connection: sql.Connection) -> dict[str, list[Row]]:
            lines = [
                line
                for some in chunks(wanted)
                for line in connection.execute(query.where(SAMPLES.c.digest.in_(some))).mappings()
            ]
            parts = {line["digest"]: [line[part] for part in PARTS] for line in lines}
            documents = read_documents(
                connection, {line["observed"] for line in lines}.union(*map(set, parts.values()))
            )
            keys = {digest: KernelKey(*(documents[part] for part in five)) for digest, five in parts.items()}
            found: dict[str, list[Row]] = {}
            for line in sorted(lines, key=lambda line: (line["taken_at"], line["session"], line["index"])):
                samples = tuple(json.loads(line["samples_ns"]))
                row = Row(
                    keys[line["digest"]], samples, line["session"], line["index"], documents[line["observed"]],
                    line["taken_at"],
                )  # fmt: skip
                found.setdefault(line["digest"], []).append(row)
            return found

        return self.database.read(work)

    def summary(self) -> list[Coverage]:
        """One line for each device, stack and regime, newest first."""
        return coverage(self.database)
