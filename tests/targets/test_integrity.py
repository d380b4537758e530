"""The check finds what was broken behind its back."""

from pathlib import Path

import pytest
import sqlalchemy as sql

from targets.profiles.export import Counts
from targets.profiles.integrity import check
from targets.profiles.store import ProfileStore
from tests.targets.test_schema import engine_of
from tests.targets.writers import row_of

DAMAGE = {
    "documents: ": """UPDATE documents SET json = '{"cpu":"other"}' WHERE json LIKE '%"cpu"%'""",
    "samples: ": "UPDATE samples SET samples_ns = '[]'",
    "samples.digest: ": "DELETE FROM keys",
    "samples.session: ": "DELETE FROM sessions",
    "keys: ": "UPDATE keys SET stack = regime",
    "sessions.observed: ": "DELETE FROM documents WHERE json LIKE '%host%'",
}


@pytest.mark.parametrize("says", DAMAGE)
def test_each_kind_of_damage_is_told(url: str, says: str) -> None:
    store = ProfileStore(url)
    store.add([row_of(8), row_of(16, "t")])
    assert check(store.database) == (Counts(2, 2, 2), [])
    engine = engine_of(url)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # references are not minded then; SQLite has to be asked to mind them
            connection.execute(sql.text("SET session_replication_role = replica"))
            connection.commit()
        else:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA foreign_keys = OFF")
        connection.execute(sql.text(DAMAGE[says]))
        connection.commit()
    problems = check(store.database)[1]
    assert problems
    if engine.dialect.name == "postgresql" or "." not in says:
        assert any(problem.startswith(says) for problem in problems)
    else:
        assert any("refers to nothing" in problem for problem in problems)


def test_a_torn_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "torn.sqlite"
    store = ProfileStore(path)
    store.add(row_of(width) for width in range(1, 400))
    with engine_of(str(path)).connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    assert any(problem.startswith("SQLite: ") for problem in check(ProfileStore(path).database)[1])


def test_no_statement_is_needed_on_an_empty_database(url: str) -> None:
    assert check(ProfileStore(url).database) == (Counts(0, 0, 0), [])
    assert sql.inspect(engine_of(url)).has_table("samples")
