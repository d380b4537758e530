"""The union of a profile database with an exported file: by session, all of the file or nothing of it."""

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from targets.errors import BadInput
from targets.profiles.content import Content, chunks, insert, is_name, refuse_emulated
from targets.profiles.database import Database
from targets.profiles.export import Counts, counts_of, opened
from targets.profiles.lines import FORMAT, PARTS, VERSION, canonical, digest_of, digest_of_texts
from targets.profiles.schema import KEYS, LOCK, SAMPLES, SESSIONS

DATABASE = b"SQLite format 3\0"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
LARGEST_INDEX = 2**31 - 1  # of the column


class Damaged(Exception):
    """What is wrong with a line; told to the user with the file's name and the line's number."""


@dataclass(frozen=True)
class Merged:
    """What the file held, and how much of it was new."""

    file: Counts
    new: Counts


def merge(database: Database, path: Path) -> Merged:
    """Add what the file holds and the database does not. Merging again adds nothing.

    `BadInput`, and an unchanged database, where the file is damaged, holds an emulated device's timings, or has other
    times than the database for the same session. Takes about a kilobyte of memory for each row.
    """
    content = read_export(path)
    whole = counts_of(content)

    def work(connection: sql.Connection) -> Merged:
        if database.kind == "postgresql":
            # one merge at a time: counting and comparing hold until it is done
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(LOCK)))
        there = Counts(
            sessions=len(known(connection, SESSIONS.c.id, content.sessions)),
            keys=len(known(connection, KEYS.c.digest, content.keys)),
            rows=compared(connection, content, path),
        )
        insert(content, database, connection)
        return Merged(whole, Counts(**{name: count - getattr(there, name) for name, count in asdict(whole).items()}))

    return database.write(work)


def known(connection: sql.Connection, column: sql.Column[str], values: Iterable[str]) -> set[str]:
    return {
        value
        for some in chunks(sorted(values))
        for value in connection.execute(sql.select(column).where(column.in_(some))).scalars()
    }


def compared(connection: sql.Connection, content: Content, path: Path) -> int:
    """How many of the rows are there already; `BadInput` where one is there with other times."""
    same = 0
    columns = (SAMPLES.c.session, SAMPLES.c.digest, SAMPLES.c.index, SAMPLES.c.samples_ns)
    for some in chunks(sorted(content.sessions)):
        for session, digest, index, text in connection.execute(sql.select(*columns).where(SAMPLES.c.session.in_(some))):
            ours = content.samples.get((session, digest, index))
            if ours not in (None, text):
                raise BadInput(
                    f"{path}: session {session} has other times here than in the database for the same kernel; one of "
                    "the two was changed. Nothing was merged."
                )
            same += ours is not None
    return same


def read_export(path: Path) -> Content:
    """The content of an exported file, checked whole; `BadInput` for anything else."""
    content, checksum, ended, number = Content(), hashlib.sha256(), False, 0
    try:
        with opened(path) as stream:
            for number, line in enumerate(stream, 1):
                if number == 1:
                    check_format(line)
                    checksum.update(line)
                    continue
                if ended:
                    raise Damaged("something follows the end")
                entry = json.loads(line)
                if "end" in entry:
                    ended = True
                    check_end(entry, content, checksum.hexdigest())
                else:
                    checksum.update(line)
                    take(entry, content)
        if not ended:
            raise Damaged("it ends too early")
    except Damaged as failure:
        raise BadInput(f"{path}, line {number}: {failure}. Nothing was merged.") from failure
    except BadInput as failure:
        raise BadInput(f"{path}, line {number}: {failure} Nothing was merged.") from failure
    except (EOFError, zlib.error, OSError) as failure:
        reason = " ".join(str(getattr(failure, "strerror", None) or failure).split()).rstrip(".")
        raise BadInput(f"{path} cannot be read: {reason}. Nothing was merged.") from failure
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as failure:
        raise BadInput(f"{path}, line {number} is damaged. Nothing was merged. Export it again.") from failure
    return content


def check_format(line: bytes) -> None:
    if line.startswith(DATABASE):
        raise Damaged("this is a database, not an export. Run: cutback db export --db DATABASE FILE")
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise Damaged("this is no export of a profile database. cutback db export writes one")
    if head["version"] != VERSION:
        raise Damaged(f"the export is of version {head['version']}, this cutback knows {VERSION}. Update cutback")


def check_end(entry: Mapping[str, Any], content: Content, checksum: str) -> None:
    if entry["sha256"] != checksum or entry["end"] != asdict(counts_of(content)):
        raise Damaged("the file was changed or is incomplete. Export it again")


def take(entry: dict[str, Any], content: Content) -> None:
    """One line into the content; `Damaged`, KeyError, TypeError or ValueError where it does not fit."""
    if "document" in entry:
        document = entry["document"]
        if not isinstance(document, dict) or digest_of(document) != entry["digest"]:
            raise Damaged("the document is not the one that its digest names")
        content.documents[entry["digest"]] = canonical(document)
    elif "key" in entry:
        texts = dict(zip(PARTS, (content.documents[digest] for digest in entry["parts"]), strict=True))
        if digest_of_texts(**texts) != entry["key"]:
            raise Damaged("the key is not the one that its digest names")
        refuse_emulated(json.loads(texts["device"]))
        content.keys[entry["key"]] = tuple(entry["parts"])
    elif "session" in entry:
        take_session(entry, content)
    else:
        raise Damaged("the line is of no kind that is known")


def take_session(entry: dict[str, Any], content: Content) -> None:
    session, taken_at, observed = entry["session"], entry["taken_at"], entry["observed"]
    if not (is_name(session) and TIME.fullmatch(taken_at)) or session in content.sessions:
        raise Damaged("the session's name or time is not one, or it comes twice")
    refuse_emulated(json.loads(content.documents[observed]))
    content.sessions[session] = (taken_at, observed)
    for digest, index, samples in entry["rows"]:
        whole = all(type(number) is int for number in (index, *samples))
        if not samples or not whole or not 0 <= index <= LARGEST_INDEX or min(samples) < 0:
            raise Damaged(f"a row of session {session} has no times, or some that are none")
        if digest not in content.keys or (session, digest, index) in content.samples:
            raise Damaged(f"a row of session {session} is of no key that is there, or comes twice")
        content.samples[session, digest, index] = json.dumps(samples, separators=(",", ":"))
