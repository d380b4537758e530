"""What the agent keeps on a device: whole, sound, private and bounded, whoever else uses the same folder."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

import targets.cache
from targets.cache import NAMES_KEPT, Cache
from targets.errors import BadInput, TargetError


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "agents" / f"{'0' * 64}.pyz"
    path.parent.mkdir()
    path.write_bytes(b"an agent")
    return path


@pytest.fixture
def cache(tmp_path: Path, own: Path) -> Cache:
    return Cache(str(tmp_path), str(own))


def name_of(content: bytes) -> str:
    return sha256(content).hexdigest()


def keep(cache: Cache, content: bytes) -> Path:
    return Path(cache.store(name_of(content), ".onnx", iter([content]), len(content)))


def find(cache: Cache, content: bytes) -> str | None:
    return cache.find(name_of(content), ".onnx", lambda: None)


def kept(cache: Cache) -> set[bytes]:
    return {path.read_bytes() for path in cache.files.iterdir()}


def end(cache: Cache) -> None:
    """As the process that has it ends: the kernel takes its locks back."""
    for lock in cache._locks:
        os.close(lock)


def another(cache: Cache, name: str = "1" * 64) -> Cache:
    """Of an agent of another version on the same device."""
    path = cache.root / "agents" / f"{name}.pyz"
    path.write_bytes(b"another agent")
    return Cache(str(cache.root), str(path))


def test_what_was_stored_is_found_by_its_bytes(cache: Cache) -> None:
    assert find(cache, b"model") is None
    assert keep(cache, b"model").read_bytes() == b"model"
    found = find(cache, b"model")
    assert found is not None
    assert Path(found).read_bytes() == b"model"


def test_what_arrives_damaged_is_not_kept(cache: Cache) -> None:
    with pytest.raises(TargetError, match="arrived damaged"):
        cache.store(name_of(b"model"), ".onnx", iter([b"mo", b"dem"]), 5)
    assert kept(cache) == set()
    assert list(cache.session.iterdir()) == []


@pytest.mark.parametrize("name", ["../" + "0" * 61, "0" * 63, "0" * 64 + "/x", "", "0" * 64 + "\n"])
def test_a_name_that_is_no_hash_is_refused(cache: Cache, name: str) -> None:
    with pytest.raises(BadInput, match="names no file"):
        cache.find(name, "", lambda: None)


@pytest.mark.parametrize("suffix", ["/../../x", ".a/b", "..", ".o" * 4, ".a b", ".\0"])
def test_a_suffix_that_leads_elsewhere_is_refused(cache: Cache, suffix: str) -> None:
    with pytest.raises(BadInput, match="names no file"):
        cache.find("0" * 64, suffix, lambda: None)


def test_what_was_used_longest_ago_goes_first(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.cache, "MOST_BYTES", 300)
    contents = [bytes([number]) * 100 for number in range(3)]
    first = another(cache)
    for content in contents:
        keep(first, content)
    assert find(first, contents[0])
    end(first)
    keep(another(cache, "2" * 64), b"x" * 100)  # its start removes the session of the first
    assert kept(cache) == {contents[0], contents[2], b"x" * 100}


def test_what_a_living_agent_uses_stays_whatever_is_cleaned_and_however_little_room_there_is(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets.cache, "MOST_BYTES", 0)
    used = keep(cache, b"in use")
    other = another(cache)
    keep(other, b"of the other")
    other.clean()
    assert kept(cache) == {b"in use"}
    assert used.read_bytes() == b"in use"


def test_of_many_files_that_one_agent_sends_only_the_last_ones_must_stay(cache: Cache) -> None:
    contents = [bytes([number]) for number in range(NAMES_KEPT + 2)]
    for content in contents:
        keep(cache, content)
    assert len(list(cache.session.iterdir())) == NAMES_KEPT
    another(cache).clean()
    assert kept(cache) == set(contents[2:])


def test_the_time_of_a_file_says_when_its_bytes_changed_and_not_when_it_was_used(cache: Cache) -> None:
    path = keep(cache, b"model")
    os.utime(path, ns=(1, 2))
    find(cache, b"model")
    assert path.stat().st_mtime_ns == 2  # what a worker has loaded stays loaded
    assert path.stat().st_atime_ns > 2


def test_a_folder_of_an_agent_that_is_gone_goes_with_the_next_start_and_no_other(cache: Cache) -> None:
    gone, living = another(cache), another(cache, "2" * 64)
    (gone.session / "half.part").write_bytes(b"half a model")
    end(gone)
    last = another(cache, "3" * 64)
    assert not gone.session.exists()
    assert {path.name for path in cache.sessions.iterdir()} == {each.session.name for each in (cache, living, last)}


def test_old_agents_go_and_those_that_run_stay(cache: Cache, own: Path) -> None:
    running = another(cache)
    for number in range(2, 9):
        path = cache.root / "agents" / f"{str(number) * 64}.pyz"
        path.write_bytes(b"old")
        os.utime(path, ns=(number, number))
    half = cache.root / "agents" / "9.pyz.00.part"
    half.write_bytes(b"half an agent")
    last = another(cache, "a" * 64)
    names = {path.name[0] for path in own.parent.iterdir()}
    assert names == {"0", "1", "a", "6", "7", "8"}
    last.clean()
    assert {path.name[0] for path in own.parent.iterdir()} == {"0", "1", "a"}
    assert running.session.exists()


def test_cleaning_says_how_much_went(cache: Cache) -> None:
    keep(cache, b"x" * 1000)
    told = cache.clean()
    assert told["removed"] >= 1000
    assert told["root"] == str(cache.root)
    assert kept(cache) == set()
