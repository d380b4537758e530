"""Content: lines of the database's tables, together and complete, as one transaction writes them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sql

from targets.errors import BadInput
from targets.profiles.database import Database
from targets.profiles.key import PARTS, canonical, digest_of
from targets.profiles.rows import Row
from targets.profiles.schema import DOCUMENTS, KEYS, SAMPLES, SESSIONS, now

BATCH = 500  # values per statement; SQLite takes at least 999 variables
LONGEST_NAME = 64  # of a session: its column's

Item = TypeVar("Item")


@dataclass(frozen=True)
class Content:
    """Everything by its primary key. `documents`: canonical JSON by digest. `keys`: the digests of the five parts, in
    the order of PARTS. `sessions`: when it was taken, and the digest of what was observed. `samples`: by session, key
    and index, a JSON list of nanoseconds. Whatever is referred to is there too."""

    documents: dict[str, str] = field(default_factory=dict)
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sessions: dict[str, tuple[str, str]] = field(default_factory=dict)
    samples: dict[tuple[str, str, int], str] = field(default_factory=dict)


def content_of(rows: Iterable[Row]) -> Content:
    """`BadInput` for rows that no database may hold: an emulated device's, or none at all in them."""
    content = Content()

    def stored(document: Mapping[str, Any]) -> str:
        digest = digest_of(document)
        content.documents[digest] = canonical(document)
        return digest

    for row in rows:
        refuse_emulated(row.key.device, row.observed)
        if not is_name(row.session_id):
            raise BadInput(f"A session is named by 1 to {LONGEST_NAME} printable characters, not {row.session_id!r}.")
        if not row.samples_ns:
            raise BadInput(f"Session {row.session_id} brings a kernel without samples; the database refuses it.")
        digest = row.key.digest
        if digest not in content.keys:
            content.keys[digest] = tuple(stored(getattr(row.key, part)) for part in PARTS)
        if row.session_id not in content.sessions:
            content.sessions[row.session_id] = (row.taken_at or now(), stored(row.observed))
        samples = json.dumps([int(sample) for sample in row.samples_ns], separators=(",", ":"))
        content.samples.setdefault((row.session_id, digest, row.index), samples)
    return content


def is_name(text: object) -> bool:
    """Of a session: fits the column, and stands in one line."""
    return isinstance(text, str) and 0 < len(text) <= LONGEST_NAME and text.isprintable()


def refuse_emulated(*documents: Mapping[str, Any]) -> None:
    if any(document.get("emulated") for document in documents):
        raise BadInput("Timings of an emulated device say nothing about a real one; the database refuses them.")


def insert(content: Content, database: Database, connection: sql.Connection) -> None:
    """Within a transaction; what is there already stays as it is."""
    # one order for all writers, so that two on a server cannot wait for each other's lines
    tables: tuple[tuple[sql.Table, Iterator[dict[str, Any]]], ...] = (
        (DOCUMENTS, ({"digest": d, "json": text} for d, text in sorted(content.documents.items()))),
        (KEYS, ({"digest": d, **dict(zip(PARTS, parts, strict=True))} for d, parts in sorted(content.keys.items()))),
        (SESSIONS, ({"id": s, "taken_at": t, "observed": seen} for s, (t, seen) in sorted(content.sessions.items()))),
        (
            SAMPLES,
            (
                {"digest": digest, "session": session, "index": index, "samples_ns": text}
                for (session, digest, index), text in sorted(content.samples.items())
            ),
        ),
    )
    for table, lines in tables:
        given = list(lines)
        if given:
            connection.execute(database.insert(table), given)


def read_documents(connection: sql.Connection, digests: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The documents of these digests, each parsed once."""
    return {
        digest: json.loads(text)
        for some in chunks(sorted(set(digests)))
        for digest, text in connection.execute(sql.select(DOCUMENTS).where(DOCUMENTS.c.digest.in_(some)))
    }


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
