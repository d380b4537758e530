"""Export and merge: a union by session, all of a file or nothing of it."""

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets.errors import BadInput
from targets.profiles.content import content_of
from targets.profiles.export import Counts, encoded, export
from targets.profiles.integrity import check
from targets.profiles.merge import merge, read_export
from targets.profiles.search import Wanted
from targets.profiles.store import ProfileStore, Row
from tests.targets.writers import key_of, row_of

EVERYTHING = Wanted()


def store_with(url: str | Path, *rows: Row) -> ProfileStore:
    store = ProfileStore(url)
    store.add(rows)
    return store


def changed(path: Path, change: Callable[[list[Any]], None]) -> Path:
    """The export after `change` to its lines, with an end that fits them: what is wrong is not that it was changed."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    texts = [json.dumps(line, separators=(",", ":"), sort_keys=True) + "\n" for line in lines[:-1]]
    lines[-1]["sha256"] = hashlib.sha256("".join(texts).encode()).hexdigest()
    path.write_text("".join(texts) + json.dumps(lines[-1]))
    return path


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_what_was_exported_and_merged_is_what_was_there(url: str, tmp_path: Path, name: str) -> None:
    rows = [row_of(width, session, index) for width in (8, 16) for session in ("s", "t") for index in (0, 1)]
    store = store_with(url, *rows)
    path, again = tmp_path / name, tmp_path / f"again-{name}"
    assert export(store.database, path, EVERYTHING) == Counts(sessions=2, keys=2, rows=8)
    other = ProfileStore(tmp_path / "other.sqlite")
    merged = merge(other.database, path)
    assert merged.file == merged.new == Counts(2, 2, 8)
    digests = [key_of(8).digest, key_of(16).digest]
    assert other.find(digests) == store.find(digests)
    export(other.database, again, EVERYTHING)
    assert again.read_bytes() == path.read_bytes()  # equal content, equal bytes


def test_merging_is_a_union_and_merging_again_adds_nothing(url: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    export(store_with(tmp_path / "theirs.sqlite", row_of(8, "both"), row_of(16, "theirs")).database, path, EVERYTHING)
    ours = store_with(url, row_of(8, "both"), row_of(8, "ours"))
    assert merge(ours.database, path).new == Counts(sessions=1, keys=1, rows=1)
    assert merge(ours.database, path).new == Counts(0, 0, 0)
    found = ours.find([key_of(8).digest, key_of(16).digest])
    assert {row.session_id for rows in found.values() for row in rows} == {"both", "ours", "theirs"}
    assert check(ours.database) == (Counts(3, 2, 3), [])


def test_a_session_that_grew_brings_its_new_rows(url: str, tmp_path: Path) -> None:
    path = tmp_path / "grown.jsonl"
    export(store_with(tmp_path / "grown.sqlite", row_of(8), row_of(16)).database, path, EVERYTHING)
    ours = store_with(url, row_of(8))
    assert merge(ours.database, path).new == Counts(sessions=0, keys=1, rows=1)


def test_a_part_can_be_exported(url: str, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(row_of(8, "elsewhere"), key=key_of(8, cpu="other"))
    store = store_with(url, row_of(8), row_of(16), elsewhere)
    assert export(store.database, tmp_path / "a.jsonl", Wanted(device="OTHER")) == Counts(1, 1, 1)
    assert list(read_export(tmp_path / "a.jsonl").sessions) == ["elsewhere"]
    assert export(store.database, tmp_path / "a.jsonl", Wanted(stack="none")) == Counts(2, 3, 3)
    assert export(store.database, tmp_path / "a.jsonl", Wanted(stack="nowhere")) == Counts(0, 0, 0)


def test_times_that_differ_for_the_same_row_are_refused(url: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    theirs = store_with(tmp_path / "theirs.sqlite", row_of(8, samples=(9,)), row_of(16, "new"))
    export(theirs.database, path, EVERYTHING)
    ours = store_with(url, row_of(8))
    with pytest.raises(BadInput, match=r"^[^\n]*session s has other times[^\n]*Nothing was merged\.$"):
        merge(ours.database, path)
    assert ours.find([key_of(8).digest, key_of(16).digest]) == {key_of(8).digest: [row_of(8)]}


@pytest.mark.parametrize("where", ["device", "observed"])
def test_an_emulated_devices_rows_take_the_file_with_them(url: str, tmp_path: Path, where: str) -> None:
    content = content_of([row_of(8, "good")])
    key = key_of(16, emulated=True) if where == "device" else key_of(16)
    smuggled = dataclasses.replace(row_of(16, "smuggled"), key=key, observed={"emulated": where == "observed"})
    real = dataclasses.replace(smuggled, key=key_of(16), observed={})
    path = tmp_path / "theirs.jsonl"
    path.write_bytes(encoded(content_of([row_of(8, "good"), real]), compressed=False))
    assert content.documents  # and now the same with what no store would take
    path.write_bytes(encoded(forged([row_of(8, "good"), smuggled]), compressed=False))
    ours = ProfileStore(url)
    with pytest.raises(BadInput, match=r"^[^\n]*emulated device[^\n]*Nothing was merged\.$"):
        merge(ours.database, path)
    assert check(ours.database)[0] == Counts(0, 0, 0)


def forged(rows: list[Row]) -> Any:
    """Content as `content_of` makes it, with the refusal of emulated devices passed by."""
    from targets.profiles import content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "refuse_emulated", lambda *_: None)
        return content_of(rows)


def drop_first_session(lines: list[Any]) -> None:
    lines[:] = [line for line in lines if "session" not in line]


def other_document(lines: list[Any]) -> None:
    lines[1]["document"]["changed"] = True


def other_key(lines: list[Any]) -> None:
    next(line for line in lines if "key" in line)["parts"].reverse()


def no_times(lines: list[Any]) -> None:
    next(line for line in lines if "session" in line)["rows"][0][2] = []


def times_that_are_none(lines: list[Any]) -> None:
    next(line for line in lines if "session" in line)["rows"][0][2] = [1.5]


def index_beyond_the_column(lines: list[Any]) -> None:
    next(line for line in lines if "session" in line)["rows"][0][1] = 2**31


def row_without_a_key(lines: list[Any]) -> None:
    lines[:] = [line for line in lines if "key" not in line]


def name_of_two_lines(lines: list[Any]) -> None:
    next(line for line in lines if "session" in line)["session"] = "a\nb"


def newer(lines: list[Any]) -> None:
    lines[0]["version"] = 2


def another_kind_of_line(lines: list[Any]) -> None:
    lines.insert(1, {"surprise": 1})


def no_object(lines: list[Any]) -> None:
    lines.insert(1, [1, 2])


def something_after_the_end(lines: list[Any]) -> None:
    lines.append(lines[-1])


CHANGES = [
    drop_first_session, other_document, other_key, no_times, times_that_are_none, index_beyond_the_column,
    row_without_a_key, name_of_two_lines, newer, another_kind_of_line, no_object, something_after_the_end,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_that_is_not_right_changes_nothing(tmp_path: Path, change: Callable[[list[Any]], None]) -> None:
    path = tmp_path / "theirs.jsonl"
    export(store_with(tmp_path / "theirs.sqlite", row_of(8), row_of(16, "t")).database, path, EVERYTHING)
    changed(path, change)
    ours = store_with(tmp_path / "ours.sqlite", row_of(24))
    with pytest.raises(BadInput, match=r"^[^\n]*theirs\.jsonl, line \d+[^\n]*Nothing was merged\.[^\n]*$"):
        merge(ours.database, path)
    assert check(ours.database) == (Counts(1, 1, 1), [])


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_damaged_anywhere_changes_nothing(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "theirs.jsonl"
    whole = encoded(content_of([row_of(8), row_of(16, "t")]), compressed=compressed)
    ours = store_with(tmp_path / "ours.sqlite", row_of(24))
    damaged = [whole[:length] for length in range(0, len(whole) - 1, 97)]
    header = 10  # of gzip; its time, flags and system may be anything
    for place in range(header, len(whole) - 1, 61):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(BadInput, match=r"^[^\n]+Nothing was merged\.[^\n]*$"):
            merge(ours.database, path)
    assert check(ours.database) == (Counts(1, 1, 1), [])


def test_what_is_no_export_says_what_to_do(tmp_path: Path) -> None:
    ours = store_with(tmp_path / "ours.sqlite", row_of(8))
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "nothing").touch()
    (tmp_path / "other.gz").write_bytes(gzip.compress(b"hello"))
    for name in ("text", "nothing", "other.gz", "missing", "."):
        with pytest.raises(BadInput, match=r"^[^\n]+Nothing was merged\.$"):
            merge(ours.database, tmp_path / name)
    with pytest.raises(BadInput, match="cutback db export --db"):
        merge(ours.database, tmp_path / "ours.sqlite")


def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    store = store_with(tmp_path / "ours.sqlite", row_of(8))
    before = (tmp_path / "ours.sqlite").read_bytes()
    with pytest.raises(BadInput, match="is no export"):
        export(store.database, tmp_path / "ours.sqlite", EVERYTHING)
    assert (tmp_path / "ours.sqlite").read_bytes() == before
    for _ in range(2):
        export(store.database, tmp_path / "all.jsonl", EVERYTHING)
    with pytest.raises(BadInput, match="cannot be written"):
        export(store.database, tmp_path / "ours.sqlite" / "all.jsonl", EVERYTHING)
    assert sorted(path.name for path in tmp_path.iterdir() if "ours" not in path.name) == ["all.jsonl"]
