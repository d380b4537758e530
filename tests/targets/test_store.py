"""The profile database: nothing lost, nothing twice, nothing silently wrong."""

import dataclasses
import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sql

from benchmarks.postgresql import Cluster
from targets.errors import BadInput
from targets.profiles.export import Counts
from targets.profiles.integrity import check
from targets.profiles.key import canonical, differences, digest_of_texts
from targets.profiles.schema import SAMPLES
from targets.profiles.store import ProfileStore, Row, url_of
from tests.targets.writers import PRELOADED, key_of, row_of, write_some

ROOT = Path(__file__).parents[2]


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


def test_a_digest_can_be_made_from_the_parts_as_they_are_stored() -> None:
    key = key_of(8, clock=None, name="Größe")
    parts = {"device": key.device, "stack": key.stack, "regime": key.regime, "op": key.op, "method": key.method}
    assert digest_of_texts(**{part: canonical(document) for part, document in parts.items()}) == key.digest


def test_differences_are_told_place_by_place() -> None:
    theirs = {"version": "1.30", "options": {"a": 1, "b": [1, 2]}, "same": None}
    ours = {"version": "1.31", "options": {"a": 1, "b": [1, 3]}, "same": None, "new": None}
    found = differences(theirs, ours, "stack")
    assert [str(each) for each in found] == [
        "stack.new: (absent) there, None here",
        "stack.options.b: [1, 2] there, [1, 3] here",
        "stack.version: 1.30 there, 1.31 here",
    ]
    assert differences(ours, ours, "stack") == ()


def test_rows_come_back_as_they_went(url: str) -> None:
    store = ProfileStore(url)
    rows = [row_of(8), row_of(8, index=1, samples=(5,)), row_of(8, session="t"), row_of(16)]
    store.add(rows)
    digests = [key_of(width).digest for width in (8, 16, 24)]
    found = ProfileStore(url).find(digests)
    assert found == {digests[0]: rows[:3], digests[1]: rows[3:]}
    assert found[digests[0]][0].mean_ns == 2000


def test_adding_twice_adds_once_and_changes_nothing(url: str) -> None:
    store = ProfileStore(url)
    store.add([row_of(8), row_of(8)])
    store.add([row_of(8, samples=(9,)), row_of(16)])
    digest = key_of(8).digest
    assert store.find([digest]) == {digest: [row_of(8)]}


def test_a_row_that_is_refused_takes_the_others_with_it(url: str) -> None:
    store = ProfileStore(url)
    for bad in (
        dataclasses.replace(row_of(16), key=key_of(16, emulated=True)),
        dataclasses.replace(row_of(16), observed={"emulated": True}),
    ):
        with pytest.raises(BadInput, match="emulated"):
            store.add([row_of(8), bad])
    with pytest.raises(BadInput, match="without samples"):
        store.add([row_of(8), row_of(16, samples=())])
    assert store.find([key_of(8).digest, key_of(16).digest]) == {}


def test_the_summary_counts_by_device_and_stack(url: str) -> None:
    store = ProfileStore(url)
    other = Row(key_of(8, cores=4), (1,), "later", taken_at="2026-05-01T00:00:00Z")
    store.add([row_of(8), row_of(8, index=1), row_of(16), other])
    newest, oldest = store.summary()
    assert (newest.device, newest.kernels, newest.rows) == ({"cpu": "test", "cores": 4}, 1, 1)
    assert (oldest.kernels, oldest.rows, oldest.stack) == (2, 3, {"runtime": "none"})
    assert oldest.oldest == oldest.newest == "2026-01-02T03:04:05Z"


def test_a_long_search_is_more_than_one_statement(url: str) -> None:
    store = ProfileStore(url)
    store.add(row_of(width) for width in range(1, 1200))
    assert len(store.find([key_of(width).digest for width in range(1, 2000)])) == 1199


def test_writers_in_many_processes_lose_nothing(url: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    writers = [context.Process(target=write_some, args=(url, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    store = ProfileStore(url)
    found = store.find([key_of(8).digest, key_of(16).digest])
    assert len(found[key_of(8).digest]) == 4 * 10 + 10
    assert len(found[key_of(16).digest]) == 4 * 10
    assert check(store.database) == (Counts(4 * 10 + 1, 2, 4 * 20 + 10), [])


FORKED = """
import os, sys
from targets.profiles.store import ProfileStore
from tests.targets.writers import key_of, row_of
store = ProfileStore(sys.argv[1])
store.add([row_of(8, "parent")])
child = os.fork()
if not child:
    store.add([row_of(8, "child")])
    del store
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
store.add([row_of(8, "again")])
print(*sorted(row.session_id for row in store.find([key_of(8).digest])[key_of(8).digest]))
"""


def test_a_store_may_be_taken_along_into_a_forked_process(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORKED, url], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["again", "child", "parent"], "")


def test_a_server_that_dropped_the_connection_is_connected_to_again(server: Cluster) -> None:
    url = server.new_database("dropped")
    store = ProfileStore(url.render_as_string(hide_password=False))
    store.add([row_of(8)])
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'dropped'")
    assert store.find([key_of(8).digest]) == {key_of(8).digest: [row_of(8)]}


def test_sqlite_writes_ahead_and_minds_references(path: Path) -> None:
    ProfileStore(path).add([row_of(8)])
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    orphan = {"digest": "0" * 64, "session": "s", "index": 0, "samples_ns": "[1]"}
    with pytest.raises(BadInput, match="FOREIGN KEY"):
        ProfileStore(path).database.write(lambda connection: connection.execute(sql.insert(SAMPLES), orphan))


@pytest.mark.parametrize("name", ["", "s" * 65, "line\nfeed", "nul\0", "half \ud800"])
def test_a_session_has_a_plain_name(url: str, name: str) -> None:
    with pytest.raises(BadInput, match="session is named"):
        ProfileStore(url).add([row_of(8, name)])
    plain = [row_of(8, "s" * 64), row_of(8, "Sitzung ä")]
    ProfileStore(url).add(plain)
    assert sorted(ProfileStore(url).find([key_of(8).digest])[key_of(8).digest], key=str) == sorted(plain, key=str)


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


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hunter2@host/name",
        "postgresql://me:hunter2@host:port/name",
        "postgresql://me:hunter2@[::1/name",
        "postgresql://me:hunter2@nowhere.invalid/name",
        "postgresql://me@nowhere.invalid/name?password=hunter2",
        "postgresql://me:hunter2@/name?host=/nowhere&sslmode=bad&sslpassword=hunter2",
    ],
)
def test_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match=r"^[^\n]+$") as caught:
        ProfileStore(url)
    assert "hunter2" not in str(caught.value)


def test_a_refused_password_is_one_clear_line_without_it(server: Cluster) -> None:
    wrong = server.url.set(password="hunter2").render_as_string(hide_password=False)
    with pytest.raises(
        BadInput, match=r"^The profile database postgresql[^\n]+password authentication failed"
    ) as caught:
        ProfileStore(wrong)
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(BadInput, match=r"^[^\n]*pip install 'cutback\[postgresql\]'$"):
        ProfileStore("postgresql://me@host/name")


def test_the_driver_need_not_be_named() -> None:
    for url in ("postgresql://host/name", "postgres://host/name", "postgresql+psycopg://host/name"):
        assert url_of(url).drivername == "postgresql+psycopg"


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
