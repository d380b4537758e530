"""The same cache, where somebody means harm: full disks, names of other people's files, links, foreign owners."""

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from targets.cache import Cache
from targets.errors import BadInput, TargetError
from targets.host import Host
from targets.store import Store

OWN = "a" * 64 + ".pyz"
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user, or mounts")


def sha(data: bytes) -> str:
    return sha256(data).hexdigest()


def nothing() -> None:
    pass


def blocks(data: bytes, size: int = 1000) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def opened(root: Path) -> Cache:
    (root / "agents").mkdir(parents=True, exist_ok=True)
    (root / "agents" / OWN).touch()
    return Cache(str(root), str(root / "agents" / OWN))


def store(cache: Cache, data: bytes) -> str:
    return cache.store(sha(data), ".onnx", blocks(data), len(data))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return opened(tmp_path / "root")


@pytest.mark.parametrize(
    ("sha256", "suffix"),
    [
        ("../../x", ".onnx"), ("/etc/passwd", ""), ("A" * 64, ".onnx"), ("a" * 63, ".onnx"), ("a" * 64 + "\n", ""),
        ("a" * 64, "/../../x"), ("a" * 64, ".."), ("a" * 64, ".on nx"), ("a" * 64, ".a.b.c.d"), ("a" * 64, ".x\n"),
        ("a" * 64, "." + "x" * 13), ("", ""),
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_and_its_bytes_are_taken(cache: Cache, sha256: str, suffix: str) -> None:
    stream = blocks(b"x" * 5000)
    with pytest.raises(BadInput, match=r"^[^\n]*names no file of the cache\.$"):
        cache.store(sha256, suffix, stream, 5000)
    assert next(stream, None) is None
    with pytest.raises(BadInput):
        cache.find(sha256, suffix, nothing)
    assert names(cache.files) == []


def test_a_sender_that_goes_away_leaves_nothing(cache: Cache) -> None:
    class Gone(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise Gone

    with pytest.raises(Gone):
        cache.store(sha(b"half and half"), ".onnx", broken(), 13)
    assert names(cache.files) == []


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A real disk of a megabyte."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@as_root
def test_a_full_disk_takes_the_stream_and_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        cache = opened(disk / "root")
        stream = blocks(b"x" * (3 << 20), 1 << 16)
        with pytest.raises(TargetError, match=r"^[^\n]*No space left[^\n]*MiB are free[^\n]*cutback targets clean$"):
            cache.store(sha(b"x" * (3 << 20)), ".onnx", stream, 3 << 20)
        assert next(stream, None) is None
        assert names(cache.files) == []
        assert store(cache, b"small")
        for lock in cache._locks:
            os.close(lock)


def test_two_that_store_the_same_file_at_once_both_have_it(cache: Cache) -> None:
    data = bytes(range(256)) * 4000
    other = opened(cache.root)
    got: list[str] = []
    threads = [threading.Thread(target=lambda one=one: got.append(store(one, data))) for one in (cache, other) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert {Path(path).read_bytes() for path in got} == {data}
    assert names(cache.files) == [f"{sha(data)}.onnx"]


def test_what_is_not_ours_stays(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("theirs")
    for folder in (cache.files, cache.sessions, cache.root / "agents"):
        (folder / "notes.txt").write_text("theirs")
        (folder / "folder").symlink_to(tmp_path / "elsewhere")
        os.mkfifo(folder / "pipe")
    (cache.files / f"{'b' * 64}.onnx").symlink_to(tmp_path / "elsewhere" / "file")
    assert cache.find("b" * 64, ".onnx", nothing) is None  # a link is no file of ours
    assert cache.clean()["root"] == str(cache.root)
    assert (tmp_path / "elsewhere" / "file").read_text() == "theirs"
    for folder in (cache.files, cache.sessions, cache.root / "agents"):
        assert {"notes.txt", "folder", "pipe"} <= set(names(folder))
    path = store(cache, b"x")
    assert not Path(path).is_symlink()


def test_a_file_replaces_a_link_in_its_place(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("theirs")
    (cache.files / f"{sha(b'x')}.onnx").symlink_to(tmp_path / "victim")
    path = store(cache, b"x")
    assert Path(path).read_bytes() == b"x"
    assert (tmp_path / "victim").read_text() == "theirs"


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o027])
def test_all_of_it_is_for_its_user_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        cache = opened(tmp_path / "root")
    finally:
        os.umask(before)
    for folder in (cache.files, cache.sessions, *cache.sessions.iterdir()):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_could_write_to_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files").chmod(0o777)
    assert opened(tmp_path).files.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere").chmod(0o755)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "files").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetError, match=r"^[^\n]*not a folder of this user's own[^\n]*$"):
        opened(tmp_path / "root")
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755


@as_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root" / "files").mkdir(parents=True)
    os.chown(tmp_path / "root" / "files", 65534, 65534)
    with pytest.raises(TargetError, match="not a folder of this user's own"):
        opened(tmp_path / "root")


def test_an_engine_is_brought_back_from_the_session_and_from_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "root" / "agents").mkdir(parents=True)
    (tmp_path / "root" / "agents" / OWN).touch()
    store = Store(str(tmp_path / "root"), own=str(tmp_path / "root" / "agents" / OWN))
    (tmp_path / "secret").write_text("the device's own")
    Path(store.folder, "link").symlink_to(tmp_path / "secret")
    reading, writing = os.pipe()
    with (tmp_path / "answers").open("w") as answers:
        host = Host(reading, answers)
        for path in (tmp_path / "secret", Path(store.folder, "..", "x"), Path(store.folder, "sub", "x")):
            with pytest.raises(BadInput, match="no file of this session"):
                store.answer({"id": 1, "verb": "fetch", "arguments": {"path": str(path)}}, host)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            store.answer({"id": 1, "verb": "fetch", "arguments": {"path": str(Path(store.folder, "link"))}}, host)
    assert (tmp_path / "answers").read_text() == ""
    for handle in (reading, writing):
        os.close(handle)
