"""What the agent keeps on its device: files by their hash, and a folder for as long as it lives (device side).

    ROOT/agents/HASH.pyz       the agent, as the bootstrap left it
    ROOT/files/HASH.SUFFIX     what hosts sent; the least recently used go first
    ROOT/sessions/NAME/        of one agent, locked while it lives

A file has its name once all of it is there and its hash was checked. Everything is for this user's eyes alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Iterator

from targets.errors import BadInput, TargetError

MOST_BYTES = 2 << 30  # of files; a profile sends some dozens of cut networks
IN_USE_S = 3600.0  # files that were asked for so recently stay: somebody may be about to run them
AGENTS_KEPT = 3  # of other versions: more than one host may use the device

HASH = re.compile(r"[0-9a-f]{64}")
SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,12}){0,3}")


class Cache:
    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.files = private(self.root / "files")
        self.sessions = private(self.root / "sessions")

    def session(self) -> tuple[str, int]:
        """A new folder and the descriptor of its lock; folders of agents that are gone are removed."""
        for old in self.sessions.iterdir():
            with contextlib.suppress(OSError):
                handle = os.open(str(old), os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(str(old), ignore_errors=True)
                finally:
                    os.close(handle)
        while True:
            folder = private(self.sessions / os.urandom(8).hex())
            with contextlib.suppress(OSError):  # another agent's clean-up came between the two
                handle = os.open(str(folder), os.O_RDONLY)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if folder.exists():
                    return str(folder), handle

    def find(self, sha256: str, suffix: str) -> str | None:
        """The path of the file with these bytes, where it is here; it counts as used now."""
        path = self._path(sha256, suffix)
        try:
            os.utime(str(path))
        except OSError:
            return None
        return str(path)

    def store(self, sha256: str, suffix: str, blocks: Iterator[bytes]) -> str:
        """All of `blocks` are taken, whatever becomes of them: what follows in their stream is a request."""
        found, failure = hashlib.sha256(), None
        path = self._path(sha256, suffix)
        part = path.with_name(f".{os.urandom(8).hex()}.part")
        try:
            with part.open("xb") as file:
                for block in blocks:
                    found.update(block)
                    try:
                        file.write(block)
                    except OSError as error:
                        failure = error
                        break
                if failure is None:
                    file.flush()
                    os.fsync(file.fileno())
            if failure is None and found.hexdigest() == sha256:
                part.replace(path)
                self.shrink(keep=path)
                return str(path)
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

    def shrink(self, keep: Path | None = None, most_bytes: int = MOST_BYTES, in_use_s: float = IN_USE_S) -> int:
        """Remove what was used longest ago until the files are within `most_bytes`; how many bytes went."""
        known = []
        for path in self.files.iterdir():
            with contextlib.suppress(OSError):
                found = path.stat()
                known.append((found.st_mtime, found.st_size, path))
        total, gone = sum(size for _, size, _ in known), 0
        for used, size, path in sorted(known, key=lambda each: each[:2]):
            if total - gone <= most_bytes:
                break
            if path != keep and time.time() - used > in_use_s:
                with contextlib.suppress(OSError):
                    path.unlink()
                    gone += size
        return gone

    def clean(self, own: str) -> dict[str, Any]:
        """Remove all that no living agent uses: files, older agents, sessions; what went and what is left, in bytes."""
        before = bytes_in(self.root)
        self.shrink(most_bytes=0, in_use_s=0.0)
        agents = sorted((self.root / "agents").glob("*"), key=lambda path: path.stat().st_mtime)
        for path in agents:
            if str(path) != own:
                path.unlink()
        after = bytes_in(self.root)
        return {"root": str(self.root), "removed": before - after, "left": after}

    def room(self) -> str:
        free = shutil.disk_usage(str(self.root)).free
        return f"{free / 2**20:.0f} MiB are free there. Free some, or run: cutback targets clean"

    def _path(self, sha256: str, suffix: str) -> Path:
        if not HASH.fullmatch(sha256) or not SUFFIX.fullmatch(suffix):
            raise BadInput(f"{sha256[:80]!r} with {suffix[:40]!r} names no file of the cache.")
        return self.files / f"{sha256}{suffix}"


def private(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
