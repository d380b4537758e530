"""What an agent keeps on its device: whole files under their hashes, bounded, and private."""

import contextlib
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from targets import cache as caches
from targets.cache import AGENTS_KEPT, Cache
from targets.errors import BadInput, TargetError

OWN = "a" * 64 + ".pyz"
ROOT = Path(caches.__file__).parents[1]
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs a disk of its own")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blocks(data: bytes, size: int = 1000) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def opened(root: Path) -> Cache:
    (root / "agents").mkdir(parents=True, exist_ok=True)
    (root / "agents" / OWN).touch()
    return Cache(str(root), str(root / "agents" / OWN))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return opened(tmp_path / "root")


def aged(path: str | None, seconds: float) -> None:
    assert path is not None
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_is_stored_is_found_by_its_hash_and_nothing_else_is(cache: Cache) -> None:
    path = cache.store(sha(b"model"), ".onnx", blocks(b"model", 2))
    assert Path(path).read_bytes() == b"model"
    assert cache.find(sha(b"model"), ".onnx") == path
    assert cache.find(sha(b"model"), ".npz") is None
    assert cache.find(sha(b"other"), ".onnx") is None


def test_a_file_that_is_not_what_its_hash_says_is_not_kept(cache: Cache) -> None:
    stream = blocks(b"x" * 5000)
    with pytest.raises(TargetError, match="arrived damaged"):
        cache.store(sha(b"y"), ".onnx", stream)
    assert next(stream, None) is None  # what follows in it is a request
    assert names(cache.files) == []


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
        cache.store(sha256, suffix, stream)
    assert next(stream, None) is None
    with pytest.raises(BadInput):
        cache.find(sha256, suffix)
    assert names(cache.files) == []


def test_a_sender_that_goes_away_leaves_nothing(cache: Cache) -> None:
    class Gone(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise Gone

    with pytest.raises(Gone):
        cache.store(sha(b"half and half"), ".onnx", broken())
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
            cache.store(sha(b"x" * (3 << 20)), ".onnx", stream)
        assert next(stream, None) is None
        assert names(cache.files) == []
        assert cache.store(sha(b"small"), ".onnx", blocks(b"small"))


def test_two_that_store_the_same_file_at_once_both_have_it(cache: Cache) -> None:
    data = bytes(range(256)) * 4000
    other = opened(cache.root)
    got: list[str] = []
    threads = [
        threading.Thread(target=lambda one=one: got.append(one.store(sha(data), ".onnx", blocks(data))))
        for one in (cache, other) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(got)) == 1
    assert Path(got[0]).read_bytes() == data
    assert names(cache.files) == [f"{sha(data)}.onnx"]


def test_what_was_used_longest_ago_goes_first_and_what_is_in_use_never(cache: Cache) -> None:
    paths = [cache.store(sha(bytes([n])), ".onnx", iter([bytes([n])])) for n in range(6)]
    for number, path in enumerate(paths):
        aged(path, 10_000 - number)
    later = opened(cache.root)
    assert later.find(sha(bytes([0])), ".onnx") == paths[0]  # the oldest, just asked for
    assert later.shrink(most_bytes=3) == 3
    assert [Path(path).exists() for path in paths] == [True, False, False, False, True, True]
    aged(paths[0], 10_000)  # a clock that jumps makes nothing old that this agent was asked for
    assert later.shrink(most_bytes=0) == 2
    assert [Path(path).exists() for path in paths] == [True, False, False, False, False, False]


def test_files_from_tomorrow_are_old_files(cache: Cache) -> None:
    path = cache.store(sha(b"x"), ".onnx", iter([b"x"]))
    aged(path, -100_000)
    assert opened(cache.root).shrink(most_bytes=0) == 1


def test_recently_used_files_stay_whatever_their_size(cache: Cache) -> None:
    path = cache.store(sha(b"x"), ".onnx", iter([b"x"]))
    assert opened(cache.root).shrink(most_bytes=0) == 0
    assert Path(path).exists()


def test_what_is_not_ours_stays(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("theirs")
    for folder in (cache.files, cache.sessions, cache.root / "agents"):
        (folder / "notes.txt").write_text("theirs")
        (folder / "folder").symlink_to(tmp_path / "elsewhere")
        os.mkfifo(folder / "pipe")
    (cache.files / f"{'b' * 64}.onnx").symlink_to(tmp_path / "elsewhere" / "file")
    assert cache.find("b" * 64, ".onnx") is None  # a link is no file of ours
    cache.session()
    assert cache.clean()["root"] == str(cache.root)
    assert (tmp_path / "elsewhere" / "file").read_text() == "theirs"
    for folder in (cache.files, cache.sessions, cache.root / "agents"):
        assert {"notes.txt", "folder", "pipe"} <= set(names(folder))
    path = cache.store(sha(b"x"), ".onnx", iter([b"x"]))
    assert not Path(path).is_symlink()


def test_a_file_replaces_a_link_in_its_place(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("theirs")
    (cache.files / f"{sha(b'x')}.onnx").symlink_to(tmp_path / "victim")
    path = cache.store(sha(b"x"), ".onnx", iter([b"x"]))
    assert Path(path).read_bytes() == b"x"
    assert (tmp_path / "victim").read_text() == "theirs"


HOLDER = """
import sys
from targets.cache import Cache
folder, lock = Cache(sys.argv[1], sys.argv[2]).session()
print(folder, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def living(root: Path, own: str) -> Iterator[Path]:
    """Another agent's session, in a process of its own."""
    command = [sys.executable, "-c", HOLDER, str(root), str(root / "agents" / own)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert other.stdout is not None
        yield Path(other.stdout.readline().strip())
    finally:
        other.kill()
        other.communicate()


def test_folders_of_dead_agents_go_and_those_of_living_ones_stay(cache: Cache) -> None:
    with living(cache.root, OWN) as dead:
        (dead / "half-built").write_text("x")
    assert dead.exists()
    with living(cache.root, OWN) as alive:
        folder, lock = cache.session()
        assert not dead.exists()
        assert alive.exists()
        assert Path(folder).stat().st_mode & 0o077 == 0
        second = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(second)
        os.close(lock)


def test_agents_of_other_versions_are_few_and_those_that_run_stay(cache: Cache) -> None:
    agents = cache.root / "agents"
    others = [f"{number:064x}.pyz" for number in range(8)]
    for number, name in enumerate(others):
        (agents / name).touch()
        aged(str(agents / name), 1000 - number)
    left, coming = f"{'c' * 64}.pyz.{'0' * 16}.part", f"{'d' * 64}.pyz.{'0' * 16}.part"
    for name in (left, coming):
        (agents / name).touch()
    aged(str(agents / left), 100_000)
    with living(cache.root, others[0]):
        cache.session()
        # OWN was the newest of those that nobody ran when the other agent began
        assert names(agents) == sorted([others[0], *others[8 - AGENTS_KEPT + 1 :], OWN, coming])
        cache.clean()
        assert names(agents) == sorted([others[0], OWN, coming])
    cache.clean()
    assert names(agents) == sorted([OWN, coming])


def test_clean_says_what_went_and_leaves_what_others_use(cache: Cache) -> None:
    path = cache.store(sha(b"x" * 5000), ".onnx", iter([b"x" * 5000]))
    cache.session()
    with living(cache.root, OWN):
        cache.clean()
        assert Path(path).exists()  # somebody may be about to run it
    found = cache.clean()
    assert found["removed"] >= 5000
    assert found["left"] < 5000
    assert names(cache.files) == []


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o027])
def test_all_of_it_is_for_its_user_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        cache = opened(tmp_path / "root")
        cache.session()
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
    from targets.host import Host
    from targets.store import Store

    (tmp_path / "root" / "agents").mkdir(parents=True)
    store = Store(str(tmp_path / "root"), own=str(tmp_path / "root" / "agents" / OWN))
    store.folder, lock = store.cache.session()
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
    for handle in (reading, writing, lock):
        os.close(handle)
