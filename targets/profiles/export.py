"""A profile database as a file that travels: JSON lines, compressed where the name ends in .gz.

Text, and not another database: nothing in it is executed or migrated when it comes from someone else, it can be read
over any file system and by any tool, and equal content makes equal bytes. The first line names the format; then come
documents, keys and sessions with their rows, each line complete in itself, sorted; the last line counts them and
carries the sha256 of all lines before it, so that a file that was cut short or changed is known as such.
"""

import gzip
import hashlib
import io
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from targets.errors import BadInput
from targets.profiles.content import Content, chunks
from targets.profiles.database import Database
from targets.profiles.lines import FORMAT, PARTS, last_line, lines
from targets.profiles.schema import DOCUMENTS, KEYS, SAMPLES, SESSIONS
from targets.profiles.search import Wanted, find_keys


@dataclass(frozen=True)
class Counts:
    """How much of each there is."""

    sessions: int
    keys: int
    rows: int


def export(database: Database, path: Path, wanted: Wanted) -> Counts:
    """Write what is wanted of the database, written beside and renamed. An export that is there already is replaced,
    any other file refused with `BadInput`. Takes about a kilobyte of memory for each row."""
    if path.exists() and not is_export(path):
        raise BadInput(f"{path} is there and is no export of a profile database. Name another file.")
    content = database.read(lambda connection: read_content(connection, wanted))
    write_beside(path, encoded(content, compressed=path.suffix == ".gz"))
    return counts_of(content)


def read_content(connection: sql.Connection, wanted: Wanted) -> Content:
    """Rows of the keys that are wanted, and all that they refer to."""
    content = Content()
    selects_all = wanted == Wanted()
    keys = None if selects_all else find_keys(connection, wanted)
    for digest, *parts in connection.execute(sql.select(KEYS.c.digest, *(KEYS.c[part] for part in PARTS))):
        if keys is None or digest in keys:
            content.keys[digest] = tuple(parts)
    columns = (SAMPLES.c.digest, SAMPLES.c.session, SAMPLES.c.index, SAMPLES.c.samples_ns)
    digests = sorted(content.keys)
    for some in [None] if selects_all else chunks(digests):
        query = sql.select(*columns) if some is None else sql.select(*columns).where(SAMPLES.c.digest.in_(some))
        for digest, session, index, text in connection.execute(query):
            content.samples[session, digest, index] = text
    named = {session for session, _, _ in content.samples}
    for session, taken_at, observed in connection.execute(sql.select(SESSIONS)):
        if session in named:
            content.sessions[session] = (taken_at, observed)
    referred = {digest for parts in content.keys.values() for digest in parts}
    referred |= {observed for _, observed in content.sessions.values()}
    for some in chunks(sorted(referred)):
        for digest, text in connection.execute(sql.select(DOCUMENTS).where(DOCUMENTS.c.digest.in_(some))):
            content.documents[digest] = text
    return content


def counts_of(content: Content) -> Counts:
    return Counts(len(content.sessions), len(content.keys), len(content.samples))


def encoded(content: Content, *, compressed: bool) -> bytes:
    """The file's bytes: equal for equal content."""
    checksum, stream = hashlib.sha256(), io.BytesIO()
    # no name and no time in the header: they would differ from run to run
    packed = gzip.GzipFile(fileobj=stream, mode="wb", filename="", compresslevel=6, mtime=0) if compressed else None
    target: Any = packed or stream
    for line in lines(content.documents, content.keys, content.sessions, content.samples):
        data = line.encode() + b"\n"
        checksum.update(data)
        target.write(data)
    target.write(last_line(asdict(counts_of(content)), checksum.hexdigest()).encode() + b"\n")
    if packed:
        packed.close()
    return stream.getvalue()


def is_export(path: Path) -> bool:
    try:
        with opened(path) as stream:
            return FORMAT.encode() in stream.readline(200)
    except OSError:
        return False


def opened(path: Path) -> Any:
    """The file's bytes, unpacked where it is compressed, whatever it is called."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def write_beside(path: Path, data: bytes) -> None:
    """All of it or nothing; what was there stays until then. `BadInput` where the folder takes no file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as failure:
        raise BadInput(f"{path} cannot be written: {failure.strerror or failure}.") from failure
