"""Migrations: every step whole, every row kept, no database of a newer cutback touched."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sql

from targets.errors import BadInput
from targets.profiles import schema
from targets.profiles.database import begin_sqlite, prepare_sqlite, url_of
from targets.profiles.integrity import check
from targets.profiles.schema import APPLIED, CHANGES, now
from targets.profiles.store import ProfileStore
from tests.targets.writers import PRELOADED, key_of, open_and_add, row_of

INDEX = "samples_by_session"


def engine_of(url: str) -> sql.Engine:
    """As the store opens it, without bringing it to any version."""
    engine = sql.create_engine(url_of(url), poolclass=sql.NullPool)
    if engine.dialect.name == "sqlite":
        sql.event.listen(engine, "connect", prepare_sqlite)
        sql.event.listen(engine, "begin", begin_sqlite)
    return engine


def indices(url: str) -> set[Any]:
    return {index["name"] for index in sql.inspect(engine_of(url)).get_indexes("samples")}


def at_version(monkeypatch: pytest.MonkeyPatch, changes: tuple[Callable[[sql.Connection], None], ...]) -> None:
    monkeypatch.setattr(schema, "CHANGES", changes)


def test_a_database_of_version_1_keeps_its_rows_and_gains_what_came_after(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row_of(width, session) for width in (8, 16) for session in ("s", "t")]
    with monkeypatch.context() as old:
        at_version(old, CHANGES[:1])
        ProfileStore(url).add(rows)
    assert INDEX not in indices(url)
    store = ProfileStore(url)
    assert INDEX in indices(url)
    found = store.find([key_of(8).digest, key_of(16).digest])
    assert found == {key_of(8).digest: rows[:2], key_of(16).digest: rows[2:]}
    assert check(store.database)[1] == []
    store.add([row_of(24)])
    with engine_of(url).connect() as connection:
        assert connection.execute(sql.select(APPLIED.c.version).order_by(APPLIED.c.version)).scalars().all() == [1, 2]


def test_a_change_that_fails_half_way_leaves_nothing_of_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(connection: sql.Connection) -> None:
        connection.execute(sql.text("CREATE TABLE half (a INTEGER)"))
        connection.execute(sql.text("INSERT INTO nowhere VALUES (1)"))

    ProfileStore(url).add([row_of(8)])
    with monkeypatch.context() as newer:
        at_version(newer, (*CHANGES, half))
        with pytest.raises(BadInput, match="nowhere"):
            ProfileStore(url)
    assert not sql.inspect(engine_of(url)).has_table("half")
    assert ProfileStore(url).find([key_of(8).digest]) == {key_of(8).digest: [row_of(8)]}


@pytest.mark.parametrize("there", [False, True], ids=["empty", "of version 1"])
def test_processes_that_migrate_at_once_do_it_once(url: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if there:
        with monkeypatch.context() as old:
            at_version(old, CHANGES[:1])
            ProfileStore(url).add([row_of(8)])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    openers = [context.Process(target=open_and_add, args=(url, number)) for number in range(8)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * 8
    store = ProfileStore(url)
    assert len(store.find([key_of(8).digest])[key_of(8).digest]) == 8 + there
    assert check(store.database)[1] == []


def test_a_newer_database_is_refused_and_stays_as_it_is(url: str) -> None:
    ProfileStore(url).add([row_of(8)])
    newer = len(CHANGES) + 1
    with engine_of(url).connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(sql.insert(APPLIED).values(version=newer, applied_at=now()))
    with pytest.raises(BadInput, match=f"is at version {newer}, this cutback knows {len(CHANGES)}. Update cutback"):
        ProfileStore(url)
    with engine_of(url).connect() as connection:
        assert connection.execute(sql.select(sql.func.max(APPLIED.c.version))).scalar_one() == newer
