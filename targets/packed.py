"""The folder that `cutback pack` made for a device, as the device reads it (device side)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from targets.errors import BadInput


class Model(NamedTuple):
    """One of the manifest's. `name`: its file, without the suffix."""

    name: str
    path: Path
    sha256: str
    precision: str


def read_models(folder: Path) -> list[Model]:
    """The manifest's. `BadInput` where a file is not what was packed."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files, models = manifest["files"], manifest["models"]
        found = [
            Model(name, folder / f"{name}.onnx", files[f"{name}.onnx"], models[name]["precision"]) for name in models
        ]
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise BadInput(
            f"{folder} is not a folder that cutback pack made: its manifest.json cannot be used."
        ) from failure
    for name in (*(model.path.name for model in found), "golden.npz"):
        if digest(folder / name) != files.get(name):
            raise BadInput(f"{folder / name} is missing or not what was packed. Copy the whole folder again.")
    return found


def read_golden(path: Path) -> dict[str, dict[str, Any]]:
    """`input`: the feeds; and by model's name what the host computed of them."""
    import numpy as np

    found: dict[str, dict[str, Any]] = {}
    with np.load(str(path), allow_pickle=False) as archive:
        for entry in archive.files:
            owner, _, name = entry.partition(":")
            found.setdefault(owner, {})[name] = archive[entry]
    return found


def digest(path: Path) -> str | None:
    """sha256; None where there is no such file."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                found.update(block)
    except OSError:
        return None
    return found.hexdigest()
