"""The agent's verbs for files: what hosts send and bring back (device side)."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any, Iterator

from targets.cache import Cache
from targets.errors import BadInput
from targets.host import Host


class Store:
    """`own`: the archive that this agent runs from."""

    def __init__(self, root: str, own: str) -> None:
        self.cache = Cache(root, own)
        self.folder = str(self.cache.session)  # files are brought back from there and from nowhere else

    def answer(self, request: dict[str, Any], host: Host) -> Any:
        """The result of one of the agent's `FILE_VERBS`."""
        arguments = request["arguments"]
        if request["verb"] == "have":
            return {
                "path": self.cache.find(arguments["sha256"], arguments["suffix"], partial(host.alive, request["id"]))
            }
        if request["verb"] == "store":
            size = int(request["payload"])
            blocks = blocks_from(host, size)
            return {"path": self.cache.store(arguments["sha256"], arguments["suffix"], blocks, size)}
        if request["verb"] == "session":
            return {"folder": self.folder}
        if request["verb"] == "clean":
            return self.cache.clean()
        return self._fetch(request["id"], Path(arguments["path"]), host)

    def _fetch(self, number: int, path: Path, host: Host) -> dict[str, Any]:
        """The file follows a line that says how long it is; its hash is in the result. It is removed here."""
        if path.parent != Path(self.folder):
            raise BadInput(f"{path.name} is no file of this session.")
        found = hashlib.sha256()
        with os.fdopen(os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            host.send_file({"id": number, "payload": size}, blocks_of(file, size, found))
        path.unlink()
        return {"sha256": found.hexdigest()}


def blocks_from(host: Host, size: int) -> Iterator[bytes]:
    """The `size` bytes that follow a request."""
    while size > 0:
        block = host.take(min(size, 1 << 16))
        size -= len(block)
        yield block


def blocks_of(file: Any, size: int, found: Any) -> Iterator[bytes]:
    """Exactly `size` bytes, into the hash `found` too; a file that shrinks meanwhile is filled up: its hash tells."""
    while size > 0:
        block = file.read(min(size, 1 << 16)) or bytes(min(size, 1 << 16))
        size -= len(block)
        found.update(block)
        yield block
