"""What the agent keeps on its device: files by their hash, and a folder for as long as it lives (device side).

    ROOT/agents/HASH.pyz       the agent, as the bootstrap left it
    ROOT/files/HASH.SUFFIX     what hosts sent; the least recently used go first
    ROOT/sessions/NAME/        of one agent, locked while it lives

A file has its name once all of it is there and its hash was checked. Everything is for this user's eyes alone.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import Any, Deque, Iterator, Optional

from targets.errors import BadInput, TargetError

MOST_BYTES = 2 << 30  # of files; a profile sends some dozens of cut networks
IN_USE_S = 3600.0  # files that were asked for so recently stay: somebody may be about to run them
AGENTS_KEPT = 3  # of other versions: more than one host may use the device

HASH = re.compile(r"[0-9a-f]{64}")
SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,12}){0,3}")
PART = r"\.[0-9a-f]{16}\.part"
FILE = re.compile(rf"{HASH.pattern}{SUFFIX.pattern}|{PART}")
ARCHIVE = re.compile(rf"{HASH.pattern}\.pyz(\.[0-9a-f]{{16}}\.part)?")

FILES_HELD = 16  # of those that were asked for last; one request names three
RUNS = "agent"  # in the folder of a session: the name of the archive that its agent runs from


class Cache:
    """`own`: the archive that this agent runs from."""

    def __init__(self, root: str, own: str) -> None:
        self.root = Path(root)
        self.files = private(self.root / "files")
        self.sessions = private(self.root / "sessions")
        self._own = Path(own)
        self._used: Deque[Path] = collections.deque(maxlen=FILES_HELD)

    def session(self) -> tuple[str, int]:
        """A new folder and the descriptor of its lock; what agents that are gone have left is removed."""
        taken: Optional[int] = None
        while taken is None:
            folder = private(self.sessions / os.urandom(8).hex())
            taken = locked(folder)  # None where another agent's clean-up came between the two
        (folder / RUNS).write_text(self._own.name, encoding="utf-8")
        self._retire(self.sweep(), AGENTS_KEPT)
        return str(folder), taken

    def sweep(self) -> set[str]:
        """Remove the folders of agents that are gone; the archives that the others run from."""
        run = {self._own.name}
        for old in sorted(self.sessions.iterdir()):
            if old.is_symlink() or not old.is_dir():
                continue
            handle = locked(old)
            if handle is not None:
                shutil.rmtree(str(old), ignore_errors=True)
                os.close(handle)
            else:
                with contextlib.suppress(OSError):
                    run.add((old / RUNS).read_text(encoding="utf-8"))
        return run

    def find(self, sha256: str, suffix: str) -> str | None:
        """The path of the file with these bytes, where it is here; it counts as used now."""
        path = self._path(sha256, suffix)
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return None
            os.utime(str(path))
        except OSError:
            return None
        self._used.append(path)
        return str(path)

    def store(self, sha256: str, suffix: str, blocks: Iterator[bytes]) -> str:
        """All of `blocks` are taken, whatever becomes of them: what follows in their stream is a request."""
        try:
            return self._stored(self._path(sha256, suffix), sha256, blocks)
        except OSError as failure:
            raise TargetError(f"Cannot keep a file in {self.root}: {failure.strerror}. {self.room()}") from failure
        finally:
            for _ in blocks:
                pass

    def _stored(self, path: Path, sha256: str, blocks: Iterator[bytes]) -> str:
        found = hashlib.sha256()
        part = path.with_name(f".{os.urandom(8).hex()}.part")
        try:
            with part.open("xb") as file:
                for block in blocks:
                    found.update(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if found.hexdigest() != sha256:
                raise TargetError("A file arrived damaged and was not kept. Try again.")
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        self._used.append(path)
        self.shrink()
        return str(path)

    def shrink(self, most_bytes: int = MOST_BYTES, in_use_s: float = IN_USE_S) -> int:
        """Remove what was used longest ago until the files are within `most_bytes`; how many bytes went. What this
        agent was asked for last stays, and so does what it did not put there."""
        known = []
        for path in self.files.iterdir():
            with contextlib.suppress(OSError):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and FILE.fullmatch(path.name):
                    known.append((found.st_mtime, found.st_size, path))
        total, gone = sum(size for _, size, _ in known), 0
        for used, size, path in sorted(known, key=lambda each: each[:2]):
            if total - gone <= most_bytes:
                break
            # a clock that was set back leaves files of tomorrow: as old as those of yesterday
            if path not in self._used and abs(time.time() - used) >= in_use_s:
                with contextlib.suppress(OSError):
                    path.unlink()
                    gone += size
        return gone

    def clean(self) -> dict[str, Any]:
        """Remove all that no living agent uses: files, other agents, sessions; what went and what is left, in bytes."""
        before = bytes_in(self.root)
        run = self.sweep()
        alone = len(list(self.sessions.iterdir())) <= 1
        self._used.clear()
        self.shrink(most_bytes=0, in_use_s=0.0 if alone else IN_USE_S)
        self._retire(run, 0)
        after = bytes_in(self.root)
        return {"root": str(self.root), "removed": before - after, "left": after}

    def room(self) -> str:
        free = shutil.disk_usage(str(self.root)).free
        return f"{free / 2**20:.0f} MiB are free there. Free some, or run: cutback targets clean"

    def _retire(self, run: set[str], kept: int) -> None:
        """Remove archives of agents that nobody runs, but for the `kept` newest."""
        others = []
        for path in (self.root / "agents").glob("*"):
            with contextlib.suppress(OSError):
                used = path.lstat().st_mtime
                coming = path.suffix == ".part" and abs(time.time() - used) < IN_USE_S
                if ARCHIVE.fullmatch(path.name) and path.name not in run and not coming:
                    others.append((used, path))
        for _, path in sorted(others)[: max(0, len(others) - kept)]:
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, sha256: str, suffix: str) -> Path:
        if not HASH.fullmatch(sha256) or not SUFFIX.fullmatch(suffix):
            raise BadInput(f"{sha256[:80]!r} with {suffix[:40]!r} names no file of the cache.")
        return self.files / f"{sha256}{suffix}"


def private(folder: Path) -> Path:
    """The folder, made where it is not there, for this user alone. `TargetError` where it is somebody else's, or a way
    to another place."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise TargetError(f"{folder} is not a folder of this user's own. Remove it: cutback keeps its files there.")
    folder.chmod(0o700)
    return folder


def locked(folder: Path) -> Optional[int]:
    """The descriptor that holds the folder's lock; None where somebody else has it, or the folder is gone."""
    try:
        handle = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.exists():
            return handle
    os.close(handle)
    return None


def bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total
