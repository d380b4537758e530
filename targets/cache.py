"""What the agent keeps on its device: files by their hash, and a folder for as long as it lives (device side).

    ROOT/agents/HASH.pyz       the agent, as the bootstrap left it; locked while one runs from it
    ROOT/files/HASH.SUFFIX     what hosts sent; the least recently used go first
    ROOT/sessions/NAME/        of one agent, locked while it lives: what is half there, and second names of what it uses

A file has its name in `files` once all of it is there and its hash was checked; an agent that finds it there checks
once more, since power can fail before a disk has everything. What a living agent uses has a second name in its session,
so that nobody's cleaning takes it away, and no clock is asked whether it is in use. Everything is for this user's eyes
alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import Any, Callable, Iterator

from targets.errors import BadInput, TargetError

MOST_BYTES = 2 << 30  # of files; a profile sends some dozens of cut networks
AGENTS_KEPT = 3  # besides those that run: more than one host may use the device
NAMES_KEPT = 8  # a request uses three files at most; of networks that a long session sent, the others may go
SYNCED_BYTES = 16 << 20  # written at a time: what a slow disk has yet to take must not become minutes in the end

HASH = re.compile(r"[0-9a-f]{64}")
SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,12}){0,3}")
FILE = re.compile(HASH.pattern + SUFFIX.pattern)  # other names are somebody else's files, and stay


class Cache:
    """`own`: the archive that this agent runs from."""

    def __init__(self, root: str, own: str) -> None:
        self.root = Path(root)
        self.files = private(self.root / "files")
        self.sessions = private(self.root / "sessions")
        self._own = Path(own)
        self._locks = [hold(self._own)]  # until the process ends
        os.utime(own)
        self._remove_agents(AGENTS_KEPT)
        self._remove_sessions()
        self.session = self._new_session()
        self._checked: dict[Path, tuple[int, ...]] = {}
        self._used: list[Path] = []

    def find(self, sha256: str, suffix: str, alive: Callable[[], None]) -> str | None:
        """The path of the file with these bytes, where it is here and sound; it counts as used now, and stays for the
        next requests. `alive` is called again and again while a large file is read."""
        path = self._path(sha256, suffix)
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):  # a way to another place
                return None
            if self._checked.get(path) != identity(found):
                if digest(path, alive) != sha256:
                    path.unlink()
                    return None
                self._checked[path] = identity(found)
            os.utime(str(path), ns=(time.time_ns(), found.st_mtime_ns))  # when it changed says what a worker has loaded
            kept = self._keep(path, path)
        except OSError:
            return None
        return kept if Path(kept).exists() else None

    def store(self, sha256: str, suffix: str, blocks: Iterator[bytes], size: int) -> str:
        """All of `blocks`, `size` bytes, are taken, whatever becomes of them: what follows in their stream is a
        request."""
        try:
            path = self._path(sha256, suffix)
        except BadInput:
            for _ in blocks:
                pass
            raise
        found, failure = hashlib.sha256(), None
        part = self.session / f"{os.urandom(8).hex()}.part"
        try:
            self.shrink(min(MOST_BYTES, self._bytes_for_files()) - size)
            with part.open("xb") as file:
                synced = 0
                for block in blocks:
                    found.update(block)
                    file.write(block)
                    if file.tell() - synced >= SYNCED_BYTES:
                        synced = file.tell()
                        os.fsync(file.fileno())
                file.flush()
                os.fsync(file.fileno())
            if found.hexdigest() == sha256:
                kept = self._keep(path, part)
                part.replace(path)
                self._checked[path] = identity(path.stat())
                return kept
        except OSError as error:
            failure = error
        finally:
            for _ in blocks:
                pass
            with contextlib.suppress(OSError):
                part.unlink()
        if failure is None:
            raise TargetError("A file arrived damaged and was not kept. Try again.")
        raise TargetError(f"Cannot keep a file in {self.root}: {failure.strerror}. {self.room()}")

    def shrink(self, most_bytes: int) -> None:
        """Remove what was used longest ago, and by no living agent, until the files are within `most_bytes`."""
        known = []
        for path in self.files.iterdir():
            with contextlib.suppress(OSError):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and FILE.fullmatch(path.name):
                    known.append((found.st_atime_ns, found.st_size, found.st_nlink, path))
        total = sum(size for _, size, _, _ in known)
        for _, size, names, path in sorted(known):
            if total <= most_bytes:
                break
            if names == 1 and path not in self._used:
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size

    def clean(self) -> dict[str, Any]:
        """Remove all that no living agent uses: files, older agents, sessions; what went and what is left, in bytes."""
        before = bytes_in(self.root)
        for path in self._used:
            self._release(path)
        self._used.clear()
        self._remove_sessions()
        self.shrink(0)
        self._remove_agents(0)
        after = bytes_in(self.root)
        return {"root": str(self.root), "removed": before - after, "left": after}

    def room(self) -> str:
        free = shutil.disk_usage(str(self.root)).free
        return f"{free / 2**20:.0f} MiB are free there. Free some, or run: cutback targets clean"

    def _bytes_for_files(self) -> int:
        """What they have, and what is free."""
        return bytes_in(self.files) + shutil.disk_usage(str(self.root)).free

    def _keep(self, path: Path, content: Path) -> str:
        """The file under a name of this session; its own one where the file system gives no second names."""
        name = self.session / path.name
        with contextlib.suppress(OSError):
            if name.exists() and not name.samefile(content):
                name.unlink()
            os.link(str(content), str(name))
        self._used = [*(each for each in self._used if each != path), path]
        while len(self._used) > NAMES_KEPT:
            self._release(self._used.pop(0))
        return str(name if name.exists() else path)

    def _release(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            (self.session / path.name).unlink()

    def _new_session(self) -> Path:
        while True:
            folder = private(self.sessions / os.urandom(8).hex())
            with contextlib.suppress(OSError):  # another agent's clean-up came between the two
                lock = hold(folder, fcntl.LOCK_EX)
                if folder.exists():
                    self._locks.append(lock)
                    return folder
                os.close(lock)

    def _remove_sessions(self) -> None:
        """Those of agents that are gone."""
        for old in self.sessions.iterdir():
            if old.is_symlink() or not old.is_dir():
                continue  # none of ours, and whoever opens a pipe waits
            with contextlib.suppress(OSError), unused(old):
                shutil.rmtree(str(old), ignore_errors=True)

    def _remove_agents(self, kept: int) -> None:
        """All but the last used and those that run; and what was left half there."""
        agents = [path for path in self._own.parent.iterdir() if path != self._own]
        whole = sorted((path for path in agents if path.suffix == ".pyz"), key=modified_ns, reverse=True)
        for path in [*whole, *(path for path in agents if path.suffix == ".part")]:
            with contextlib.suppress(OSError), unused(path):
                if path.suffix == ".pyz" and kept:
                    kept -= 1
                else:
                    path.unlink()

    def _path(self, sha256: str, suffix: str) -> Path:
        if not HASH.fullmatch(sha256) or not SUFFIX.fullmatch(suffix):
            raise BadInput(f"{sha256[:80]!r} with {suffix[:40]!r} names no file of the cache.")
        return self.files / f"{sha256}{suffix}"


def hold(path: Path, kind: int = fcntl.LOCK_SH) -> int:
    """A lock on the file or folder, for as long as what is returned is open. `OSError` where somebody has another, or
    where a link leads elsewhere."""
    handle = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe must not hold us
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def unused(path: Path) -> Iterator[None]:
    """`OSError` where somebody holds it."""
    handle = hold(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def digest(path: Path, alive: Callable[[], None]) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
            alive()
    return found.hexdigest()


def identity(found: os.stat_result) -> tuple[int, ...]:
    """What changes when somebody writes to the file."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def modified_ns(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def private(folder: Path) -> Path:
    """The folder, made where it is not there, for this user alone. `TargetError` where it is somebody else's, or a way
    to another place."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise TargetError(f"{folder} is not a folder of this user's own. Remove it: cutback keeps its files there.")
    folder.chmod(0o700)
    return folder


def bytes_in(folder: Path) -> int:
    """Of all files, each once however many names it has."""
    sizes = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode):
                sizes[found.st_ino] = found.st_size
    return sum(sizes.values())
