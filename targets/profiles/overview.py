"""What the database holds: devices, stacks, kernels, how often and how long ago they were timed."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sql

from targets.measurement import interquartile_mean
from targets.profiles.content import chunks, read_documents
from targets.profiles.database import Database
from targets.profiles.key import KernelKey
from targets.profiles.schema import KEYS, SAMPLES, SESSIONS
from targets.profiles.search import Wanted, find_keys

CONDITIONS = ("device", "stack", "regime")


@dataclass(frozen=True)
class Coverage:
    """What the database holds of one device, stack and regime. `timed`: kernels by how they were timed ("in place")."""

    device: Mapping[str, Any]
    stack: Mapping[str, Any]
    regime: Mapping[str, Any]
    kernels: int
    rows: int
    oldest: str
    newest: str
    sessions: int = 0
    timed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelLine:
    """What the database holds of one kernel. `best_ns`, `median_ns`: of the rows' interquartile means."""

    key: KernelKey
    rows: int
    sessions: int
    oldest: str
    newest: str
    best_ns: float
    median_ns: float


def coverage(database: Database) -> list[Coverage]:
    """One line for each device, stack and regime, newest first."""
    groups = tuple(KEYS.c[part] for part in CONDITIONS)
    source = SAMPLES.join(KEYS, KEYS.c.digest == SAMPLES.c.digest).join(SESSIONS, SESSIONS.c.id == SAMPLES.c.session)
    counted = (
        sql.select(
            *groups,
            sql.func.count(sql.distinct(SAMPLES.c.digest)).label("kernels"),
            sql.func.count().label("rows"),
            sql.func.min(SESSIONS.c.taken_at).label("oldest"),
            sql.func.max(SESSIONS.c.taken_at).label("newest"),
            sql.func.count(sql.distinct(SAMPLES.c.session)).label("sessions"),
        )
        .select_from(source)
        .group_by(*groups)
    )
    methods = sql.select(*groups, KEYS.c.method, sql.func.count()).group_by(*groups, KEYS.c.method)

    def work(connection: sql.Connection) -> list[Coverage]:
        lines = connection.execute(counted).mappings().all()
        ways = connection.execute(methods).all()
        documents = read_documents(connection, {digest for way in ways for digest in way[:4]})
        timed: dict[tuple[str, ...], dict[str, int]] = {}
        for *condition, method, kernels in ways:
            places = timed.setdefault(tuple(condition), {})
            place = str(documents[method].get("place", "unknown"))
            places[place] = places.get(place, 0) + kernels
        return [
            Coverage(
                device=documents[line["device"]],
                stack=documents[line["stack"]],
                regime=documents[line["regime"]],
                kernels=line["kernels"],
                rows=line["rows"],
                oldest=line["oldest"],
                newest=line["newest"],
                sessions=line["sessions"],
                timed=timed[tuple(line[part] for part in CONDITIONS)],
            )
            for line in lines
        ]

    return sorted(database.read(work), key=lambda line: line.newest, reverse=True)


def kernels(database: Database, wanted: Wanted, most: int | None = None) -> tuple[list[KernelLine], int]:
    """The `most` kernels that were timed last, newest first, and how many there are in all."""

    def work(connection: sql.Connection) -> tuple[list[KernelLine], int]:
        keys = find_keys(connection, wanted)
        counted = (
            sql.select(
                SAMPLES.c.digest,
                sql.func.count(),
                sql.func.count(sql.distinct(SAMPLES.c.session)),
                sql.func.min(SESSIONS.c.taken_at),
                sql.func.max(SESSIONS.c.taken_at),
            )
            .select_from(SAMPLES.join(SESSIONS, SESSIONS.c.id == SAMPLES.c.session))
            .group_by(SAMPLES.c.digest)
        )
        lines = [line for line in connection.execute(counted) if line[0] in keys]
        lines.sort(key=lambda line: (line[4], line[0]), reverse=True)
        shown = lines[:most]
        times = means_ns(connection, [line[0] for line in shown])
        return [
            KernelLine(
                keys[digest], rows, sessions, oldest, newest, min(times[digest]), float(np.median(times[digest]))
            )
            for digest, rows, sessions, oldest, newest in shown
        ], len(lines)

    return database.read(work)


def means_ns(connection: sql.Connection, digests: Collection[str]) -> dict[str, list[float]]:
    """The interquartile mean of every row, by key."""
    found: dict[str, list[float]] = {}
    query = sql.select(SAMPLES.c.digest, SAMPLES.c.samples_ns)
    for some in chunks(sorted(digests)):
        for digest, samples in connection.execute(query.where(SAMPLES.c.digest.in_(some))):
            found.setdefault(digest, []).append(interquartile_mean(json.loads(samples)))
    return found
