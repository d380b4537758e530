"""The profile database: nothing lost, nothing twice, nothing silently wrong."""

import dataclasses
import multiprocessing
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sql

from targets.errors import BadInput
from targets.profiles.key import KernelKey, canonical
from targets.profiles.schema import CHANGES
from targets.profiles.store import ProfileStore, Row, url_of


def key_of(width: int, **device: object) -> KernelKey:
    op = {"op": "Conv", "inputs": [[1, width, 8, 8]], "attributes": {"group": 1, "pads": [1, 1]}}
    return KernelKey({"cpu": "test", **device}, {"runtime": "none"}, {"threads": 1}, op, {"place": "alone"})


def row_of(width: int, session: str = "s", index: int = 0, samples: tuple[int, ...] = (3000, 1000, 2000)) -> Row:
    return Row(key_of(width), samples, session, index, {"host": "here", "temperature_c": 51.5}, "2026-01-02T03:04:05Z")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "profiles.sqlite"


def test_a_digest_does_not_depend_on_order_or_on_kind_of_sequence() -> None:
    key = key_of(8)
    backwards = {name: key.op[name] for name in reversed(list(key.op))}
    other = dataclasses.replace(key, op={**backwards, "inputs": ((1, 8, 8, 8),)})
    assert other.digest == key.digest
    assert len(key.digest) == 64
    assert canonical({"b": 1, "a": (1, 2)}) == '{"a":[1,2],"b":1}'


@pytest.mark.parametrize("part", ["device", "stack", "regime", "op", "method"])
def test_every_part_is_in_the_digest(part: str) -> None:
    key = key_of(8)
    assert dataclasses.replace(key, **{part: {"changed": 1}}).digest != key.digest


def test_rows_come_back_as_they_went(path: Path) -> None:
    store = ProfileStore(path)
    rows = [row_of(8), row_of(8, index=1, samples=(5,)), row_of(8, session="t"), row_of(16)]
    store.add(rows)
    digests = [key_of(width).digest for width in (8, 16, 24)]
    found = ProfileStore(path).find(digests)
    assert found == {digests[0]: rows[:3], digests[1]: rows[3:]}
    assert found[digests[0]][0].mean_ns == 2000


def test_adding_twice_adds_once_and_changes_nothing(path: Path) -> None:
    store = ProfileStore(path)
    store.add([row_of(8), row_of(8)])
    store.add([row_of(8, samples=(9,)), row_of(16)])
    digest = key_of(8).digest
    assert store.find([digest]) == {digest: [row_of(8)]}


def test_a_row_that_is_refused_takes_the_others_with_it(path: Path) -> None:
    store = ProfileStore(path)
    for bad in (
        dataclasses.replace(row_of(16), key=key_of(16, emulated=True)),
        dataclasses.replace(row_of(16), observed={"emulated": True}),
    ):
        with pytest.raises(BadInput, match="emulated"):
            store.add([row_of(8), bad])
    with pytest.raises(BadInput, match="without samples"):
        store.add([row_of(8), row_of(16, samples=())])
    assert store.find([key_of(8).digest, key_of(16).digest]) == {}


def test_the_summary_counts_by_device_and_stack(path: Path) -> None:
    store = ProfileStore(path)
    other = Row(key_of(8, cores=4), (1,), "later", taken_at="2026-05-01T00:00:00Z")
    store.add([row_of(8), row_of(8, index=1), row_of(16), other])
    newest, oldest = store.summary()
    assert (newest.device, newest.kernels, newest.rows) == ({"cpu": "test", "cores": 4}, 1, 1)
    assert (oldest.kernels, oldest.rows, oldest.stack) == (2, 3, {"runtime": "none"})
    assert oldest.oldest == oldest.newest == "2026-01-02T03:04:05Z"


def test_a_long_search_is_more_than_one_statement(path: Path) -> None:
    store = ProfileStore(path)
    store.add(row_of(width) for width in range(1, 1200))
    assert len(store.find([key_of(width).digest for width in range(1, 2000)])) == 1199


def write_some(path: Path, writer: int) -> None:
    store = ProfileStore(path)
    for batch in range(10):
        store.add([row_of(8, f"{writer}-{batch}"), row_of(16, f"{writer}-{batch}"), row_of(8, "common", batch)])


def test_writers_in_many_processes_lose_nothing(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_some, args=(path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    found = ProfileStore(path).find([key_of(8).digest, key_of(16).digest])
    assert len(found[key_of(8).digest]) == 4 * 10 + 10
    assert len(found[key_of(16).digest]) == 4 * 10
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()


def test_a_path_a_variable_or_the_users_folder_name_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTBACK_DB", str(tmp_path / "by-variable.sqlite"))
    assert url_of(None).database == str(tmp_path / "by-variable.sqlite")
    assert url_of(tmp_path / "by-path.sqlite").database == str(tmp_path / "by-path.sqlite")
    assert url_of("postgresql://me@host/name").host == "host"
    monkeypatch.delenv("CUTBACK_DB")
    assert str(url_of(None).database).endswith("profiles.sqlite")


@pytest.mark.parametrize("content", [b"this is no database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_file_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "corrupt.sqlite"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"^The profile database [^\n]*corrupt\.sqlite cannot be used: [^\n]+CUTBACK_DB"):
        ProfileStore(path)
    assert path.read_bytes() == content


def test_what_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / "file" / "inside.sqlite", "sqlite://", "mysql://host/name", "://"):
        with pytest.raises(BadInput, match=r"^[^\n]+$"):
            ProfileStore(bad)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(BadInput) as caught:
        ProfileStore("mysql://me:hunter2@host/name")
    assert "hunter2" not in str(caught.value)


def test_a_read_only_database_can_be_read_and_says_why_it_cannot_be_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ProfileStore(path).add([row_of(8)])
    store = ProfileStore(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert key_of(8).digest in store.find([key_of(8).digest])
    with pytest.raises(BadInput, match="readonly"):
        store.add([row_of(16)])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.parent.name]  # a URL is no folder to make


def test_a_newer_database_is_refused(path: Path) -> None:
    ProfileStore(path)
    engine = sql.create_engine(url_of(path), poolclass=sql.NullPool)
    with engine.begin() as connection:
        connection.execute(sql.text(f"INSERT INTO schema_changes VALUES ({len(CHANGES) + 1}, 'tomorrow')"))
    with pytest.raises(BadInput, match="Update cutback"):
        ProfileStore(path)
