"""Stages that survive a kill: each keeps its result under the digest of what it was made from.

A stage that finished is read back; one that was killed half-way finds its own folder again, with whatever it keeps
there to go on from (a training checkpoint, say). A result is written beside and renamed, last of all.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any


class Workspace:
    """A folder of finished and unfinished stages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def stage(
        self, name: str, inputs: Mapping[str, Any], compute: Callable[[Path], Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], Path]:
        """The stage's result (JSON) and its folder: read back where the same inputs were done before, else computed.

        `inputs` is all that the result depends on. `compute` gets the folder, and may find its own leavings there.
        """
        folder = self.folder / f"{name}-{digest({**inputs, 'cutback': version('cutback')})[:16]}"
        done = folder / "result.json"
        if done.exists():
            return json.loads(done.read_text(encoding="utf-8")), folder
        folder.mkdir(exist_ok=True)
        result = compute(folder)
        write_json(done, result)
        return json.loads(done.read_text(encoding="utf-8")), folder


def digest(document: Mapping[str, Any]) -> str:
    """sha256 of canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Beside, then renamed: never half a file."""
    write_text(path, json.dumps(document, indent=1, default=_plain) + "\n")


def write_text(path: Path, text: str) -> None:
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """numpy scalars and paths as JSON has them."""
    return value.item() if hasattr(value, "item") else str(value)
